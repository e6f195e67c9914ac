#include "environments/slot_keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "environments/sandbox_freeze.h"

namespace temper {
namespace {

// Of an honest driver, which has killed its children before it replied.
constexpr std::chrono::milliseconds kFreezeMax(250);
// Of a zygote, where what killed a session killed it too.
constexpr int kZygoteEndMillisMax = 100;
constexpr int64_t kPollMillisMax = 60'000;
constexpr char kFork = 'f';  // to the zygote (python_driver.py)

int64_t MonotonicMillis() {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGCHLD);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

// Of a process that ended and that its parent has not reaped: 128 and the
// signal's number, if one did it.
int ExitCodeOf(pid_t pid) {
  std::ifstream in(absl::StrCat("/proc/", pid, "/stat"));
  std::string text;
  std::getline(in, text);
  // The last field is the wait status.
  const int status = atoi(text.c_str() + text.rfind(' ') + 1);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// Sends one datagram with `count` descriptors.
bool SendFds(int socket, char byte, const int* fds, size_t count) {
  struct iovec data = {&byte, 1};
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(SessionFds))] = {};
  struct msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = CMSG_SPACE(count * sizeof(int));
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(count * sizeof(int));
  memcpy(CMSG_DATA(header), fds, count * sizeof(int));
  return sendmsg(socket, &message, MSG_NOSIGNAL) == 1;
}

// What a group of a session that ended may be charged with (what was read of
// the system's files) and serve the next: to make one anew costs a tenth of a
// session.
constexpr int64_t kLeftBytesMax = 1 << 20;

// pid 0: none.
struct Driver {
  pid_t pid = 0;
  int pidfd = -1;  // `pid` may be another process's once this says it ended
};

class SlotKeeper {
 public:
  SlotKeeper(const SlotKeeperOptions& options, int control)
      : options_(options),
        control_(control),
        zygote_cgroup_(options.cgroups),
        session_cgroup_(options.cgroups) {}

  // Forks what becomes the zygote, and has it fork the first driver.
  void Launch(int errors, int status);
  // Serves the owner; returns when all is to be ended.
  void Serve(const sigset_t& signals);
  // Ends, and reaps, all that was started.
  void EndAll();

 private:
  // Each of these is false if something went otherwise than it should.
  bool HearOwner();
  bool HearZygote();
  bool TakeDriver(pid_t pid);
  bool BeginSession();
  bool EndSession();
  bool OrderDriver() { return write(orders_, &kFork, 1) == 1; }

  bool Reply(KeeperReply::Kind kind, int exit_code, const std::string& text,
             uint32_t limits_hit = 0);
  uint32_t LimitsHit() const;
  bool Freeze();
  bool Thaw();
  // Whether the session ended, with `exit_code`, because all of its zygote did.
  bool EndedWithZygote(int exit_code) const;
  // Tells the owner once that the session ended by itself.
  bool TellEnd();
  static void Kill(const Driver& driver);
  static void Forget(Driver* driver);
  void CloseWanted();

  const SlotKeeperOptions& options_;
  const int control_;
  int orders_ = -1;  // write end of the zygote's stdin
  int keep_ = -1;    // ours of its socket
  pid_t bwrap_ = 0;
  Cgroup zygote_cgroup_;   // so that no candidate's memory hits the zygote
  Cgroup session_cgroup_;  // of the driver that is to come, or has come
  CgroupEvents events_;    // of it, of sessions before

  Driver spare_;           // ready, no session yet
  Driver session_;         // has one
  bool told_end_ = false;  // that it ended, to the owner
  bool frozen_ = false;
  int64_t millis_left_ = 0;  // of the session, while it is not frozen
  uint32_t sessions_ = 0;
  // A session that waits for a driver.
  bool wanted_ = false;
  SessionFds wanted_fds_;
};

void SlotKeeper::Launch(int errors, int status) {
  const absl::Status made = zygote_cgroup_.Create(
      absl::StrCat(options_.slot, "_z"), options_.limits.processes_max,
      options_.limits.memory_bytes_max);
  if (!made.ok()) {
    errno = 0;
    FailLaunch(status, std::string(made.message()));
  }
  int orders[2], keep[2];
  const int one = 1;
  if (pipe2(orders, O_CLOEXEC) != 0 ||
      socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, keep) != 0 ||
      setsockopt(keep[0], SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) != 0) {
    zygote_cgroup_.Remove();
    FailLaunch(status, "the zygote's descriptors");
  }
  orders_ = orders[1];
  keep_ = keep[0];
  const pid_t self = getpid();
  bwrap_ = fork();
  if (bwrap_ == 0) {
    BecomeZygote(options_.zygote, zygote_cgroup_, self,
                 {orders[0], errors, keep[1]}, status);
  }
  if (bwrap_ < 0) {
    const int error = errno;
    zygote_cgroup_.Remove();
    errno = error;
    FailLaunch(status, "fork");
  }
  close(orders[0]);
  close(keep[1]);
  (void)OrderDriver();  // if it is gone already, its end tells
}

