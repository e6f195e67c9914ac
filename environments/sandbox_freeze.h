// Stops the driver of a sandbox that waits for its next cell, and sees that it
// is alone: a cell that wrote the driver's reply itself may go on, or have
// children that do, and must cost nobody anything (promise P5).
//
// A stopped process of one thread, with no other in its sandbox, stays so: only
// SIGCONT wakes it, which nobody is left to send, and the system call filter
// denies the kernel's own ways to (sandbox_policy.h).
//
// Only the keeper of a slot uses this (slot_keeper.h): it sees the
// sandbox from outside, by /proc and its cgroup.

#ifndef ENVIRONMENTS_SANDBOX_FREEZE_H_
#define ENVIRONMENTS_SANDBOX_FREEZE_H_

#include <sys/types.h>

#include <chrono>

#include "environments/cgroup.h"

namespace temper {

// Stops `driver`, the first process of its pid namespace. False if after
// `limit` it is not stopped, has other threads, or there are other processes:
// the session is to be ended then. What was just killed gets that time to be
// gone. Costs no more for what else runs on the machine. Always false on a
// kernel without CONFIG_PROC_CHILDREN where `cgroup` has no path.
bool FreezeDriver(pid_t driver, const Cgroup& cgroup,
                  std::chrono::milliseconds limit);

// Wakes what FreezeDriver stopped; false if it is stopped no more: it died.
bool ThawDriver(pid_t driver);

}  // namespace temper

#endif  // ENVIRONMENTS_SANDBOX_FREEZE_H_
