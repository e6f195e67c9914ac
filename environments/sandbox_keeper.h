// What the owner of a slot (sandbox.h) and its keeper (slot_keeper.h) say to
// each other.

#ifndef ENVIRONMENTS_SANDBOX_KEEPER_H_
#define ENVIRONMENTS_SANDBOX_KEEPER_H_

#include <cstdint>

namespace temper {

// What a slot is launched with. Both stay the caller's.
struct SandboxFds {
  int errors = -1;   // stderr of what starts, until the first session
  int control = -1;  // the keeper's end of a SOCK_SEQPACKET pair
};
static_assert(sizeof(SandboxFds) == 2 * sizeof(int));

// What a session is started with.
struct SessionFds {
  int session = -1;  // a stream socket, the driver's stdin
  int output = -1;   // a file, its stdout
};
static_assert(sizeof(SessionFds) == 2 * sizeof(int));

// A byte of KeeperRequest, kStart with SessionFds, is answered by kDone or
// kRefused, in order. Between them comes, unasked and once a session at most,
// kEnded if the session ended by itself; it is still to be ended by kEnd, which
// is answered when its last process is gone. When the owner closes its end of
// the pair, all is ended. Where the keeper's end closes, all has ended; before
// kEnded, by nothing that the session did.
enum KeeperRequest : char {
  kStart = 's',
  kFreeze = 'f',
  kThaw = 't',
  kEnd = 'e',
};
// Bits: limits of a whole session that it ran into.
enum SessionLimit : uint32_t {
  kMemoryLimit = 1,     // the kernel ended a process of it
  kProcessesLimit = 2,  // or refused it one
};
struct KeeperReply {
  enum Kind : int32_t { kDone, kRefused, kEnded };
  Kind kind;
  int32_t exit_code;    // of kEnded: 128 and the signal's number, if one did it
  uint32_t limits_hit;  // of kDone to kEnd; none where no cgroup tells
  char text[200];       // of kRefused: why, for a person
};

}  // namespace temper

#endif  // ENVIRONMENTS_SANDBOX_KEEPER_H_
