#include "environments/environment_command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "environments/sandbox_policy.h"
#include "environments/uid_claim.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/shown_text.h"
#include "kernels/base/signal_name.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

constexpr char kBwrap[] = "/usr/bin/bwrap";
constexpr char kSetpriv[] = "/usr/bin/setpriv";
// Where the program sees the directory of its socket.
constexpr char kSocketDir[] = "/run/temper";
// Each file that it writes, its log included, which its watcher trims.
constexpr rlim_t kFileBytesMax = 64 << 20;
// gRPC's socket, and some room.
constexpr size_t kSocketDirFilesMax = 8;
constexpr off_t kLastLineBytesMax = 1024;
// Where bubblewrap, which closes it, finds the system call filter.
constexpr int kFilterFd = 3;
// For the kernel to end what bubblewrap's end takes with it.
constexpr int kEndMillisMax = 2000;

bool IsRoot() { return geteuid() == 0 && IsMappedUid(kCommandUidLast); }

// Pids tell makers apart within one pid namespace only; machines of several may
// share their /tmp.
std::string SocketDirPrefix() {
  struct stat space;
  const uint64_t id = stat("/proc/self/ns/pid", &space) == 0 ? space.st_ino : 0;
  return absl::StrCat("temper-env-", id, "-");
}

// Removes the socket directories whose maker, named by its pid, was killed
// outright. Whose they are is looked at: anybody can make one so called.
void RemoveStaleSocketDirs() {
  const auto names = ListDirectory("/tmp");
  if (!names.ok()) return;
  const std::string prefix = SocketDirPrefix();
  for (const std::string& name : *names) {
    if (!absl::StartsWith(name, prefix)) continue;
    const long pid = strtol(name.c_str() + prefix.size(), nullptr, 10);
    if (pid <= 0 || kill(static_cast<pid_t>(pid), 0) == 0 || errno != ESRCH) {
      continue;
    }
    const std::string path = absl::StrCat("/tmp/", name);
    struct stat info;
    if (lstat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) continue;
    const bool of_command = IsRoot() && info.st_uid >= kCommandUidFirst &&
                            info.st_uid <= kCommandUidLast;
    if (info.st_uid == geteuid() || of_command) RemoveAll(path).IgnoreError();
  }
}

std::vector<std::string> Words(const Registration& registration,
                               const std::string& socket_dir, bool own_uid,
                               uid_t uid) {
  const std::string& directory = registration.directory();
  std::vector<std::string> words = {"bwrap"};
  const auto add = [&words](std::vector<std::string> more) {
    words.insert(words.end(), more.begin(), more.end());
  };
  if (own_uid) {
    // Root makes the mounts, so that a directory below one that only root may
    // enter can be shown; setpriv then gives up root for good, before a word of
    // the program is run.
    add({"--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"});
  } else {
    add({"--unshare-all"});
  }
  add({"--die-with-parent",
       "--new-session",
       "--ro-bind",
       "/usr",
       "/usr",
       "--symlink",
       "usr/bin",
       "/bin",
       "--symlink",
       "usr/sbin",
       "/sbin",
       "--symlink",
       "usr/lib",
       "/lib",
       "--symlink",
       "usr/lib64",
       "/lib64",
       "--proc",
       "/proc",
       "--dev",
       "/dev"});
  // bubblewrap would make the directories above a mount for root alone.
  for (const std::string& path : {directory, std::string(kSocketDir)}) {
    for (size_t end = path.find('/', 1); end != std::string::npos;
         end = path.find('/', end + 1)) {
      add({"--perms", "0755", "--dir", path.substr(0, end)});
    }
  }
  // At its own path: virtual environments and tracebacks have it.
  add({"--ro-bind", directory, directory, "--bind", socket_dir, kSocketDir,
       "--chdir", directory, "--remount-ro", "/", "--remount-ro", "/dev"});
  for (const auto& [name, value] :
       {std::pair<std::string, std::string>{"PATH", "/usr/bin:/bin"},
        {"HOME", directory},
        {"LANG", "C.UTF-8"},
        // Nothing of its own is writable, what it says is to be seen at once,
        // and the order of a set is to be the same in each of its lives.
        {"PYTHONDONTWRITEBYTECODE", "1"},
        {"PYTHONUNBUFFERED", "1"},
        {"PYTHONHASHSEED", "0"}}) {
    add({"--setenv", name, value});
  }
  add({"--seccomp", absl::StrCat(kFilterFd), "--"});
  if (own_uid) {
    add({kSetpriv, "--reuid", absl::StrCat(uid), "--regid", absl::StrCat(uid),
         "--clear-groups", "--no-new-privs", "--inh-caps=-all",
         "--bounding-set=-all", "--"});
  }
  add({registration.command().begin(), registration.command().end()});
  add({absl::StrCat("unix:", kSocketDir, "/socket")});
  return words;
}

