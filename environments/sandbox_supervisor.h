// Starts and ends the keepers of slots (slot_keeper.h) from a process that may
// have threads, by way of a helper that has none (sandbox_helper.h). What the
// sandboxed code is: Python sessions, one at a time (python_driver.py).

#ifndef ENVIRONMENTS_SANDBOX_SUPERVISOR_H_
#define ENVIRONMENTS_SANDBOX_SUPERVISOR_H_

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "environments/sandbox_keeper.h"
#include "environments/sandbox_policy.h"
#include "environments/step_limits.h"
#include "kernels/base/mutex.h"

namespace temper {

struct SandboxSupervisorOptions {
  SandboxLimits limits;
  uint32_t slots_max = 16;  // sandboxes at a time
  std::string bwrap = "/usr/bin/bwrap";
  // After so many sessions a slot's zygote is started anew: what it might have
  // gathered, by a fault of ours, would not gather for ever.
  uint32_t sessions_max = 1000;
  // How long one session, or all of a slot, may take to end.
  std::chrono::milliseconds sandbox_end_max = kSandboxEndMax;
  // How long the end may take before the helper is killed; above what it takes
  // to end all sandboxes at once.
  std::chrono::milliseconds end_max = kSandboxEndMax + std::chrono::seconds(5);
};

// Thread-safe after Start: requests take turns, each some milliseconds.
class SandboxSupervisor {
 public:
  // Forks the helper. To be called early: FailedPrecondition if this process
  // has threads already (a fork would copy their locks), or if bubblewrap or
  // Python is not installed, with what to install. That a sandbox really starts
  // is what SandboxPool::Create tells.
  static absl::StatusOr<std::unique_ptr<SandboxSupervisor>> Start(
      const SandboxSupervisorOptions& options);

  // Ends all sandboxes and the helper; a helper that has not ended in end_max
  // is killed, and its sandboxes end with it.
  ~SandboxSupervisor();

  SandboxSupervisor(const SandboxSupervisor&) = delete;
  SandboxSupervisor& operator=(const SandboxSupervisor&) = delete;

  // How many sandboxes may run; slots are numbered from 0. 1 for an ordinary
  // user where no cgroup can count processes.
  uint32_t slots() const { return slots_; }
  // Whether the memory of a whole sandbox is bounded, not of each process only.
  bool holds_memory() const { return holds_memory_; }
  // Which walls are up, for people.
  const std::string& description() const { return description_; }
  pid_t helper_pid() const { return helper_pid_; }
  const SandboxLimits& limits() const { return limits_; }
  std::chrono::milliseconds sandbox_end_max() const { return sandbox_end_max_; }

  // Starts the keeper of `slot`, which has none, and its bubblewrap.
  // Unavailable, with the step that failed, if it did not start or the helper
  // is gone.
  absl::Status Launch(uint32_t slot, const SandboxFds& fds);

  // Ends the keeper of `slot`, if any, and what it keeps; on OK all its
  // processes are reaped and the slot has none. Unavailable: it did not end in
  // half of sandbox_end_max; the slot must not be used before Ended.
  absl::Status Kill(uint32_t slot);
  // Whether it ended after all. Does not wait for it.
  bool Ended(uint32_t slot);

  // Whether the helper is gone or stopped answering: nothing will start again.
  bool lost();

 private:
  SandboxSupervisor(int socket, pid_t helper_pid,
                    const SandboxSupervisorOptions& options);

  // Reads the helper's first reply.
  absl::Status ReadGreeting();
  absl::Status Ask(const void* request, const SandboxFds* fds);
  // Whether the helper was reaped within `limit`.
  bool Reap(std::chrono::milliseconds limit);

  // Constant after Start.
  const int socket_;
  const pid_t helper_pid_;
  const SandboxLimits limits_;
  const std::chrono::milliseconds sandbox_end_max_;
  const std::chrono::milliseconds end_max_;
  uint32_t slots_ = 0;
  bool holds_memory_ = false;
  std::string description_;

  Mutex mutex_;
  bool lost_ ABSL_GUARDED_BY(mutex_) = false;  // no more answers will come
};

}  // namespace temper

#endif  // ENVIRONMENTS_SANDBOX_SUPERVISOR_H_
