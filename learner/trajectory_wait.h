// The loop's wait for trajectories, of a step and of an evaluation alike.

#ifndef LEARNER_TRAJECTORY_WAIT_H_
#define LEARNER_TRAJECTORY_WAIT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "learner/intake/trajectory_buffer.h"
#include "learner/learner_wait.h"

namespace temper {

// Calls `take`, which returns StatusOr<optional<Batch>>, whenever `buffer` has
// something new, until it gives a batch. No batch: the run is to stop. An error
// of `take` is passed on; DeadlineExceeded, naming `what`, if for `deadline_ms`
// no trajectory came.
template <typename Take>
auto AwaitTrajectories(const WaitContext& context, TrajectoryBuffer* buffer,
                       const std::string& what, int64_t deadline_ms, Take take)
    -> decltype(take()) {
  LearnerWait wait(context, what, deadline_ms);
  // An episode that failed is progress too: a call may take most of the
  // deadline, and failures end by themselves (Ledger's retries, the buffer's
  // kFailedGroupsMax). What is refused may go round and round.
  const auto came = [buffer] {
    const BufferCounts counts = buffer->counts();
    return counts.received + counts.failed;
  };
  int64_t before = came();
  for (;;) {
    const int64_t seen = buffer->activity();
    ASSIGN_OR_RETURN(auto batch, take());
    if (batch.has_value()) return batch;
    if (wait.Stopping()) return decltype(batch)();
    // A time-out here is a look at the other conditions.
    buffer->WaitForChange(seen, LearnerWait::kPollUs).IgnoreError();
    if (const int64_t now = came(); now != before) {
      before = now;
      wait.Progress();
    }
    if (wait.Expired()) {
      return absl::DeadlineExceededError(absl::StrCat(
          "no trajectory came in ", deadline_ms, " ms, waiting for ", what,
          ". Look at logs/worker-*.log"));
    }
  }
}

}  // namespace temper

#endif  // LEARNER_TRAJECTORY_WAIT_H_
