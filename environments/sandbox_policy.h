// What a sandbox is allowed: limits, the file system it sees, the system calls
// it may make. Policy alone; sandbox_supervisor.h starts processes under it.
//
// The file system is the machine's programs, read-only: /usr/bin and /usr/lib,
// one Python, where they are installed what g++ and git read, /dev/null and
// /dev/urandom; but for /tmp, which is /dev/shm too, a tmpfs of each session's
// own (python_driver.py). Output goes to a memory file of the launcher's. There
// is no /proc, so neither the launcher's environment nor a sysctl is there to
// be read, and no network namespace but an empty one. No set-user-id of a
// program has an effect.

#ifndef ENVIRONMENTS_SANDBOX_POLICY_H_
#define ENVIRONMENTS_SANDBOX_POLICY_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace temper {

// Limits of one sandbox. A cgroup holds all its processes to them together,
// where one is writable; rlimits hold each process, see ProcessLimits.
struct SandboxLimits {
  uint32_t processes_max = 32;
  uint64_t memory_bytes_max = 512ull << 20;
  uint64_t file_bytes_max = 16ull << 20;  // each file, all of /tmp, output
  uint32_t files_max = 4096;  // of /tmp: files, directories, links, and itself
  uint32_t open_files_max = 64;
  // CPU of one process and life of the whole sandbox, while frozen not counted.
  // Backstops: a call has its own, shorter limit.
  uint32_t cpu_seconds_max = 300;
  uint32_t life_seconds_max = 1800;
};

// What each process is held to: `limits`, if a cgroup holds the memory of all.
// Else fewer and smaller processes, with fewer files, that together stay within
// memory_bytes_max: processes_max times their address space, /tmp, the output,
// and full buffers of all their pipes and sockets. Memory files, which
// the address space need not show, are denied always. What stays outside is
// memory of the kernel's own that only a memory cgroup counts: record locks.
// Empty files are bounded by the inodes of /tmp.
SandboxLimits ProcessLimits(const SandboxLimits& limits, bool holds_memory);

// Where g++ is, on the host as in a sandbox.
inline constexpr char kCompilerPath[] = "/usr/bin/g++";

// The one Python there is, on the host as in a sandbox, which has the host's
// /usr/bin.
inline constexpr char kPythonPath[] = "/usr/bin/python3";

// The argument vector of bubblewrap that runs Python on `script`; options are
// to be passed by --args, so that /proc/1/cmdline tells nothing. What runs so
// may make namespaces and mounts: it is to fork what may not
// (python_driver.py).
struct BwrapCommand {
  std::string options;  // for --args: NUL after each
  std::vector<std::string> argv;
};
BwrapCommand MakeBwrapCommand(const std::string& script, int args_fd);

// The filter as a BPF program: an array of sock_filter.
// Denied: namespaces, mounts, tracing, keyrings, io_uring, BPF, inotify,
// clocks, every socket but AF_UNIX, memory files, larger buffers for pipes and
// sockets, signals of the kernel's that would wake a stopped process, and
// foreign system call tables (which kill). fcntl's record locks
// are not: libraries use them, and on the system's files, which sandboxes
// share, they can carry a signal from one to another. Internal if libseccomp
// refuses a rule.
absl::StatusOr<std::string> MakeSeccompFilter();

// Likewise, of a program that is walled in by namespaces and a uid
// (environment_command.h). Denied: every socket but AF_UNIX, AF_INET and
// AF_INET6, which a network namespace holds; others (AF_VSOCK) are of no
// namespace; and foreign system call tables.
absl::StatusOr<std::string> MakeSocketFilter();

// Sets this process's rlimits; to be called between fork and exec. Returns the
// name of the limit that was refused, or null.
const char* ApplyRlimits(const SandboxLimits& limits);

}  // namespace temper

#endif  // ENVIRONMENTS_SANDBOX_POLICY_H_
