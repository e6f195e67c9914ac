#include "environments/sandbox_policy.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "environments/denied_calls.h"
#include "seccomp.h"

namespace temper {
namespace {

// Without a memory cgroup (ProcessLimits).
constexpr uint32_t kProcessesMax = 4;
constexpr uint32_t kOpenFilesMax = 32;
constexpr uint64_t kBufferBytes = 256 << 10;     // of an open pipe or socket
constexpr uint64_t kProcessBytesMin = 32 << 20;  // Python runs in half of it

constexpr ssize_t kFilterBytesMax = 32 << 10;  // as the kernel's: 4096 of 8

// Calls `name` refused with `error`; a name this library does not know is one
// its kernel headers did not have, and is passed over.
int Deny(scmp_filter_ctx filter, const char* name, int error) {
  const int call = seccomp_syscall_resolve_name(name);
  if (call == __NR_SCMP_ERROR) return 0;
  return seccomp_rule_add(filter, SCMP_ACT_ERRNO(error), call, 0);
}

int AddRules(scmp_filter_ctx filter) {
  int rc = 0;
  for (const char* name : kDeniedCalls) {
    if (rc == 0) rc = Deny(filter, name, EPERM);
  }
  // Its flags are behind a pointer, where no filter sees them: libc falls back.
  if (rc == 0) rc = Deny(filter, "clone3", ENOSYS);
  constexpr uint64_t kNamespaces[] = {
      CLONE_NEWUSER, CLONE_NEWNS,  CLONE_NEWPID,   CLONE_NEWNET,
      CLONE_NEWIPC,  CLONE_NEWUTS, CLONE_NEWCGROUP};
  for (uint64_t flag : kNamespaces) {
    if (rc != 0) break;
    rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                          SCMP_A0(SCMP_CMP_MASKED_EQ, flag, flag));
  }
  if (rc == 0) {
    rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT),
                          SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_NE, AF_UNIX));
  }
  // kBufferBytes is of those that the kernel gives unasked. It takes these
  // arguments for 32 bits: what stands above them must not hide them.
  constexpr uint64_t kInt = 0xffffffff;
  for (uint64_t command : {F_SETPIPE_SZ, F_SETSIG}) {  // F_SETSIG: as above
    if (rc != 0) break;
    rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(fcntl), 1,
                          SCMP_A1(SCMP_CMP_MASKED_EQ, kInt, command));
  }
  if (rc == 0) {
    rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(setsockopt),
                          2, SCMP_A1(SCMP_CMP_MASKED_EQ, kInt, SOL_SOCKET),
                          SCMP_A2(SCMP_CMP_MASKED_EQ, kInt, SO_SNDBUF));
  }
  return rc;
}

int AddSocketRules(scmp_filter_ctx filter) {
  int rc =
      seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket),
                       1, SCMP_A0(SCMP_CMP_GT, AF_INET6));
  for (uint64_t family = AF_UNSPEC; family < AF_INET6; ++family) {
    if (rc != 0) break;
    if (family == AF_UNIX || family == AF_INET) continue;
    rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT),
                          SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, family));
  }
  // Makes sockets too, where no filter sees it.
  if (rc == 0) rc = Deny(filter, "io_uring_setup", EPERM);
  return rc;
}

// The program of a filter that allows what `add_rules` does not deny.
absl::StatusOr<std::string> MakeFilter(int (*add_rules)(scmp_filter_ctx)) {
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  if (filter == nullptr) return absl::InternalError("seccomp_init failed");
  int rc = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL);
  if (rc == 0) rc = add_rules(filter);
  // The library writes to descriptors only.
  const int fd = memfd_create("filter", MFD_CLOEXEC);
  if (rc == 0) rc = fd < 0 ? -errno : seccomp_export_bpf(filter, fd);
  seccomp_release(filter);
  std::string program(kFilterBytesMax, '\0');
  const ssize_t size =
      rc == 0 ? pread(fd, program.data(), program.size(), 0) : 0;
  if (fd >= 0) close(fd);
  if (rc == 0 && (size <= 0 || size == kFilterBytesMax)) rc = -EFBIG;
  if (rc != 0) {
    return absl::InternalError(
        absl::StrCat("building the system call filter: ", strerror(-rc)));
  }
  program.resize(static_cast<size_t>(size));
  return program;
}

