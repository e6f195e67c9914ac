// What a batch of episodes says of itself, under the names of DESIGN.md
// section 8: rewards, their parts, outcomes, lengths, and the seconds that an
// episode waited for its environment and its reward. And of an evaluation.
//
// Functions without state, thread-safe. A metric that was not measured has no
// value, never 0.

#ifndef LEARNER_TRAIN_BATCH_METRICS_H_
#define LEARNER_TRAIN_BATCH_METRICS_H_

#include <cstdint>
#include <vector>

#include "learner/intake/episode.h"
#include "learner/store/ledger.h"
#include "learner/store/run_db.h"

namespace temper {

// Means over the episodes, of which there is at least one and each carries a
// reward. sampling_mask/mean_size is over the tokens whose sampling was
// truncated, without a value where there is none.
std::vector<MetricValue> BatchMetrics(const std::vector<Episode>& batch);

// eval/{environment}/{episodes,correct,well_formed,reward_mean}: counts, so
// that errors and differences can be computed from them.
std::vector<MetricValue> EvalMetrics(const std::vector<EvaluatedSample>& batch);

}  // namespace temper

#endif  // LEARNER_TRAIN_BATCH_METRICS_H_
