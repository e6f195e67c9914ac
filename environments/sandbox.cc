#include "environments/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "environments/step_limits.h"
#include "environments/text.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

// The driver's first reply (python_driver.py): status 2, no output.
constexpr char kHandshake[5] = {2, 0, 0, 0, 0};

// What bubblewrap or Python said before it died, for a person.
std::string ReadErrors(int fd) {
  char text[1000];
  const ssize_t size = read(fd, text, sizeof(text));
  if (size <= 0) return "it ended without a word";
  return TrimBlanks(SanitizeText(std::string(text, size), sizeof(text)));
}

// The next step for a start that failed with `what`.
std::string NextStep(const std::string& what) {
  const auto says = [&what](const char* word) {
    return what.find(word) != std::string::npos;
  };
  // Ubuntu's AppArmor makes the namespace and denies what is done in it.
  if (says("namespace") || says("uid map") || says("clone") ||
      says("RTM_NEWADDR")) {
    return "the kernel denies user namespaces: as root, sysctl "
           "kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000 "
           "(and kernel.apparmor_restrict_unprivileged_userns=0 where it "
           "exists), or in a container allow them";
  }
  if (says("setresuid") || says("setresgid") || says("setgroups")) {
    return "root here may not become another user: run as an ordinary user, or "
           "grant CAP_SETUID and CAP_SETGID and map uids 20000 to 24095";
  }
  if (says("personality")) {
    return "a container's system call filter denies personality"
           "(ADDR_NO_RANDOMIZE): run it with --security-opt seccomp=unconfined";
  }
  if (says("seccomp")) return "the kernel lacks seccomp filters";
  if (says("ount") || says("slave") || says("pivot_root")) {
    return "the kernel denies mounts in a user namespace: in a container allow "
           "them (--security-opt apparmor=unconfined, or CAP_SYS_ADMIN)";
  }
  return "run the same bwrap by hand to see more";
}

}  // namespace

Sandbox::Sandbox(SandboxPool* pool, uint32_t slot, int fd)
    : pool_(pool), slot_(slot), fd_(fd) {}

Sandbox::~Sandbox() {
  close(fd_);
  pool_->Release(slot_);
}

absl::Status Sandbox::WaitFor(short events, SteadyTime deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) {
      return absl::DeadlineExceededError("the sandbox took too long");
    }
    struct pollfd waiting = {fd_, events, 0};
    const int timeout =
        static_cast<int>(std::min<int64_t>(left.count(), 60'000));
    const int ready = poll(&waiting, 1, timeout);
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) {
      return absl::AbortedError(absl::StrCat("poll: ", strerror(errno)));
    }
  }
}

absl::Status Sandbox::Read(void* bytes, size_t size, SteadyTime deadline) {
  char* at = static_cast<char*>(bytes);
  while (size > 0) {
    RETURN_IF_ERROR(WaitFor(POLLIN, deadline));
    const ssize_t got = recv(fd_, at, size, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got <= 0) return absl::AbortedError("the sandboxed process is gone");
    at += got;
    size -= got;
  }
  return absl::OkStatus();
}

