// The process that starts sandboxes. It is forked from its parent before the
// parent has threads, and serves one socket:
//
//   parent --socketpair--> helper --fork--> keeper --fork, exec--> bubblewrap
//
// One keeper a slot in use (slot_keeper.h), which serves the slot's sessions
// one after another by a socket that it has to their owner, without the helper.
// The helper ends when its socket closes, a keeper when the helper does
// (PDEATHSIG), bubblewrap when its keeper does, and every session with its
// bubblewrap. What a keeper makes outside of itself are its cgroups; the helper
// removes those of one that was killed. So a kill -9 of any of them leaves
// nothing; of a helper and a keeper at once empty cgroups, until a helper
// starts on this machine.
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
  std::string bwrap;  // path of the binary
  uint32_t slots_max = 0;
  uint32_t sessions_max = 0;   // of one zygote
  int64_t end_max_millis = 0;  // for kKill
};

// One datagram each way (SOCK_SEQPACKET). A launch carries the descriptors of
// SandboxFds (sandbox_keeper.h). kKill ends the keeper of a slot, and all that
// it keeps, and waits for its end; kEnded asks, without waiting, whether it
// came after all.
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
