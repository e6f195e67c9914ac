#include "environments/sandbox_helper.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "environments/cgroup.h"
#include "environments/python_driver.h"
#include "environments/sandbox_freeze.h"
#include "environments/sandbox_keeper.h"

namespace temper {
namespace {

constexpr uid_t kUidFirst = 20000;
constexpr uid_t kUidLast = 24095;
constexpr int kFdArgs = 3;
constexpr int kFdSeccomp = 4;
// Of an honest driver, which has killed its children before it replied.
constexpr std::chrono::milliseconds kFreezeMax(250);
constexpr int64_t kPollMillisMax = 60'000;

struct Helper {
  SandboxHelperOptions options;
  CgroupHierarchy cgroups;
  SandboxLimits each;  // of a process
  std::string script;  // Python source
  int seccomp_fd = -1;
  std::vector<uid_t> uids;  // of each slot; empty: our own
  std::vector<int> uid_claims;
  std::map<uint32_t, pid_t> keepers;
};

int64_t MonotonicMillis() {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// Waits for one of the blocked `signals`; 0 when `millis` have passed.
int WaitSignal(const sigset_t& signals, int64_t millis) {
  const struct timespec timeout = {millis / 1000, (millis % 1000) * 1000000};
  const int signal = sigtimedwait(&signals, nullptr, &timeout);
  return signal < 0 ? 0 : signal;
}

sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGCHLD);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

// Two supervisors must not share a uid, whose process limit is common: a name
// in the abstract socket namespace is held while this process lives.
bool ClaimUid(uid_t uid, Helper* helper) {
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const int length =
      snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1,
               "temper-sandbox-uid-%u", uid);
  const socklen_t size = static_cast<socklen_t>(
      offsetof(struct sockaddr_un, sun_path) + 1 + length);
  if (fd < 0 ||
      bind(fd, reinterpret_cast<struct sockaddr*>(&address), size) != 0) {
    if (fd >= 0) close(fd);
    return false;
  }
  helper->uid_claims.push_back(fd);
  helper->uids.push_back(uid);
  return true;
}

// Whether `uid` exists in our user namespace: root of a namespace of its own
// with a single uid is an ordinary user to the kernel, and is served as one.
bool IsMapped(uid_t uid) {
  std::ifstream map("/proc/self/uid_map");
  uint64_t first, outside, count;
  while (map >> first >> outside >> count) {
    if (uid >= first && uid - first < count) return true;
  }
  return false;
}

[[noreturn]] void Die(int status_fd, const std::string& what) {
  const std::string text = absl::StrCat(what, ": ", strerror(errno));
  if (write(status_fd, text.data(), text.size()) < 0) _exit(126);
  _exit(127);
}

void DropTo(uid_t uid, int status_fd) {
  if (setgroups(0, nullptr) != 0) Die(status_fd, "setgroups(0)");
  if (setresgid(uid, uid, uid) != 0) {
    Die(status_fd, absl::StrCat("setresgid(", uid, ")"));
  }
  if (setresuid(uid, uid, uid) != 0) {
    Die(status_fd, absl::StrCat("setresuid(", uid, ")"));
  }
}

// Becomes bubblewrap. Descriptors: 0 session, 1 output, 2 errors, 3 and 4
// bwrap's.
[[noreturn]] void BecomeSandbox(const Helper& helper, uint32_t slot,
                                const Cgroup& cgroup, pid_t keeper,
                                const SandboxFds& fds, int status) {
  const BwrapCommand command = MakeBwrapCommand(
      helper.each, helper.options.python, helper.script, kFdArgs, kFdSeccomp);
  const int args = memfd_create("args", MFD_CLOEXEC);
  if (args < 0 || write(args, command.options.data(), command.options.size()) !=
                      static_cast<ssize_t>(command.options.size())) {
    Die(status, "writing bwrap's options");
  }
  lseek(args, 0, SEEK_SET);
  // The filter's offset would be shared with other launches: copy it.
  const int filter = memfd_create("filter", MFD_CLOEXEC);
  char program[16384];
  const ssize_t size = pread(helper.seccomp_fd, program, sizeof(program), 0);
  if (filter < 0 || size <= 0 || write(filter, program, size) != size) {
    Die(status, "copying the system call filter");
  }
  lseek(filter, 0, SEEK_SET);
  if (!cgroup.Enter()) Die(status, "entering the cgroup");
  if (const char* limit = ApplyRlimits(helper.each)) {
    Die(status, limit);
  }
  if (!helper.uids.empty()) DropTo(helper.uids[slot], status);
  // Addresses show in what Python prints; the same code should print the same.
  if (personality(ADDR_NO_RANDOMIZE) < 0) Die(status, "personality");
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != keeper) _exit(127);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) Die(status, "no_new_privs");
  // Out of the way of 0 to 4 first.
  const int sources[] = {fds.session, fds.output, fds.errors, args, filter};
  int high[5];
  for (int i = 0; i < 5; ++i) {
    high[i] = fcntl(sources[i], F_DUPFD_CLOEXEC, 16);
  }
  const int status_high = fcntl(status, F_DUPFD_CLOEXEC, 16);
  for (int i = 0; i < 5; ++i) dup2(high[i], i);
  close_range(5, ~0u, CLOSE_RANGE_CLOEXEC);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  std::vector<char*> argv;
  for (const std::string& word : command.argv) {
    argv.push_back(const_cast<char*>(word.c_str()));
  }
  argv.push_back(nullptr);
  char* const no_environment[] = {nullptr};
  execve(helper.options.bwrap.c_str(), argv.data(), no_environment);
  Die(status_high, helper.options.bwrap);
}

