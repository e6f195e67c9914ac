// The process that keeps one slot: a warm Python inside bubblewrap (the zygote,
// python_driver.py), and the one session at a time that it forks for the slot's
// owner (sandbox.h), by the requests of sandbox_keeper.h.
//
//   keeper --fork, exec--> bubblewrap --> zygote --fork--> driver
//
// It stands outside of the sandbox, and everything that it believes comes from
// the kernel or from processes that have run no code of a candidate yet: a
// driver is known by the pid that the kernel signs its message with, and is in
// a cgroup of its own before it hears of a session. A session has ended when
// its driver has: the kernel ends the first of a pid namespace after all
// others.
//
// A zygote is used for sessions_max sessions, or until anything goes otherwise
// than it should; then the keeper ends, and the owner launches another.
//
// Only sandbox_helper.cc uses this.

#ifndef ENVIRONMENTS_SLOT_KEEPER_H_
#define ENVIRONMENTS_SLOT_KEEPER_H_

#include <sys/types.h>

#include <cstdint>

#include "environments/cgroup.h"
#include "environments/sandbox_keeper.h"
#include "environments/sandbox_policy.h"
#include "environments/zygote_launch.h"

namespace temper {

struct SlotKeeperOptions {
  uint32_t slot = 0;
  SandboxLimits limits;  // of a whole session
  ZygoteOptions zygote;
  CgroupHierarchy cgroups;
  uint32_t sessions_max = 0;   // of one zygote
  int64_t end_max_millis = 0;  // for a session to end
};

// Keeps the slot for the process `parent`, whose child this one is: to return
// is to exit. `status` closes once bubblewrap runs; what failed before is
// written there first. Ends, and has ended all that it started and removed its
// cgroups, when told by SIGTERM, when `parent` dies, or when the owner lets go
// of fds.control.
[[noreturn]] void RunSlotKeeper(const SlotKeeperOptions& options, pid_t parent,
                                const SandboxFds& fds, int status);

}  // namespace temper

#endif  // ENVIRONMENTS_SLOT_KEEPER_H_
