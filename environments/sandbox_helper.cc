#include "environments/sandbox_helper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "environments/cgroup.h"
#include "environments/python_driver.h"
#include "environments/sandbox_keeper.h"
#include "environments/slot_keeper.h"
#include "environments/uid_claim.h"

namespace temper {
namespace {

// Room that the limit of a user's processes leaves beside a session, so that
// where a cgroup counts them it is the one to refuse a fork, and tells of it.
constexpr uint32_t kSpareProcesses = 8;

// For what a killed keeper left to end; its pid namespace ends with it.
constexpr int64_t kLeftMillis = 5000;

struct Helper {
  SandboxHelperOptions options;
  SlotKeeperOptions keeper;  // but for slot and uid
  std::vector<uid_t> uids;   // of each slot; empty: our own
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

// SIGTERM is for nobody: the helper ends with its socket.
void BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGCHLD);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
}

// Readable when a child ended.
int ChildSignals() {
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  return signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
}

bool AddUid(uid_t uid, Helper* helper) {
  const int claim = ClaimUid(uid);
  if (claim < 0) return false;
  helper->uid_claims.push_back(claim);
  helper->uids.push_back(uid);
  return true;
}

SandboxReply ReplyOf(absl::StatusCode code, const std::string& text) {
  SandboxReply reply = {};
  reply.code = static_cast<int32_t>(code);
  snprintf(reply.text, sizeof(reply.text), "%s", text.c_str());
  return reply;
}

// Of a keeper that was reaped. One that was killed left them.
void RemoveCgroups(const Helper& helper, pid_t keeper) {
  RemoveGroupsOf(helper.keeper.cgroups, keeper,
                 std::chrono::milliseconds(kLeftMillis));
}

// Keepers that ended and that nobody asks about: those of slots at rest.
void ReapEnded(Helper* helper) {
  for (auto it = helper->keepers.begin(); it != helper->keepers.end();) {
    const pid_t keeper = it->second;
    if (waitpid(keeper, nullptr, WNOHANG) == 0) {
      ++it;
      continue;
    }
    it = helper->keepers.erase(it);
    RemoveCgroups(*helper, keeper);
  }
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
  RemoveCgroups(*helper, found->second);
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
    SlotKeeperOptions options = helper->keeper;
    options.slot = slot;
    if (!helper->uids.empty()) options.zygote.uid = helper->uids[slot];
    RunSlotKeeper(options, self, fds, status[1]);
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

// Waits for a request, and reaps meanwhile.
void AwaitRequest(int socket, int signals, Helper* helper) {
  for (;;) {
    ReapEnded(helper);
    struct pollfd events[] = {{socket, POLLIN, 0}, {signals, POLLIN, 0}};
    poll(events, 2, -1);
    if (events[0].revents != 0) return;
    struct signalfd_siginfo info;
    while (read(signals, &info, sizeof(info)) == sizeof(info)) {
    }
  }
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
  const absl::StatusOr<std::string> filter = MakeSeccompFilter();
  if (!filter.ok()) {
    return ReplyOf(filter.status().code(),
                   std::string(filter.status().message()));
  }
  SlotKeeperOptions& keeper = helper->keeper;
  keeper.cgroups = DetectCgroups();
  const bool holds_memory = keeper.cgroups.holds_memory();
  keeper.limits = helper->options.limits;
  keeper.zygote.each = ProcessLimits(keeper.limits, holds_memory);
  keeper.zygote.bwrap = helper->options.bwrap;
  keeper.zygote.script = ZygoteSource(
      {.processes_max =
           keeper.zygote.each.processes_max +
           (keeper.cgroups.holds_processes() ? kSpareProcesses : 1),
       .tmp_bytes_max = keeper.zygote.each.file_bytes_max,
       .tmp_files_max = keeper.zygote.each.files_max,
       .filter = *filter});
  keeper.sessions_max = helper->options.sessions_max;
  keeper.end_max_millis = helper->options.end_max_millis;
  uint32_t slots = helper->options.slots_max;
  std::string who;
  if (geteuid() == 0 && IsMappedUid(kSandboxUidLast)) {
    for (uid_t uid = kSandboxUidFirst; uid <= kSandboxUidLast; ++uid) {
      if (helper->uids.size() == slots) break;
      AddUid(uid, helper);
    }
    slots = static_cast<uint32_t>(helper->uids.size());
    if (slots == 0) {
      return ReplyOf(
          absl::StatusCode::kResourceExhausted,
          absl::StrCat("all sandbox uids ", kSandboxUidFirst, " to ",
                       kSandboxUidLast, " are in use on this machine"));
    }
    who = absl::StrCat("uids from ", helper->uids[0]);
  } else {
    // One uid for all: without a pids cgroup, their process counts would mix.
    if (!keeper.cgroups.holds_processes()) slots = 1;
    who = absl::StrCat("uid ", geteuid(), " in a user namespace");
  }
  SandboxReply reply = ReplyOf(
      absl::StatusCode::kOk,
      absl::StrCat("bubblewrap, seccomp, ", keeper.cgroups.Describe(), ", ",
                   who, ", ", slots, slots == 1 ? " slot of " : " slots of ",
                   keeper.zygote.each.processes_max, " processes ",
                   holds_memory ? "with " : "of ",
                   keeper.zygote.each.memory_bytes_max >> 20, " MiB"));
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
  const int signals = ChildSignals();
  for (;;) {
    if (send(kept, &reply, sizeof(reply), MSG_NOSIGNAL) < 0) break;
    AwaitRequest(kept, signals, &helper);
    SandboxRequest request;
    SandboxFds fds;
    if (!Receive(kept, &request, &fds)) break;
    const bool waits = request.operation == SandboxRequest::kKill;
    reply = request.operation == SandboxRequest::kLaunch
                ? LaunchSlot(&helper, request.slot, fds)
                : KillSlot(
                      &helper, request.slot,
                      MonotonicMillis() + (waits ? options.end_max_millis : 0));
    for (int fd : {fds.errors, fds.control}) {
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