// Reaps to ECHILD; what is left then has no process.
void ReapAll() {
  while (waitpid(-1, nullptr, 0) > 0 || errno == EINTR) {
  }
}

int ExitCodeOf(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// A sandbox while it is kept.
struct Kept {
  pid_t bwrap = 0;
  bool reaped = false;
  int exit_code = 0;    // if reaped
  pid_t frozen = 0;     // the driver, or 0
  int64_t millis_left;  // of its life, which does not go on while frozen
};

// Answers one request of the owner's; false if it let go.
bool AnswerOwner(int control, const Cgroup& cgroup, Kept* kept) {
  char request;
  const ssize_t size = recv(control, &request, 1, MSG_DONTWAIT);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (size <= 0) return false;
  bool done = false;
  if (request == kFreeze) {
    kept->frozen = FreezeDriver(kept->bwrap, cgroup, kFreezeMax);
    done = kept->frozen != 0;
  } else if (kept->frozen != 0) {
    done = ThawDriver(kept->frozen);
    kept->frozen = 0;
  }
  const KeeperReply reply = {done ? KeeperReply::kDone : KeeperReply::kRefused,
                             0};
  return send(control, &reply, sizeof(reply), MSG_NOSIGNAL) == sizeof(reply);
}

// Returns when the sandbox ended, or is to be ended.
void Keep(const sigset_t& signals, int control, const Cgroup& cgroup,
          Kept* kept) {
  const int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  while (signal_fd >= 0 && kept->millis_left > 0) {
    struct pollfd events[] = {{signal_fd, POLLIN, 0}, {control, POLLIN, 0}};
    const bool running = kept->frozen == 0;
    const int64_t begin = MonotonicMillis();
    poll(events, 2,
         static_cast<int>(running ? std::min(kept->millis_left, kPollMillisMax)
                                  : kPollMillisMax));
    if (running) kept->millis_left -= MonotonicMillis() - begin;
    struct signalfd_siginfo info;
    while (read(signal_fd, &info, sizeof(info)) == sizeof(info)) {
      if (info.ssi_signo == SIGTERM) return;
    }
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
      if (pid != kept->bwrap) continue;
      kept->reaped = true;
      kept->exit_code = ExitCodeOf(status);
    }
    if (kept->reaped) return;
    if (events[1].revents != 0 && !AnswerOwner(control, cgroup, kept)) return;
  }
}