// A file with the filter, to be read from its beginning.
absl::StatusOr<int> SocketFilter() {
  ASSIGN_OR_RETURN(const std::string program, MakeSocketFilter());
  const int fd = memfd_create("filter", MFD_CLOEXEC);
  if (fd < 0) return FileError("make", "a memory file", errno);
  if (pwrite(fd, program.data(), program.size(), 0) ==
      static_cast<ssize_t>(program.size())) {
    return fd;
  }
  const absl::Status status = FileError("write", "a memory file", errno);
  close(fd);
  return status;
}

void Limit(int resource, rlim_t most) {
  struct rlimit limit = {most, most};
  if (setrlimit(resource, &limit) != 0) _exit(126);
}

struct ChildLimits {
  rlim_t processes = RLIM_INFINITY;  // of its uid, which has no others
  rlim_t data_bytes = RLIM_INFINITY;
};

// Between fork and exec: only calls that are safe where threads were. A byte
// from `gate` says that it is in its cgroup.
[[noreturn]] void Become(char* const* argv, int output, int filter,
                         const ChildLimits& limits, int gate, pid_t parent) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) _exit(126);
  char byte;
  if (read(gate, &byte, 1) != 1) _exit(126);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int number : {SIGINT, SIGTERM, SIGCHLD, SIGPIPE}) {
    signal(number, SIG_DFL);
  }
  Limit(RLIMIT_FSIZE, kFileBytesMax);
  Limit(RLIMIT_CORE, 0);
  if (limits.processes != RLIM_INFINITY) Limit(RLIMIT_NPROC, limits.processes);
  if (limits.data_bytes != RLIM_INFINITY) Limit(RLIMIT_DATA, limits.data_bytes);
  const int empty = open("/dev/null", O_RDONLY);
  if (empty < 0 || dup2(empty, 0) < 0 || dup2(output, 1) < 0 ||
      dup2(output, 2) < 0 || dup2(filter, kFilterFd) < 0 ||
      fcntl(kFilterFd, F_SETFD, 0) != 0) {
    _exit(126);
  }
  close_range(kFilterFd + 1, ~0U, 0);
  // bubblewrap's own, which its first process would show.
  char* const no_environment[] = {nullptr};
  execve(kBwrap, argv, no_environment);
  _exit(127);
}

}  // namespace

std::string EnvironmentCommand::DescribeWalls() {
  const CgroupHierarchy cgroups = DetectCgroups();
  return absl::StrCat(
      IsRoot() ? "as a uid of its own" : "as this user, in a user namespace",
      "; reads /usr and its directory, writes to its socket only, no network; ",
      EnvironmentCommandLimits().memory_bytes_max >> 20,
      cgroups.holds_memory() ? " MiB of memory" : " MiB of data a process",
      cgroups.shares_cpu ? ", one share of a busy CPU; "
                         : ", CPU not bounded; ",
      cgroups.Describe());
}

