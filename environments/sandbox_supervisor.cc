#include "environments/sandbox_supervisor.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "environments/fd_message.h"
#include "environments/sandbox_helper.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

// Above the helper's own limit for ending a sandbox.
constexpr int kReplySecondsMax = 15;
static_assert(std::chrono::seconds(kReplySecondsMax) > kSandboxEndMax);
// For the kernel to end a process that was killed.
constexpr std::chrono::milliseconds kKilledMax(1000);

#ifdef __SANITIZE_THREAD__
constexpr int kOwnThreads = 2;  // ThreadSanitizer has one, which takes no lock
#else
constexpr int kOwnThreads = 1;
#endif

int CountThreads() {
  DIR* tasks = opendir("/proc/self/task");
  if (tasks == nullptr) return 1;
  int count = 0;
  while (const dirent* entry = readdir(tasks)) {
    if (entry->d_name[0] != '.') ++count;
  }
  closedir(tasks);
  return count;
}

absl::StatusOr<std::string> Installed(const std::string& path,
                                      const char* package) {
  char resolved[PATH_MAX];
  if (realpath(path.c_str(), resolved) == nullptr ||
      access(resolved, X_OK) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": ", strerror(errno), "; install ", package));
  }
  return std::string(resolved);
}

}  // namespace

SandboxSupervisor::SandboxSupervisor(int socket, pid_t helper_pid,
                                     const SandboxSupervisorOptions& options)
    : socket_(socket),
      helper_pid_(helper_pid),
      limits_(options.limits),
      sandbox_end_max_(options.sandbox_end_max),
      end_max_(options.end_max) {}

absl::StatusOr<std::unique_ptr<SandboxSupervisor>> SandboxSupervisor::Start(
    const SandboxSupervisorOptions& options) {
  const int threads = CountThreads();
  if (threads > kOwnThreads) {
    return absl::FailedPreconditionError(
        absl::StrCat("the sandbox supervisor must start before any thread; "
                     "this process has ",
                     threads));
  }
  if (options.sessions_max < 1) {
    return absl::InvalidArgumentError(
        "sessions_max is 0; a zygote serves 1 at least");
  }
  if (options.slots_max < 1 || options.slots_max > 1024) {
    return absl::InvalidArgumentError(absl::StrCat(
        "slots_max is ", options.slots_max, "; 1 to 1024 are allowed"));
  }
  SandboxHelperOptions helper;
  helper.limits = options.limits;
  helper.slots_max = options.slots_max;
  helper.sessions_max = options.sessions_max;
  // Twice at most: the session alone, then all that the slot has.
  helper.end_max_millis = options.sandbox_end_max.count() / 2;
  ASSIGN_OR_RETURN(helper.bwrap, Installed(options.bwrap, "bubblewrap"));
  RETURN_IF_ERROR(Installed(kPythonPath, "python3").status());
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) {
    return absl::UnavailableError(
        absl::StrCat("socketpair: ", strerror(errno)));
  }
  const pid_t pid = fork();
  if (pid == 0) RunSandboxHelper(sockets[1], helper);
  close(sockets[1]);
  if (pid < 0) {
    close(sockets[0]);
    return absl::UnavailableError(absl::StrCat("fork: ", strerror(errno)));
  }
  const struct timeval limit = {kReplySecondsMax, 0};
  setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  setsockopt(sockets[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  std::unique_ptr<SandboxSupervisor> supervisor(
      new SandboxSupervisor(sockets[0], pid, options));
  RETURN_IF_ERROR(supervisor->ReadGreeting());
  return supervisor;
}

bool SandboxSupervisor::Reap(std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  for (;;) {
    const pid_t reaped = waitpid(helper_pid_, nullptr, WNOHANG);
    if (reaped == helper_pid_ || (reaped < 0 && errno != EINTR)) return true;
    if (std::chrono::steady_clock::now() >= end) return false;
    usleep(1000);
  }
}

SandboxSupervisor::~SandboxSupervisor() {
  close(socket_);
  // It ends every sandbox and exits.
  if (Reap(end_max_)) return;
  LOG(ERROR) << "the sandbox helper, process " << helper_pid_
             << ", did not end in " << end_max_.count() << " ms; killed";
  kill(helper_pid_, SIGKILL);
  Reap(kKilledMax);  // else it is for init to reap
}

absl::Status SandboxSupervisor::ReadGreeting() {
  SandboxReply reply;
  if (recv(socket_, &reply, sizeof(reply), 0) != sizeof(reply)) {
    return absl::UnavailableError("the sandbox helper did not start");
  }
  slots_ = reply.slots;
  holds_memory_ = reply.holds_memory != 0;
  description_ = reply.text;
  if (reply.code == 0) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(reply.code), reply.text);
}

absl::Status SandboxSupervisor::Ask(const void* request,
                                    const SandboxFds* fds) {
  SandboxReply reply;
  MutexLock lock(&mutex_);
  if (lost_) return absl::UnavailableError("the sandbox helper is gone");
  if (SendWithFds(socket_, request, sizeof(SandboxRequest), fds,
                  MSG_NOSIGNAL) != sizeof(SandboxRequest) ||
      recv(socket_, &reply, sizeof(reply), 0) != sizeof(reply)) {
    // A late answer would be taken for the next one's.
    lost_ = true;
    return absl::UnavailableError(
        absl::StrCat("the sandbox helper does not answer: ", strerror(errno)));
  }
  if (reply.code == 0) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(reply.code), reply.text);
}

absl::Status SandboxSupervisor::Launch(uint32_t slot, const SandboxFds& fds) {
  const SandboxRequest request = {SandboxRequest::kLaunch, slot};
  return Ask(&request, &fds);
}

absl::Status SandboxSupervisor::Kill(uint32_t slot) {
  const SandboxRequest request = {SandboxRequest::kKill, slot};
  return Ask(&request, nullptr);
}

bool SandboxSupervisor::Ended(uint32_t slot) {
  const SandboxRequest request = {SandboxRequest::kEnded, slot};
  return Ask(&request, nullptr).ok();
}

bool SandboxSupervisor::lost() {
  MutexLock lock(&mutex_);
  siginfo_t info = {};
  // Leaves the zombie to the destructor.
  lost_ |= waitid(P_PID, static_cast<id_t>(helper_pid_), &info,
                  WEXITED | WNOHANG | WNOWAIT) != 0 ||
           info.si_pid != 0;
  return lost_;
}

}  // namespace temper