[[noreturn]] void RunKeeper(const Helper& helper, uint32_t slot, pid_t parent,
                            const SandboxFds& fds, int status) {
  const sigset_t signals = BlockSignals();
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  if (getppid() != parent) _exit(1);
  Cgroup cgroup(helper.cgroups);
  const absl::Status made =
      cgroup.Create(slot, helper.options.limits.processes_max,
                    helper.options.limits.memory_bytes_max);
  if (!made.ok()) {
    errno = 0;
    Die(status, std::string(made.message()));
  }
  const pid_t self = getpid();
  Kept kept;
  kept.millis_left = 1000ll * helper.options.limits.life_seconds_max;
  kept.bwrap = fork();
  if (kept.bwrap == 0) {
    BecomeSandbox(helper, slot, cgroup, self, fds, status);
  }
  if (kept.bwrap < 0) {
    const int error = errno;
    cgroup.Remove();
    errno = error;
    Die(status, "fork");
  }
  close(fds.session);
  close(fds.output);
  close(fds.errors);
  close(status);
  Keep(signals, fds.control, cgroup, &kept);
  cgroup.Kill();
  if (!kept.reaped) kill(kept.bwrap, SIGKILL);
  if (kept.reaped) {
    const KeeperReply reply = {KeeperReply::kEnded, kept.exit_code};
    (void)send(fds.control, &reply, sizeof(reply), MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  ReapAll();
  cgroup.Remove();
  _exit(0);
}

SandboxReply ReplyOf(absl::StatusCode code, const std::string& text) {
  SandboxReply reply = {};
  reply.code = static_cast<int32_t>(code);
  snprintf(reply.text, sizeof(reply.text), "%s", text.c_str());
  return reply;
}

// By `end`, of MonotonicMillis.
SandboxReply KillSlot(Helper* helper, uint32_t slot, int64_t end) {
  const auto found = helper->keepers.find(slot);
  if (found == helper->keepers.end()) return ReplyOf(absl::StatusCode::kOk, "");
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  kill(found->second, SIGTERM);
  while (waitpid(found->second, nullptr, WNOHANG) == 0) {
    if (MonotonicMillis() >= end) {
      return ReplyOf(
          absl::StatusCode::kUnavailable,
          absl::StrCat("the sandbox of slot ", slot, " did not end in time"));
    }
    WaitSignal(child, 20);
  }
  helper->keepers.erase(found);
  return ReplyOf(absl::StatusCode::kOk, "");
}

// Forks the keeper and waits until bubblewrap runs or could not be started.
SandboxReply LaunchSlot(Helper* helper, uint32_t slot, const SandboxFds& fds) {
  if (helper->keepers.count(slot) > 0) {
    return ReplyOf(absl::StatusCode::kInternal,
                   absl::StrCat("slot ", slot, " is in use"));
  }
  int status[2];
  if (pipe2(status, O_CLOEXEC) != 0) {
    return ReplyOf(absl::StatusCode::kUnavailable,
                   absl::StrCat("pipe: ", strerror(errno)));
  }
  const pid_t self = getpid();
  const pid_t keeper = fork();
  if (keeper == 0) {
    RunKeeper(*helper, slot, self, fds, status[1]);
  }
  close(status[1]);
  if (keeper < 0) {
    close(status[0]);
    return ReplyOf(absl::StatusCode::kUnavailable,
                   absl::StrCat("fork: ", strerror(errno)));
  }
  helper->keepers[slot] = keeper;
  char text[400];
  size_t size = 0;
  // Ends at exec, at a failure, or when the keeper dies; each in milliseconds.
  for (ssize_t got;
       (got = read(status[0], text + size, sizeof(text) - size));) {
    if (got < 0 && errno != EINTR) break;
    if (got > 0) size += got;
  }
  close(status[0]);
  if (size == 0) return ReplyOf(absl::StatusCode::kOk, "");
  KillSlot(helper, slot, MonotonicMillis() + helper->options.end_max_millis);
  return ReplyOf(absl::StatusCode::kUnavailable, std::string(text, size));
}

// Receives a request and the descriptors with it; false when the socket closed.
bool Receive(int socket, SandboxRequest* request, SandboxFds* fds) {
  *fds = SandboxFds();
  struct iovec data = {request, sizeof(*request)};
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(SandboxFds))];
  struct msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t size;
  do {
    size = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  if (size != sizeof(*request)) return false;
  const struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_type == SCM_RIGHTS &&
      header->cmsg_len == CMSG_LEN(sizeof(SandboxFds))) {
    memcpy(fds, CMSG_DATA(header), sizeof(SandboxFds));
  }
  return true;
}