int RlimitOf(__rlimit_resource resource, uint64_t value) {
  // Never above what we were given, which we could not raise.
  struct rlimit limit;
  if (getrlimit(resource, &limit) != 0) return -1;
  if (limit.rlim_max != RLIM_INFINITY && value > limit.rlim_max) {
    value = limit.rlim_max;
  }
  limit.rlim_cur = limit.rlim_max = value;
  return setrlimit(resource, &limit);
}

}  // namespace

SandboxLimits ProcessLimits(const SandboxLimits& limits, bool holds_memory) {
  SandboxLimits each = limits;
  if (holds_memory) return each;
  each.processes_max = std::min(limits.processes_max, kProcessesMax);
  each.open_files_max = std::min(limits.open_files_max, kOpenFilesMax);
  const uint64_t shared =
      2 * limits.file_bytes_max +
      uint64_t{each.processes_max} * each.open_files_max * kBufferBytes;
  const uint64_t rest =
      limits.memory_bytes_max - std::min(limits.memory_bytes_max, shared);
  each.memory_bytes_max =
      std::min(limits.memory_bytes_max,
               std::max(rest / each.processes_max, kProcessBytesMin));
  return each;
}

BwrapCommand MakeBwrapCommand(const std::string& script, int args_fd) {
  // clang-format off
  const std::vector<std::string> options = {
      "--unshare-all", "--unshare-user",
      "--die-with-parent", "--new-session",
      // To make a session's namespaces and mounts, which gives it up.
      "--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN",
      "--ro-bind", "/usr/lib", "/usr/lib",
      "--ro-bind", "/usr/lib64", "/usr/lib64",
      "--ro-bind", "/usr/bin", "/usr/bin",
      "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64",
      "--symlink", "usr/bin", "/bin",
      // Debian's names of programs of several packages: c++, awk.
      "--ro-bind-try", "/etc/alternatives", "/etc/alternatives",
      // A C++ compiler's and git's.
      "--ro-bind-try", "/usr/include", "/usr/include",
      "--ro-bind-try", "/usr/libexec/gcc", "/usr/libexec/gcc",
      "--ro-bind-try", "/usr/share/git-core", "/usr/share/git-core",
      "--dev-bind", "/dev/null", "/dev/null",
      "--dev-bind", "/dev/urandom", "/dev/urandom",  // git names files by it
      // Where each session mounts its own: nothing that is shared is writable.
      "--dir", "/tmp", "--symlink", "/tmp", "/dev/shm", "--chdir", "/tmp",
      "--remount-ro", "/",
      "--uid", "1000", "--gid", "1000", "--hostname", "sandbox",
      "--clearenv", "--setenv", "HOME", "/tmp",
      "--setenv", "PYTHONHASHSEED", "0",
      "--setenv", "PYTHONDONTWRITEBYTECODE", "1"};
  // clang-format on
  BwrapCommand command;
  for (const std::string& option : options) {
    command.options += option;
    command.options.push_back('\0');
  }
  command.argv = {"bwrap", "--args",    absl::StrCat(args_fd),
                  "--",    kPythonPath, "-s",
                  "-S",
                  "-u",  // what was printed is there when the process is not
                  "-X",    "utf8",      "-c",
                  script};
  return command;
}

absl::StatusOr<std::string> MakeSeccompFilter() { return MakeFilter(AddRules); }

absl::StatusOr<std::string> MakeSocketFilter() {
  return MakeFilter(AddSocketRules);
}

const char* ApplyRlimits(const SandboxLimits& limits) {
  const struct {
    const char* name;
    __rlimit_resource resource;
    uint64_t value;
  } kLimits[] = {
      {"RLIMIT_CPU", RLIMIT_CPU, limits.cpu_seconds_max},
      {"RLIMIT_AS", RLIMIT_AS, limits.memory_bytes_max},
      {"RLIMIT_FSIZE", RLIMIT_FSIZE, limits.file_bytes_max},
      {"RLIMIT_NOFILE", RLIMIT_NOFILE, limits.open_files_max},
      {"RLIMIT_CORE", RLIMIT_CORE, 0},
      {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK, 0},
      {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE, 0},
      {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING, 256},
  };
  for (const auto& limit : kLimits) {
    if (RlimitOf(limit.resource, limit.value) != 0) return limit.name;
  }
  return nullptr;
}

}  // namespace temper
