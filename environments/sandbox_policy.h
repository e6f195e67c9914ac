// What a sandbox is allowed: limits, the file system it sees, the system calls
// it may make. Policy alone; sandbox_supervisor.h starts processes under it.
//
// The file system is read-only: /usr/lib, one Python binary, /dev/null, and one
// tmpfs at /tmp. There is no /proc, so neither the launcher's environment nor a
// sysctl is there to be read; no shell; no network namespace but an empty one.

#ifndef ENVIRONMENTS_SANDBOX_POLICY_H_
#define ENVIRONMENTS_SANDBOX_POLICY_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace temper {

// Limits of one sandbox. Memory and processes are held by a cgroup where one is
// writable. The number of processes is held by an rlimit too; for memory,
// rlimits bound each process alone and not what it keeps in memory files and
// pipes, so without a memory cgroup the bound is theirs together: processes_max
// times memory_bytes_max of address space, and open_files_max memory files of
// file_bytes_max in each process, 48 GiB with these numbers.
struct SandboxLimits {
  uint32_t processes_max = 32;
  uint64_t memory_bytes_max = 512ull << 20;
  uint64_t file_bytes_max = 16ull << 20;  // each file, and all of /tmp
  uint32_t open_files_max = 64;
  // CPU of one process and life of the whole sandbox. Backstops: a call has its
  // own, shorter limit.
  uint32_t cpu_seconds_max = 300;
  uint32_t life_seconds_max = 1800;
};

// The argument vector of bubblewrap that runs `python` (a path on the host) on
// `script`, filter taken from `seccomp_fd`; options are to be passed by
// --args, so that /proc/1/cmdline tells nothing.
struct BwrapCommand {
  std::string options;  // for --args: NUL after each
  std::vector<std::string> argv;
};
BwrapCommand MakeBwrapCommand(const SandboxLimits& limits,
                              const std::string& python,
                              const std::string& script, int args_fd,
                              int seccomp_fd);

// The filter as a BPF program in a sealed file descriptor, for bwrap --seccomp.
// Denied: namespaces, mounts, tracing, keyrings, io_uring, BPF, inotify, clocks,
// every socket but AF_UNIX, and foreign system call tables (which kill). fcntl's
// record locks are not: libraries use them, and on the system's files, which
// sandboxes share, they can carry a signal from one to another. The caller
// closes it. Internal if libseccomp refuses a rule.
absl::StatusOr<int> MakeSeccompFilter();

// Sets this process's rlimits; to be called between fork and exec. Returns the
// name of the limit that was refused, or null.
const char* ApplyRlimits(const SandboxLimits& limits);

}  // namespace temper

#endif  // ENVIRONMENTS_SANDBOX_POLICY_H_