EnvironmentCommand::EnvironmentCommand(const Registration& registration,
                                       int output,
                                       const EnvironmentCommandLimits& limits)
    : registration_(registration),
      output_(output),
      limits_(limits),
      cgroups_(DetectCgroups()),
      cgroup_(cgroups_) {}

absl::StatusOr<std::unique_ptr<EnvironmentCommand>> EnvironmentCommand::Start(
    const Registration& registration, int output,
    const EnvironmentCommandLimits& limits) {
  CHECK(!registration.command().empty()) << registration.name();
  std::unique_ptr<EnvironmentCommand> command(
      new EnvironmentCommand(registration, output, limits));
  RETURN_IF_ERROR(command->Spawn());
  return command;
}

EnvironmentCommand::~EnvironmentCommand() {
  End();
  if (!socket_dir_.empty()) RemoveAll(socket_dir_).IgnoreError();
  for (const int fd : {memory_, uid_claim_}) {
    if (fd >= 0) close(fd);
  }
}

absl::Status EnvironmentCommand::MakeSocketDir() {
  RemoveStaleSocketDirs();
  // A short path: that of a socket has 107 bytes at most.
  std::string path =
      absl::StrCat("/tmp/", SocketDirPrefix(), getpid(), "-XXXXXX");
  if (mkdtemp(path.data()) == nullptr) return FileError("make", path, errno);
  socket_dir_ = path;
  if (uid_claim_ >= 0 && chown(path.c_str(), uid_, uid_) != 0) {
    return FileError("give away", path, errno);
  }
  return absl::OkStatus();
}

absl::Status EnvironmentCommand::Spawn() {
  const std::string& name = registration_.name();
  struct stat info;
  if (stat(registration_.directory().c_str(), &info) != 0 ||
      !S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat("environment ", name,
                                                   ": there is no directory ",
                                                   registration_.directory()));
  }
  for (const char* tool : {kBwrap, kSetpriv}) {
    if (access(tool, X_OK) != 0) {
      return absl::FailedPreconditionError(absl::StrCat(
          "environment ", name, ": ", tool,
          " is missing, by which its command is walled in; run "
          "tools/setup.sh, or serve it yourself and register its address"));
    }
  }
  for (uid_t uid = kCommandUidFirst; IsRoot() && uid_claim_ < 0; ++uid) {
    if (uid > kCommandUidLast) {
      return absl::UnavailableError(absl::StrCat(
          "environment ", name, ": all uids from ", kCommandUidFirst, " to ",
          kCommandUidLast, " are taken; end other runs"));
    }
    uid_ = uid;
    uid_claim_ = ClaimUid(uid);
  }
  RETURN_IF_ERROR(MakeSocketDir());
  if (output_ < 0) {
    memory_ = memfd_create("output", MFD_CLOEXEC);
    if (memory_ < 0) return FileError("make", "a memory file", errno);
    // Two that write, stdout and stderr: each behind the other.
    fcntl(memory_, F_SETFL, O_APPEND);
  }
  std::vector<std::string> words =
      Words(registration_, socket_dir_, uid_claim_ >= 0, uid_);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ASSIGN_OR_RETURN(const int filter, SocketFilter());
  const absl::Status forked = Fork(argv.data(), filter);
  close(filter);
  if (forked.ok()) return forked;
  return absl::Status(
      forked.code(),
      absl::StrCat("environment ", name, ": ", std::string(forked.message())));
}