absl::Status Sandbox::Write(const void* bytes, size_t size,
                            SteadyTime deadline) {
  const char* at = static_cast<const char*>(bytes);
  while (size > 0) {
    RETURN_IF_ERROR(WaitFor(POLLOUT, deadline));
    const ssize_t put = send(fd_, at, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (put <= 0) return absl::AbortedError("the sandboxed process is gone");
    at += put;
    size -= put;
  }
  return absl::OkStatus();
}

SandboxPool::SandboxPool(SandboxSupervisor* supervisor)
    : supervisor_(supervisor) {
  for (uint32_t slot = supervisor->slots(); slot > 0; --slot) {
    free_slots_.push_back(slot - 1);
  }
}

SandboxPool::~SandboxPool() {
  std::list<Parked> last;  // ended without the lock, which Release takes
  MutexLock lock(&mutex_);
  last.swap(parked_);
  mutex_.Unlock();
  last.clear();
  mutex_.Lock();
}

absl::StatusOr<std::unique_ptr<SandboxPool>> SandboxPool::Create(
    SandboxSupervisor* supervisor) {
  std::unique_ptr<SandboxPool> pool(new SandboxPool(supervisor));
  const absl::StatusOr<std::unique_ptr<Sandbox>> first =
      pool->Start(std::chrono::steady_clock::now() + kSandboxStartMax);
  if (!first.ok()) {
    const std::string what(first.status().message());
    return absl::FailedPreconditionError(absl::StrCat(
        "no sandbox can start here: ", what, "; ", NextStep(what)));
  }
  return pool;
}

void SandboxPool::Serve() {
  for (Waiter* waiter : waiting_) {
    if (waiter->slot.has_value()) continue;
    if (!free_slots_.empty()) {
      waiter->slot = free_slots_.back();
      free_slots_.pop_back();
    } else if (!waiter->ending && !parked_.empty()) {
      waiter->to_end = std::move(parked_.front().sandbox);
      waiter->ending = true;
      parked_.pop_front();
    }
  }
  served_.NotifyAll();
}

absl::StatusOr<uint32_t> SandboxPool::TakeSlot(SteadyTime deadline) {
  Waiter self;
  mutex_.Lock();
  const auto place = waiting_.insert(waiting_.end(), &self);
  Serve();
  for (;;) {
    if (std::unique_ptr<Sandbox> to_end = std::move(self.to_end)) {
      mutex_.Unlock();
      to_end.reset();  // Release takes the lock, and serves
      mutex_.Lock();
      self.ending = false;
      Serve();  // its slot may have been lost
      continue;
    }
    const auto left = std::chrono::duration_cast<std::chrono::microseconds>(
        deadline - std::chrono::steady_clock::now());
    if (self.slot.has_value() || left.count() <= 0) break;
    served_.WaitFor(&mutex_, left);
  }
  waiting_.erase(place);
  mutex_.Unlock();
  if (self.slot.has_value()) return *self.slot;
  return absl::UnavailableError(
      absl::StrCat("no sandbox slot came free in time; all ",
                   supervisor_->slots(), " are running code"));
}

void SandboxPool::Release(uint32_t slot) {
  const absl::Status killed = supervisor_->Kill(slot);
  if (!killed.ok()) {
    LOG(ERROR) << "sandbox slot " << slot
               << " is lost: " << std::string(killed.message());
    return;
  }
  MutexLock lock(&mutex_);
  free_slots_.push_back(slot);
  Serve();
}

absl::StatusOr<std::unique_ptr<Sandbox>> SandboxPool::Start(
    SteadyTime deadline) {
  ASSIGN_OR_RETURN(const uint32_t slot, TakeSlot(deadline));
  int session[2];
  int errors[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, session) != 0) {
    Release(slot);
    return absl::UnavailableError(
        absl::StrCat("socketpair: ", strerror(errno)));
  }
  // From here on the destructor ends the processes and frees the slot.
  std::unique_ptr<Sandbox> sandbox(new Sandbox(this, slot, session[0]));
  if (pipe2(errors, O_CLOEXEC | O_NONBLOCK) != 0) {
    close(session[1]);
    return absl::UnavailableError(absl::StrCat("pipe: ", strerror(errno)));
  }
  absl::Status started = supervisor_->Launch(slot, session[1], errors[1]);
  close(session[1]);
  close(errors[1]);
  if (started.ok()) {
    char first[sizeof(kHandshake)];
    started = sandbox->Read(first, sizeof(first),
                            std::chrono::steady_clock::now() +
                                kSandboxStartMax);
    if (started.ok() && memcmp(first, kHandshake, sizeof(first)) != 0) {
      started = absl::AbortedError("not the driver's handshake");
    }
    if (!started.ok()) {
      started = absl::UnavailableError(absl::StrCat(
          "the sandbox did not start: ", std::string(started.message()), " (",
          ReadErrors(errors[0]), ")"));
    }
  }
  close(errors[0]);
  if (!started.ok()) return started;
  return sandbox;
}

uint64_t SandboxPool::Park(std::unique_ptr<Sandbox> sandbox) {
  CHECK(sandbox != nullptr);
  MutexLock lock(&mutex_);
  parked_.push_back({next_ticket_, std::move(sandbox)});
  Serve();
  return next_ticket_++;
}

std::unique_ptr<Sandbox> SandboxPool::Unpark(uint64_t ticket) {
  MutexLock lock(&mutex_);
  for (auto it = parked_.begin(); it != parked_.end(); ++it) {
    if (it->ticket != ticket) continue;
    std::unique_ptr<Sandbox> sandbox = std::move(it->sandbox);
    parked_.erase(it);
    return sandbox;
  }
  return nullptr;
}

size_t SandboxPool::waiting() {
  MutexLock lock(&mutex_);
  return waiting_.size();
}

}  // namespace temper
