// Evaluation on held-out tasks: the first `tasks` of each environment, one
// sample each, as EVAL leases with the run's own sampling; recorded, never
// trained. Its counts become metrics of the step it followed, and their being
// there says that it is whole.
//
// A task counts once at a step. What an evaluation had received when it was cut
// short (Ledger::Resume keeps it) is counted by the one that goes on with it,
// and only the other tasks are sampled.
//
// Not thread-safe; the pointers outlive it.

#ifndef LEARNER_EVALUATION_H_
#define LEARNER_EVALUATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "learner/intake/task_queue.h"
#include "learner/intake/trajectory_buffer.h"
#include "learner/learner_wait.h"
#include "learner/store/ledger.h"
#include "learner/store/run_db.h"

namespace temper {

struct EvaluationOptions {
  uint32_t tasks = 0;  // held-out tasks an environment; 0: no evaluation
  // Longest time without an episode arriving (LearnerOptions).
  int64_t deadline_ms = 1'800'000;
};

class Evaluation {
 public:
  Evaluation(const EvaluationOptions& options, const WaitContext& context,
             Ledger* ledger, TaskQueue* queue, TrajectoryBuffer* buffer)
      : options_(options),
        context_(context),
        ledger_(ledger),
        queue_(queue),
        buffer_(buffer) {}

  // Whether an evaluation at `step` was cut short.
  absl::StatusOr<bool> IsUnfinished(int64_t step);
  // Whether one at `step` is whole, or there is nothing to evaluate.
  absl::StatusOr<bool> IsDone(int64_t step);

  // Evaluates the weights that workers have now, which `step` steps made,
  // unless that is done, and records the metrics. False: the run is to stop.
  // DeadlineExceeded if no episode came in deadline_ms.
  absl::StatusOr<bool> Run(int64_t step);

 private:
  // The tasks it is over, in the task file's order.
  std::vector<std::string> TaskIds() const;
  absl::Status Record(int64_t step, int64_t groups_dropped);

  const EvaluationOptions options_;
  const WaitContext& context_;
  Ledger* const ledger_;
  TaskQueue* const queue_;
  TrajectoryBuffer* const buffer_;
};

}  // namespace temper

#endif  // LEARNER_EVALUATION_H_