// Slots and walls; fills the first reply.
SandboxReply SetUp(Helper* helper) {
  helper->cgroups = DetectCgroups();
  const bool holds_memory = helper->cgroups.holds_memory();
  helper->each = ProcessLimits(helper->options.limits, holds_memory);
  helper->script = PythonDriver(helper->each.processes_max);
  absl::StatusOr<int> filter = MakeSeccompFilter();
  if (!filter.ok()) {
    return ReplyOf(filter.status().code(),
                   std::string(filter.status().message()));
  }
  helper->seccomp_fd = *filter;
  uint32_t slots = helper->options.slots_max;
  std::string who;
  if (geteuid() == 0 && IsMapped(kUidLast)) {
    for (uid_t uid = kUidFirst; uid <= kUidLast; ++uid) {
      if (helper->uids.size() == slots) break;
      ClaimUid(uid, helper);
    }
    slots = static_cast<uint32_t>(helper->uids.size());
    if (slots == 0) {
      return ReplyOf(absl::StatusCode::kResourceExhausted,
                     absl::StrCat("all sandbox uids ", kUidFirst, " to ",
                                  kUidLast, " are in use on this machine"));
    }
    who = absl::StrCat("uids from ", helper->uids[0]);
  } else {
    // One uid for all: without a pids cgroup, their process counts would mix.
    if (!helper->cgroups.holds_processes()) slots = 1;
    who = absl::StrCat("uid ", geteuid(), " in a user namespace");
  }
  SandboxReply reply = ReplyOf(
      absl::StatusCode::kOk,
      absl::StrCat("bubblewrap, seccomp, ", helper->cgroups.Describe(), ", ",
                   who, ", ", slots, slots == 1 ? " slot of " : " slots of ",
                   helper->each.processes_max, " processes ",
                   holds_memory ? "with " : "of ",
                   helper->each.memory_bytes_max >> 20, " MiB"));
  reply.slots = slots;
  reply.holds_memory = holds_memory;
  return reply;
}

}  // namespace

void RunSandboxHelper(int socket, const SandboxHelperOptions& options) {
  setsid();  // A terminal's Ctrl-C is for the parent to act on.
  prctl(PR_SET_NAME, "temper-sandboxes");
  signal(SIGPIPE, SIG_IGN);
  BlockSignals();
  // Nothing of the parent's: an inherited port or pipe would outlive it here.
  const int kept = dup2(socket, 3);
  close_range(4, ~0u, 0);
  Helper helper;
  helper.options = options;
  SandboxReply reply = SetUp(&helper);
  for (;;) {
    if (send(kept, &reply, sizeof(reply), MSG_NOSIGNAL) < 0) break;
    SandboxRequest request;
    SandboxFds fds;
    if (!Receive(kept, &request, &fds)) break;
    const bool waits = request.operation == SandboxRequest::kKill;
    reply = request.operation == SandboxRequest::kLaunch
                ? LaunchSlot(&helper, request.slot, fds)
                : KillSlot(
                      &helper, request.slot,
                      MonotonicMillis() + (waits ? options.end_max_millis : 0));
    for (int fd : {fds.session, fds.output, fds.errors, fds.control}) {
      if (fd >= 0) close(fd);
    }
  }
  // All at once: they end side by side.
  for (const auto& [slot, keeper] : helper.keepers) kill(keeper, SIGTERM);
  const int64_t end = MonotonicMillis() + options.end_max_millis;
  while (!helper.keepers.empty()) {
    const uint32_t slot = helper.keepers.begin()->first;
    if (KillSlot(&helper, slot, end).code != 0) helper.keepers.erase(slot);
  }
  _exit(0);
}

}  // namespace temper