absl::Status EnvironmentCommand::Fork(char* const* argv, int filter) {
  static std::atomic<int> count = 0;
  RETURN_IF_ERROR(cgroup_.Create(absl::StrCat("command", ++count),
                                 limits_.processes_max,
                                 limits_.memory_bytes_max));
  ChildLimits limits;
  if (uid_claim_ >= 0) limits.processes = limits_.processes_max;
  if (!cgroups_.holds_memory()) limits.data_bytes = limits_.memory_bytes_max;
  int gate[2];
  if (pipe2(gate, O_CLOEXEC) != 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no pipe for it: ", strerror(errno)));
  }
  const pid_t parent = getpid();
  const int output = output_ < 0 ? memory_ : output_;
  pid_ = fork();
  if (pid_ == 0) Become(argv, output, filter, limits, gate[0], parent);
  int error = errno;
  bool placed = false;
  if (pid_ > 0) {
    placed = cgroup_.Add(pid_) && write(gate[1], "g", 1) == 1;
    error = errno;
  } else {
    pid_ = 0;
  }
  for (const int fd : gate) close(fd);
  if (placed) return absl::OkStatus();
  End();
  return absl::ResourceExhaustedError(
      absl::StrCat("no process for it: ", strerror(error)));
}

void EnvironmentCommand::RemoveCgroup() {
  cgroup_.Kill();
  for (int i = 0; i < kEndMillisMax && !cgroup_.Processes().empty(); ++i) {
    usleep(1000);
  }
  cgroup_.Remove();
}

void EnvironmentCommand::End() {
  if (pid_ != 0) {
    // The kernel ends all that bubblewrap keeps with it (--die-with-parent, and
    // the first of a pid namespace takes the others along).
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  RemoveCgroup();
}

std::string EnvironmentCommand::LastLine() const {
  if (memory_ < 0) return "";
  struct stat info = {};
  fstat(memory_, &info);
  const off_t from = std::max<off_t>(0, info.st_size - kLastLineBytesMax);
  std::string text(static_cast<size_t>(info.st_size - from), '\0');
  const ssize_t got = pread(memory_, text.data(), text.size(), from);
  text.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);  // npos + 1 is 0
}

absl::Status EnvironmentCommand::Ended(const std::string& how) {
  const std::string last = LastLine();
  // The Python that environments begin with is Debian's, as bubblewrap shows
  // it.
  const bool no_grpc = absl::StrContains(last, "No module named 'grpc'");
  return absl::UnavailableError(absl::StrCat(
      "environment ", registration_.name(), ": `",
      absl::StrJoin(registration_.command(), " "), "` ", how,
      last.empty() ? "" : absl::StrCat("; its last line: ", ShownLine(last)),
      no_grpc ? "; run tools/setup.sh, or apt-get install python3-grpcio"
              : ""));
}

absl::Status EnvironmentCommand::CheckSocketDir() const {
  const auto names = ListDirectory(socket_dir_);
  if (!names.ok()) return absl::OkStatus();
  if (names->size() > kSocketDirFilesMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat("it made ", names->size(),
                     " files beside its socket, at most ", kSocketDirFilesMax));
  }
  for (const std::string& name : *names) {
    // What is in a directory would have to be counted, however deep.
    struct stat info;
    if (lstat(absl::StrCat(socket_dir_, "/", name).c_str(), &info) == 0 &&
        S_ISDIR(info.st_mode)) {
      return absl::ResourceExhaustedError(
          absl::StrCat("it made a directory beside its socket, ",
                       ShownLine(name), "; it may make files alone"));
    }
  }
  return absl::OkStatus();
}

absl::Status EnvironmentCommand::Check() {
  if (pid_ == 0) return Ended("has ended");
  siginfo_t info = {};
  if (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG) == 0 &&
      info.si_pid != 0) {
    const bool memory = cgroup_.Events().memory_kills > 0;
    End();
    // bubblewrap tells of a signal that ended the program as a shell does.
    return Ended(absl::StrCat(
        info.si_code == CLD_EXITED
            ? absl::StrCat("ended, exit ", info.si_status)
            : absl::StrCat("ended, ", DescribeSignal(info.si_status)),
        memory ? absl::StrCat(", at its limit of ",
                              limits_.memory_bytes_max >> 20, " MiB of memory")
               : ""));
  }
  const absl::Status held = CheckSocketDir();
  if (held.ok()) return held;
  End();
  return Ended(absl::StrCat("was ended: ", std::string(held.message())));
}

}  // namespace temper