bool SlotKeeper::Reply(KeeperReply::Kind kind, int exit_code,
                       const std::string& text, uint32_t limits_hit) {
  KeeperReply reply = {};
  reply.kind = kind;
  reply.exit_code = exit_code;
  reply.limits_hit = limits_hit;
  snprintf(reply.text, sizeof(reply.text), "%s", text.c_str());
  // Its queue holds more than an owner can have unread.
  return send(control_, &reply, sizeof(reply), MSG_NOSIGNAL | MSG_DONTWAIT) ==
         sizeof(reply);
}

void SlotKeeper::CloseWanted() {
  for (const int fd : {wanted_fds_.session, wanted_fds_.output}) {
    if (fd >= 0) close(fd);
  }
  wanted_fds_ = SessionFds();
  wanted_ = false;
}

bool SlotKeeper::TakeDriver(pid_t pid) {
  if (spare_.pid != 0 || pid <= 0) return false;
  spare_.pid = pid;
  spare_.pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  absl::Status in;
  if (session_cgroup_.HeldBytes() > kLeftBytesMax) session_cgroup_.Remove();
  if (session_cgroup_.paths().empty()) {
    in = session_cgroup_.Create(absl::StrCat(options_.slot),
                                options_.limits.processes_max,
                                options_.limits.memory_bytes_max);
  }
  if (in.ok() && (spare_.pidfd < 0 || !session_cgroup_.Add(pid))) {
    in = absl::UnavailableError(
        absl::StrCat("taking a driver: ", strerror(errno)));
  }
  if (!in.ok()) {
    if (wanted_) Reply(KeeperReply::kRefused, 0, std::string(in.message()));
    return false;
  }
  events_ = session_cgroup_.Events();
  return !wanted_ || BeginSession();
}

uint32_t SlotKeeper::LimitsHit() const {
  const CgroupEvents now = session_cgroup_.Events();
  uint32_t hit = 0;
  if (now.memory_kills > events_.memory_kills) hit |= kMemoryLimit;
  if (now.forks_refused > events_.forks_refused) hit |= kProcessesLimit;
  return hit;
}

bool SlotKeeper::BeginSession() {
  const int fds[] = {wanted_fds_.session, wanted_fds_.output};
  const bool sent = SendFds(keep_, kStart, fds, 2);
  CloseWanted();
  if (!sent) return false;
  session_ = spare_;
  spare_ = Driver();
  told_end_ = frozen_ = false;
  millis_left_ = 1000ll * options_.limits.life_seconds_max;
  ++sessions_;
  return Reply(KeeperReply::kDone, 0, "");
}

void SlotKeeper::Kill(const Driver& driver) {
  // And with it everything else in its pid namespace.
  if (driver.pidfd >= 0) {
    syscall(SYS_pidfd_send_signal, driver.pidfd, SIGKILL, nullptr, 0);
  }
}

void SlotKeeper::Forget(Driver* driver) {
  if (driver->pidfd >= 0) close(driver->pidfd);
  *driver = Driver();
}

bool SlotKeeper::EndSession() {
  if (session_.pid == 0) return Reply(KeeperReply::kDone, 0, "");
  Kill(session_);
  // A driver ends as the last of its namespace.
  struct pollfd ended = {session_.pidfd, POLLIN, 0};
  const int64_t end = MonotonicMillis() + options_.end_max_millis;
  for (;;) {
    const int64_t left = end - MonotonicMillis();
    if (left <= 0) return false;
    const int ready = poll(&ended, 1, static_cast<int>(left));
    if (ready > 0) break;
    if (ready < 0 && errno != EINTR) return false;
  }
  Forget(&session_);
  // One ahead, but never beside a candidate's code, which it would count
  // against: they have one uid.
  const bool again = sessions_ < options_.sessions_max && OrderDriver();
  return Reply(KeeperReply::kDone, 0, "", LimitsHit()) && again;
}

bool SlotKeeper::Freeze() {
  if (session_.pid == 0 || frozen_) return false;
  frozen_ = FreezeDriver(session_.pid, session_cgroup_, kFreezeMax);
  return frozen_;
}

bool SlotKeeper::Thaw() {
  return std::exchange(frozen_, false) && ThawDriver(session_.pid);
}

