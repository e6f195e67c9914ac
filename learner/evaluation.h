// Evaluation on held-out tasks: the first eval_tasks of each environment, one
// sample each, as EVAL leases with the run's own sampling; recorded, never
// trained. Its counts become metrics of the step it followed.
//
// Not thread-safe; the pointers outlive it.

#ifndef LEARNER_EVALUATION_H_
#define LEARNER_EVALUATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "learner/learner_wait.h"
#include "learner/ledger.h"
#include "learner/run_db.h"
#include "learner/task_queue.h"
#include "learner/trajectory_buffer.h"

namespace temper {

struct EvaluationOptions {
  uint32_t tasks = 0;  // held-out tasks an environment; 0: no evaluation
  // Longest time without an episode arriving.
  int64_t deadline_ms = 600000;
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

  // The tasks it is over, in the task file's order.
  std::vector<std::string> TaskIds() const;

  // Evaluates the weights that workers have now and records the metrics at
  // `step`. False: the run is to stop. DeadlineExceeded if no episode came in
  // deadline_ms.
  absl::StatusOr<bool> Run(int64_t step);

 private:
  absl::Status Finish(int64_t step, const EvalBatch& batch);

  const EvaluationOptions options_;
  const WaitContext& context_;
  Ledger* const ledger_;
  TaskQueue* const queue_;
  TrajectoryBuffer* const buffer_;
};

}  // namespace temper

#endif  // LEARNER_EVALUATION_H_
