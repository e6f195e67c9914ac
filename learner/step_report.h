// What the ledger keeps of a step that was trained: which samples, what
// training computed of each, and the step's metrics under the names of
// DESIGN.md section 8, put together from the batch, the training and the clock.

#ifndef LEARNER_STEP_REPORT_H_
#define LEARNER_STEP_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "learner/intake/trajectory_buffer.h"
#include "learner/store/ledger.h"
#include "learner/train/train_step.h"

namespace temper {

// Instants of a step, on the monotonic clock but for the first.
struct StepTimes {
  int64_t started_unix_us = 0;
  int64_t started_us = 0;
  int64_t waiting_us = 0;    // all is issued: idle until the batch is there
  int64_t generated_us = 0;  // the batch is there
  int64_t trained_us = 0;    // the weights are updated
  // Publication of the weights trained from, until all workers had them.
  double sync_seconds = 0;
};

// `version` is of the weights that `batch` was trained from, `counts` are the
// buffer's so far.
StepRecord MakeStepRecord(int64_t step, uint64_t version,
                          const TrainBatch& batch, const StepMetrics& trained,
                          const StepTimes& times, const BufferCounts& counts);

// Gives every metric of the record that is not finite no value, and returns
// "NAME is VALUE" of each, by name. run.db takes finite numbers only, and no
// metric is worth a run: what must be finite to go on, the gradient's norm,
// the optimizer looks at itself.
std::vector<std::string> NullWhatIsNotFinite(StepRecord* record);

}  // namespace temper

#endif  // LEARNER_STEP_REPORT_H_