bool SlotKeeper::HearOwner() {
  char request;
  struct iovec data = {&request, 1};
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(SessionFds))];
  struct msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t size =
      recvmsg(control_, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (size <= 0) return false;  // it let go
  const auto answer = [this](bool done) {
    return Reply(done ? KeeperReply::kDone : KeeperReply::kRefused, 0, "");
  };
  if (request == kEnd) return EndSession();
  if (request == kFreeze) return answer(Freeze());
  if (request == kThaw) return answer(Thaw());
  const struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS ||
      header->cmsg_len != CMSG_LEN(sizeof(SessionFds))) {
    return answer(false);
  }
  memcpy(&wanted_fds_, CMSG_DATA(header), sizeof(SessionFds));
  wanted_ = session_.pid == 0;
  if (!wanted_) {
    CloseWanted();
    return answer(false);
  }
  return spare_.pid == 0 || BeginSession();
}

bool SlotKeeper::EndedWithZygote(int exit_code) const {
  // In its own namespace nobody can send it this one.
  const bool killed = exit_code == 128 + SIGKILL && LimitsHit() == 0;
  // Once a session stands the zygote alone holds the other end.
  struct pollfd zygote = {keep_, 0, 0};
  return poll(&zygote, 1, killed ? kZygoteEndMillisMax : 0) > 0;
}

bool SlotKeeper::TellEnd() {
  told_end_ = true;
  const int exit_code = ExitCodeOf(session_.pid);
  return !EndedWithZygote(exit_code) &&
         Reply(KeeperReply::kEnded, exit_code, "");
}

bool SlotKeeper::HearZygote() {
  char text[256] = {};
  struct iovec data = {text, sizeof(text) - 1};
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct ucred))];
  struct msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t size =
      recvmsg(keep_, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (size <= 0) return false;
  const struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_CREDENTIALS) return false;
  struct ucred sender;
  memcpy(&sender, CMSG_DATA(header), sizeof(sender));
  if (text[0] == 'r') return TakeDriver(sender.pid);
  if (wanted_) Reply(KeeperReply::kRefused, 0, text + 1);
  return false;
}

void SlotKeeper::Serve(const sigset_t& signals) {
  const int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signal_fd < 0) return;
  for (;;) {
    const bool ticks = session_.pid != 0 && !frozen_;
    struct pollfd events[] = {{signal_fd, POLLIN, 0},
                              {keep_, POLLIN, 0},
                              {control_, POLLIN, 0},
                              {told_end_ ? -1 : session_.pidfd, POLLIN, 0},
                              {spare_.pidfd, POLLIN, 0}};
    const int64_t begin = MonotonicMillis();
    poll(events, 5,
         static_cast<int>(ticks ? std::min(millis_left_, kPollMillisMax)
                                : kPollMillisMax));
    if (ticks) {
      millis_left_ -= MonotonicMillis() - begin;
      // Its end is told as any other's.
      if (millis_left_ <= 0) Kill(session_);
      millis_left_ = std::max<int64_t>(millis_left_, 100);
    }
    struct signalfd_siginfo info;
    while (read(signal_fd, &info, sizeof(info)) == sizeof(info)) {
      if (info.ssi_signo == SIGTERM) return;
    }
    for (pid_t pid; (pid = waitpid(-1, nullptr, WNOHANG)) > 0;) {
      if (pid == bwrap_) return;  // and with it the zygote
    }
    if (events[1].revents != 0 && !HearZygote()) return;
    if (events[3].revents != 0 && session_.pid != 0 && !TellEnd()) return;
    // Nobody would hear of its session.
    if (events[4].revents != 0 && spare_.pid != 0) return;
    if (events[2].revents != 0 && !HearOwner()) return;
  }
}

void SlotKeeper::EndAll() {
  Kill(session_);
  Kill(spare_);
  zygote_cgroup_.Kill();
  kill(bwrap_, SIGKILL);
  // As a subreaper it has all of them in the end; what is left after ECHILD has
  // no process.
  while (waitpid(-1, nullptr, 0) > 0 || errno == EINTR) {
  }
  Forget(&session_);
  Forget(&spare_);
  session_cgroup_.Remove();
  zygote_cgroup_.Remove();
}

}  // namespace

void RunSlotKeeper(const SlotKeeperOptions& options, pid_t parent,
                   const SandboxFds& fds, int status) {
  const sigset_t signals = BlockSignals();
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  if (getppid() != parent) _exit(1);
  SlotKeeper keeper(options, fds.control);
  keeper.Launch(fds.errors, status);
  close(fds.errors);
  close(status);
  keeper.Serve(signals);
  keeper.EndAll();
  _exit(0);
}

}  // namespace temper
