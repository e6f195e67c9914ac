// The program that serves a registered environment, behind walls: bubblewrap,
// with namespaces for processes, network and IPC. It sees /usr and the
// directory that it was registered with, read-only, and nothing else but the
// directory of its socket, the one place where it may write. As host root it
// gets a uid of its own; for an ordinary user it keeps theirs, in a user
// namespace. No network, no capabilities, and no environment variable of ours.
//
// Where this user can make cgroups (cgroup.h) all of it together has at most
// memory_bytes_max of memory and, however many its processes are, the share of
// a busy CPU that one other process has. Without, the data of each process has
// that bound, and CPU time has none.
//
// Not thread-safe. The thread that calls Start must live as long as the object:
// the kernel ends the program with it.

#ifndef ENVIRONMENTS_ENVIRONMENT_COMMAND_H_
#define ENVIRONMENTS_ENVIRONMENT_COMMAND_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "environments/cgroup.h"
#include "proto/registration.pb.h"

namespace temper {

struct EnvironmentCommandLimits {
  uint64_t memory_bytes_max = 4ull << 30;
  // Threads count. Not held for an ordinary user without cgroups.
  uint32_t processes_max = 1024;
};

class EnvironmentCommand {
 public:
  // Starts the command of `registration`, which has one. Its stdout and stderr
  // go to the descriptor `output`, or, if that is -1, to memory, where Check
  // finds the last line. FailedPrecondition says what is not installed;
  // InvalidArgument, that the directory is not there.
  static absl::StatusOr<std::unique_ptr<EnvironmentCommand>> Start(
      const Registration& registration, int output,
      const EnvironmentCommandLimits& limits = EnvironmentCommandLimits());

  // Ends it and all that it started.
  ~EnvironmentCommand();
  EnvironmentCommand(const EnvironmentCommand&) = delete;
  EnvironmentCommand& operator=(const EnvironmentCommand&) = delete;

  // Where it is to serve, for gRPC.
  std::string address() const { return "unix:" + socket_dir_ + "/socket"; }

  // OK while it runs and leaves no more than its socket in its directory, give
  // or take a few files. Else
  // Unavailable names the environment, its command and, where output is -1, the
  // last line of what it said; once so, it has ended.
  absl::Status Check();

  // Which walls it has, for people.
  static std::string DescribeWalls();

 private:
  EnvironmentCommand(const Registration& registration, int output,
                     const EnvironmentCommandLimits& limits);

  absl::Status Spawn();
  // Forks what becomes the program, in its cgroup, behind `filter`.
  absl::Status Fork(char* const* argv, int filter);
  absl::Status MakeSocketDir();
  absl::Status CheckSocketDir() const;
  void End();
  void RemoveCgroup();
  absl::Status Ended(const std::string& how);
  std::string LastLine() const;

  const Registration registration_;
  const int output_;  // the caller's; -1: memory_ is
  const EnvironmentCommandLimits limits_;
  const CgroupHierarchy cgroups_;
  Cgroup cgroup_;           // made by Start
  int memory_ = -1;         // of what it said
  int uid_claim_ = -1;      // -1: it has our uid
  uid_t uid_ = 0;           // of its own, if uid_claim_ is not -1
  std::string socket_dir_;  // made by Start, removed in the end
  pid_t pid_ = 0;           // 0: none runs
};

}  // namespace temper

#endif  // ENVIRONMENTS_ENVIRONMENT_COMMAND_H_
