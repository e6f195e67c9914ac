// From a fork of the keeper to a zygote inside bubblewrap: cgroup, limits, uid,
// descriptors, exec. Only slot_keeper.cc uses this.

#ifndef ENVIRONMENTS_ZYGOTE_LAUNCH_H_
#define ENVIRONMENTS_ZYGOTE_LAUNCH_H_

#include <sys/types.h>

#include <optional>
#include <string>

#include "environments/cgroup.h"
#include "environments/sandbox_policy.h"

namespace temper {

struct ZygoteOptions {
  SandboxLimits each;        // of a process
  std::string bwrap;         // path of the binary
  std::string script;        // Python source
  std::optional<uid_t> uid;  // whom to become; none: nobody else
};

// All stay the caller's.
struct ZygoteFds {
  int orders = -1;  // its stdin: a byte for each init to fork
  int errors = -1;  // its stderr
  int keep = -1;    // its end of a SOCK_SEQPACKET pair
};

// Becomes bubblewrap that runs options.script in `cgroup`, and dies with
// `keeper`. `status` closes at exec; what failed is written there, and the
// process exits.
[[noreturn]] void BecomeZygote(const ZygoteOptions& options,
                               const Cgroup& cgroup, pid_t keeper,
                               const ZygoteFds& fds, int status);

// Writes `what` and errno, if it is set, to `status`, and exits.
[[noreturn]] void FailLaunch(int status, const std::string& what);

}  // namespace temper

#endif  // ENVIRONMENTS_ZYGOTE_LAUNCH_H_
