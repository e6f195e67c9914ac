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
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

// The driver's first reply (python_driver.py): status 2, no output.
constexpr char kHandshake[5] = {2, 0, 0, 0, 0};
// How often sandboxes that did not end in time are looked at again, where
// somebody waits for a slot.
constexpr std::chrono::microseconds kCollectEvery(200'000);

// The next step for a start that failed with `what`.
std::string NextStep(const std::string& what) {
  const auto says = [&what](const char* word) {
    return what.find(word) != std::string::npos;
  };
  // Ubuntu's AppArmor makes the namespace and denies what is done in it.
  if (says("namespace") || says("uid map") || says("clone") ||
      says("unshare") || says("RTM_NEWADDR")) {
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
  for (int fd : {fd_, output_}) {
    if (fd >= 0) close(fd);
  }
  if (holds_slot_) pool_->Release(slot_);
}

absl::Status Sandbox::Read(void* bytes, size_t size, SteadyTime deadline) {
  char* at = static_cast<char*>(bytes);
  while (size > 0) {
    RETURN_IF_ERROR(WaitForFd(fd_, POLLIN, deadline));
    const ssize_t got = recv(fd_, at, size, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got <= 0) return Gone();
    at += got;
    size -= got;
  }
  return absl::OkStatus();
}

absl::Status Sandbox::Write(const void* bytes, size_t size,
                            SteadyTime deadline) {
  const char* at = static_cast<const char*>(bytes);
  while (size > 0) {
    RETURN_IF_ERROR(WaitForFd(fd_, POLLOUT, deadline));
    const ssize_t put = send(fd_, at, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (put <= 0) return Gone();
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
  // Else the next cell's output would begin behind a hole of the last one's
  // size.
  lseek(output_, 0, SEEK_SET);  // the writer shares the offset
  return output;
}

bool Sandbox::Freeze() {
  const auto reply = pool_->keepers_[slot_].Ask(
      kFreeze, nullptr, std::chrono::steady_clock::now() + kSandboxAskMax,
      &exit_code_);
  return reply.has_value() && reply->kind == KeeperReply::kDone;
}

bool Sandbox::Thaw() {
  const auto reply = pool_->keepers_[slot_].Ask(
      kThaw, nullptr, std::chrono::steady_clock::now() + kSandboxAskMax,
      &exit_code_);
  return reply.has_value() && reply->kind == KeeperReply::kDone;
}

void Sandbox::End() {
  if (!ended_) ended_ = pool_->EndSession(slot_, &limits_hit_).ok();
}

absl::Status Sandbox::Gone() {
  (void)ExitCode();
  if (pool_->keepers_[slot_].is_open()) {
    return absl::AbortedError("the sandboxed process is gone");
  }
  return absl::UnavailableError("a sandbox's keeper, or its zygote, is gone");
}

int Sandbox::ExitCode() {
  if (std::exchange(asked_exit_code_, true)) return exit_code_;
  const SteadyTime deadline = std::chrono::steady_clock::now() + kSandboxAskMax;
  while (exit_code_ < 0) {
    const auto reply = pool_->keepers_[slot_].Hear(deadline);
    if (!reply.has_value()) break;
    if (reply->kind == KeeperReply::kEnded) exit_code_ = reply->exit_code;
  }
  return exit_code_;
}

SandboxPool::SandboxPool(SandboxSupervisor* supervisor)
    : supervisor_(supervisor), keepers_(supervisor->slots()) {
  for (uint32_t slot = supervisor->slots(); slot > 0; --slot) {
    free_slots_.push_back(slot - 1);
  }
}

SandboxPool::~SandboxPool() {
  std::list<Parked> last;  // ended without the lock, which Release takes
  {
    MutexLock lock(&mutex_);
    last.swap(parked_);
  }
  last.clear();
  // All at once, then one by one: they end side by side.
  std::vector<uint32_t> kept;
  for (uint32_t slot = 0; slot < keepers_.size(); ++slot) {
    if (!keepers_[slot].is_open()) continue;
    keepers_[slot].Close();
    kept.push_back(slot);
  }
  for (const uint32_t slot : kept) {
    if (const absl::Status ended = supervisor_->Kill(slot); !ended.ok()) {
      LOG(WARNING) << std::string(ended.message());
    }
  }
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
    // Nobody tells when a sandbox that was late to end has ended: look.
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

absl::Status SandboxPool::EndSession(uint32_t slot, uint32_t* limits_hit) {
  int exit_code;
  // Half of the time, for the supervisor to have the other half.
  const auto ended = keepers_[slot].Ask(
      kEnd, nullptr,
      std::chrono::steady_clock::now() + supervisor_->sandbox_end_max() / 2,
      &exit_code);
  if (ended.has_value() && ended->kind == KeeperReply::kDone) {
    *limits_hit |= ended->limits_hit;
    return absl::OkStatus();
  }
  keepers_[slot].Close();
  return supervisor_->Kill(slot);
}

void SandboxPool::Release(uint32_t slot) {
  uint32_t nobodys = 0;
  const absl::Status killed = EndSession(slot, &nobodys);
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

absl::Status SandboxPool::Launch(uint32_t slot) {
  ASSIGN_OR_RETURN(const SandboxFds fds, keepers_[slot].Open());
  const absl::Status launched = supervisor_->Launch(slot, fds);
  for (const int fd : {fds.errors, fds.control}) close(fd);
  if (!launched.ok()) keepers_[slot].Close();
  return launched;
}

absl::Status SandboxPool::StartSession(uint32_t slot, SteadyTime deadline,
                                       Sandbox* sandbox) {
  int session[2] = {-1, -1};
  sandbox->output_ = memfd_create("output", MFD_CLOEXEC);
  if (sandbox->output_ < 0 ||
      socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, session) != 0) {
    return absl::UnavailableError(
        absl::StrCat("the descriptors of a sandbox: ", strerror(errno)));
  }
  sandbox->fd_ = session[0];
  const SessionFds fds = {session[1], sandbox->output_};
  const auto reply =
      keepers_[slot].Ask(kStart, &fds, deadline, &sandbox->exit_code_);
  close(session[1]);
  absl::Status started;
  if (!reply.has_value()) {
    started = absl::AbortedError("it ended, or gave no answer");
  } else if (reply->kind != KeeperReply::kDone) {
    started = absl::AbortedError(reply->text);
  } else {
    char first[sizeof(kHandshake)];
    started = sandbox->Read(first, sizeof(first), deadline);
    if (started.ok() && memcmp(first, kHandshake, sizeof(first)) != 0) {
      started = absl::AbortedError("not the driver's handshake");
    }
  }
  if (started.ok()) return started;
  return absl::UnavailableError(absl::StrCat("the sandbox did not start: ",
                                             std::string(started.message())));
}

absl::StatusOr<std::unique_ptr<Sandbox>> SandboxPool::Start(
    SteadyTime deadline) {
  ASSIGN_OR_RETURN(const uint32_t slot, TakeSlot(deadline));
  return StartIn(slot);
}

absl::StatusOr<std::unique_ptr<Sandbox>> SandboxPool::Renew(
    std::unique_ptr<Sandbox> used, SteadyTime deadline) {
  CHECK(used != nullptr);
  used->End();
  if (used->ended_) {
    used->holds_slot_ = false;
    return StartIn(used->slot_);
  }
  used.reset();
  return Start(deadline);
}

absl::StatusOr<std::unique_ptr<Sandbox>> SandboxPool::StartIn(uint32_t slot) {
  // From here on the destructor ends the session and frees the slot.
  std::unique_ptr<Sandbox> sandbox(new Sandbox(this, slot));
  const SteadyTime begin = std::chrono::steady_clock::now();
  // A keeper whose zygote is used up, or came to harm while it waited, is no
  // failure of the session's: a new one has its turn, within the same limit.
  if (keepers_[slot].is_open()) {
    if (StartSession(slot, begin + kSandboxStartMax / 4, sandbox.get()).ok()) {
      return sandbox;
    }
    keepers_[slot].Close();
    RETURN_IF_ERROR(supervisor_->Kill(slot));
    for (int* const fd : {&sandbox->fd_, &sandbox->output_}) {
      if (*fd >= 0) close(*fd);
      *fd = -1;
    }
    sandbox->exit_code_ = -1;
    sandbox->asked_exit_code_ = false;
  }
  RETURN_IF_ERROR(Launch(slot));
  const absl::Status started =
      StartSession(slot, begin + kSandboxStartMax, sandbox.get());
  // In any case: nobody reads it any more once a session stands.
  const std::string said = keepers_[slot].TakeErrors();
  if (started.ok()) return sandbox;
  return absl::UnavailableError(
      absl::StrCat(std::string(started.message()), " (", said, ")"));
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
