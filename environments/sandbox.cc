#include "environments/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
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
// How often sandboxes that did not end in time are looked at again, where
// somebody waits for a slot.
constexpr std::chrono::microseconds kCollectEvery(200'000);

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

Sandbox::Sandbox(SandboxPool* pool, uint32_t slot) : pool_(pool), slot_(slot) {}

Sandbox::~Sandbox() {
  for (int fd : {fd_, output_, control_}) {
    if (fd >= 0) close(fd);
  }
  pool_->Release(slot_);
}

absl::Status Sandbox::WaitFor(int fd, short events, SteadyTime deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) {
      return absl::DeadlineExceededError("the sandbox took too long");
    }
    struct pollfd waiting = {fd, events, 0};
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
    RETURN_IF_ERROR(WaitFor(fd_, POLLIN, deadline));
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
    RETURN_IF_ERROR(WaitFor(fd_, POLLOUT, deadline));
    const ssize_t put = send(fd_, at, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (put <= 0) return absl::AbortedError("the sandboxed process is gone");
    at += put;
    size -= put;
  }
  return absl::OkStatus();
}

std::string Sandbox::TakeOutput(size_t bytes_max) {
  std::string output(bytes_max, '\0');
  size_t size = 0;
  while (size < bytes_max) {
    const ssize_t got = pread(output_, output.data() + size, bytes_max - size,
                              static_cast<off_t>(size));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    size += got;
  }
  output.resize(size);
  if (ftruncate(output_, 0) != 0) {
    LOG(WARNING) << "a sandbox's output is not cleared: " << strerror(errno);
  }
  lseek(output_, 0, SEEK_SET);  // the writer shares the offset
  return output;
}

std::optional<KeeperReply> Sandbox::HearKeeper(SteadyTime deadline) {
  KeeperReply reply;
  for (;;) {
    if (!WaitFor(control_, POLLIN, deadline).ok()) return std::nullopt;
    const ssize_t size = recv(control_, &reply, sizeof(reply), MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (size != sizeof(reply)) return std::nullopt;
    if (reply.kind == KeeperReply::kEnded) exit_code_ = reply.exit_code;
    return reply;
  }
}

bool Sandbox::AskKeeper(KeeperRequest request) {
  const char byte = request;
  if (send(control_, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) != 1) return false;
  const auto reply =
      HearKeeper(std::chrono::steady_clock::now() + kSandboxAskMax);
  return reply.has_value() && reply->kind == KeeperReply::kDone;
}

bool Sandbox::Freeze() { return AskKeeper(kFreeze); }

bool Sandbox::Thaw() { return AskKeeper(kThaw); }

int Sandbox::ExitCode() {
  const SteadyTime deadline = std::chrono::steady_clock::now() + kSandboxAskMax;
  while (exit_code_ < 0 && HearKeeper(deadline).has_value()) {
  }
  return exit_code_;
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
    served_.WaitFor(&mutex_, std::min(left, kCollectEvery));
    if (!self.slot.has_value() && self.to_end == nullptr) CollectEnded();
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
  MutexLock lock(&mutex_);
  if (killed.ok()) {
    free_slots_.push_back(slot);
    Serve();
    return;
  }
  LOG(ERROR) << "sandbox slot " << slot
             << " is not free yet: " << std::string(killed.message());
  unended_.push_back(slot);
  if (unended_.size() == supervisor_->slots()) {
    all_unended_since_ = std::chrono::steady_clock::now();
  }
}

void SandboxPool::CollectEnded() {
  // One at a time: a slot may be launched again as soon as it is free.
  if (collecting_) return;
  collecting_ = true;
  const std::vector<uint32_t> told = unended_;
  for (const uint32_t slot : told) {
    mutex_.Unlock();
    const bool ended = supervisor_->Ended(slot);
    mutex_.Lock();
    if (!ended) continue;
    std::erase(unended_, slot);
    all_unended_since_.reset();
    free_slots_.push_back(slot);
    Serve();
  }
  collecting_ = false;
}

bool SandboxPool::lost() {
  if (supervisor_->lost()) return true;
  MutexLock lock(&mutex_);
  return all_unended_since_.has_value() &&
         std::chrono::steady_clock::now() - *all_unended_since_ >
             kLostFactor * supervisor_->sandbox_end_max();
}

absl::StatusOr<std::unique_ptr<Sandbox>> SandboxPool::Start(
    SteadyTime deadline) {
  ASSIGN_OR_RETURN(const uint32_t slot, TakeSlot(deadline));
  // From here on the destructor ends the processes and frees the slot.
  std::unique_ptr<Sandbox> sandbox(new Sandbox(this, slot));
  int session[2] = {-1, -1};
  int control[2] = {-1, -1};
  int errors[2] = {-1, -1};
  sandbox->output_ = memfd_create("output", MFD_CLOEXEC);
  if (sandbox->output_ < 0 ||
      socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, session) != 0 ||
      socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) != 0 ||
      pipe2(errors, O_CLOEXEC | O_NONBLOCK) != 0) {
    const absl::Status status = absl::UnavailableError(
        absl::StrCat("the descriptors of a sandbox: ", strerror(errno)));
    for (int fd : {session[0], session[1], control[0], control[1]}) {
      if (fd >= 0) close(fd);
    }
    return status;
  }
  sandbox->fd_ = session[0];
  sandbox->control_ = control[0];
  absl::Status started = supervisor_->Launch(
      slot, {session[1], sandbox->output_, errors[1], control[1]});
  close(session[1]);
  close(control[1]);
  close(errors[1]);
  if (started.ok()) {
    char first[sizeof(kHandshake)];
    started =
        sandbox->Read(first, sizeof(first),
                      std::chrono::steady_clock::now() + kSandboxStartMax);
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
  if (!sandbox->Freeze()) sandbox.reset();
  MutexLock lock(&mutex_);
  if (sandbox != nullptr) {
    parked_.push_back({next_ticket_, std::move(sandbox)});
    Serve();
  }
  return next_ticket_++;
}

std::unique_ptr<Sandbox> SandboxPool::Unpark(uint64_t ticket) {
  std::unique_ptr<Sandbox> sandbox;
  {
    MutexLock lock(&mutex_);
    for (auto it = parked_.begin(); it != parked_.end(); ++it) {
      if (it->ticket != ticket) continue;
      sandbox = std::move(it->sandbox);
      parked_.erase(it);
      break;
    }
  }
  // One that died while it was frozen is lost like one that gave way.
  if (sandbox != nullptr && !sandbox->Thaw()) sandbox.reset();
  return sandbox;
}

size_t SandboxPool::waiting() {
  MutexLock lock(&mutex_);
  return waiting_.size();
}

}  // namespace temper
