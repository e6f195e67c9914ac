// What a GRPO step is asked to do, and how a run's configuration says it: each
// key of `objective`, `optimizer` and `domain`, and sampling's temperature.
//
// Functions without state; thread-safe.

#ifndef LEARNER_TRAIN_TRAIN_STEP_OPTIONS_H_
#define LEARNER_TRAIN_TRAIN_STEP_OPTIONS_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "learner/train/objective.h"
#include "learner/train/optimizer.h"
#include "proto/config.pb.h"
#include "proto/wire/episode_limit.h"

namespace temper {

struct TrainStepOptions {
  ObjectiveConfig objective = PaperObjective();
  OptimizerConfig optimizer = UsualOptimizer();  // but TrainStep::Run's rate
  double temperature = 1;                        // above 0
  int64_t tokens_max = kEpisodeTokensMax;        // rows of one forward
  std::map<std::string, double> domain_kl_coef;  // overrides its kl_coef

  double KlCoef(const std::string& domain) const;
  bool NeedsReference() const;  // some beta is not 0
};

// The options of a resolved `config`. InvalidArgument names a number of
// minibatches or a temperature that no step can have; other limits are
// tools/config/config.h's.
absl::StatusOr<TrainStepOptions> MakeTrainStepOptions(const RunConfig& config);

// The learning rate of `update` (1, 2, ...; a step makes one for each
// minibatch): it rises by equal parts to `learning_rate` at `warmup_updates`,
// then stays.
double WarmedUp(double learning_rate, int64_t warmup_updates, int64_t update);

}  // namespace temper

#endif  // LEARNER_TRAIN_TRAIN_STEP_OPTIONS_H_
