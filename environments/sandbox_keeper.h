// What the owner of a sandbox (sandbox.h) and its keeper (sandbox_helper.h)
// say to each other.

#ifndef ENVIRONMENTS_SANDBOX_KEEPER_H_
#define ENVIRONMENTS_SANDBOX_KEEPER_H_

#include <cstdint>

namespace temper {

// What a sandbox is started with. All stay the caller's.
struct SandboxFds {
  int session = -1;  // its stdin, a stream socket
  int output = -1;   // its stdout, a file
  int errors = -1;   // its stderr, until the handshake
  int control = -1;  // the keeper's end of a SOCK_SEQPACKET pair
};
inline constexpr int kSandboxFdCount = 4;
static_assert(sizeof(SandboxFds) == kSandboxFdCount * sizeof(int));

// A byte of KeeperRequest is answered by kDone or kRefused. Last, and unasked,
// comes kEnded if the sandbox ended by itself. When the owner closes its end of
// the pair, the sandbox is ended.
enum KeeperRequest : char { kFreeze = 'f', kThaw = 't' };
struct KeeperReply {
  enum Kind : int32_t { kDone, kRefused, kEnded };
  Kind kind;
  int32_t exit_code;  // of kEnded: 128 and the signal's number, if one did it
};

}  // namespace temper

#endif  // ENVIRONMENTS_SANDBOX_KEEPER_H_
