// The process that starts sandboxes. It is forked from its parent before the
// parent has threads, and serves one socket:
//
//   parent --socketpair--> helper --fork--> keeper --fork, exec--> bubblewrap
//
// One keeper a sandbox: it makes the cgroup, is the subreaper of all that the
// sandbox leaves, freezes and thaws the sandbox for its owner, to whom it has a
// socket, ends it when told, when the owner let go or when its life is over,
// reaps to ECHILD, and only then removes the cgroup and exits. The helper ends
// when its socket closes, a keeper when the helper does (PDEATHSIG), and
// bubblewrap when its keeper does: a kill -9 anywhere leaves nothing.
//
// Only sandbox_supervisor.cc uses this.

#ifndef ENVIRONMENTS_SANDBOX_HELPER_H_
#define ENVIRONMENTS_SANDBOX_HELPER_H_

#include <cstdint>
#include <string>

#include "environments/sandbox_policy.h"

namespace temper {

struct SandboxHelperOptions {
  SandboxLimits limits;
  std::string bwrap;   // path of the binary
  std::string python;  // path of the binary, links resolved
  uint32_t slots_max = 0;
  int64_t end_max_millis = 0;  // for kKill
};

// One datagram each way (SOCK_SEQPACKET). A launch carries the descriptors of
// SandboxFds (sandbox_keeper.h). kKill ends the sandbox of a slot and waits for
// its end; kEnded asks, without waiting, whether it came after all.
struct SandboxRequest {
  enum Operation : uint32_t { kLaunch, kKill, kEnded };
  Operation operation;
  uint32_t slot;
};

struct SandboxReply {
  int32_t code;           // absl::StatusCode
  uint32_t slots;         // of the first reply, which is sent unasked
  uint32_t holds_memory;  // likewise
  char text[500];         // error, or of the first reply what is in force
};

// Serves `socket` until it closes, then exits the process.
[[noreturn]] void RunSandboxHelper(int socket,
                                   const SandboxHelperOptions& options);

}  // namespace temper

#endif  // ENVIRONMENTS_SANDBOX_HELPER_H_
