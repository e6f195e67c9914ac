// What a GRPO step is asked to do, and how a run's configuration says it: each
// key of `objective`, `optimizer` and `domain`, and sampling's temperature.
//
// Functions without state; thread-safe.

#ifndef LEARNER_TRAIN_STEP_OPTIONS_H_
#define LEARNER_TRAIN_STEP_OPTIONS_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "learner/objective.h"
#include "learner/optimizer.h"
#include "proto/config.pb.h"
#include "proto/wire/episode_limit.h"

namespace temper {

struct TrainStepOptions {
  ObjectiveOptions objective;
  OptimizerOptions optimizer;  // its learning_rate is the step's instead
  double temperature = 1;      // above 0
  bool keep_routing = true;
  bool keep_sampling_mask = true;
  int minibatches = 1;
  int64_t tokens_max = kEpisodeTokensMax;  // rows of one forward
  double kl_coef = 0;
  std::map<std::string, double> domain_kl_coef;  // overrides kl_coef

  double KlCoef(const std::string& domain) const;
  bool NeedsReference() const;  // some beta is not 0
};

// The options of a resolved `config`. InvalidArgument names a choice that is
// none, and a number of minibatches or a temperature that no step can have;
// other limits are tools/config.h's.
absl::StatusOr<TrainStepOptions> MakeTrainStepOptions(const RunConfig& config);

// The learning rate of `step` (1, 2, ...): it rises by equal parts to
// learning_rate at warmup_steps, then stays.
double LearningRateAt(const OptimizerConfig& config, int64_t step);

}  // namespace temper

#endif  // LEARNER_TRAIN_STEP_OPTIONS_H_
