#include "learner/train/train_step_options.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace temper {

double TrainStepOptions::KlCoef(const std::string& domain) const {
  const auto it = domain_kl_coef.find(domain);
  return it == domain_kl_coef.end() ? objective.kl_coef() : it->second;
}

bool TrainStepOptions::NeedsReference() const {
  if (objective.kl_coef() != 0) return true;
  for (const auto& [domain, coefficient] : domain_kl_coef) {
    if (coefficient != 0) return true;
  }
  return false;
}

absl::StatusOr<TrainStepOptions> MakeTrainStepOptions(const RunConfig& config) {
  const ObjectiveConfig& objective = config.objective();
  const double temperature = config.sampling().temperature();
  // Written so that a NaN fails.
  if (!(temperature > 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("temperature ", temperature, "; it must be above 0"));
  }
  if (objective.minibatches() < 1) {
    return absl::InvalidArgumentError(
        "minibatches 0: a step makes at least one update; set it to 1 or more");
  }
  // Whole sections: a key that is added to one is at once where it is heeded.
  TrainStepOptions options;
  options.objective = objective;
  options.optimizer = config.optimizer();
  options.temperature = temperature;
  for (const DomainConfig& domain : config.domain()) {
    options.domain_kl_coef[domain.domain_name()] = domain.domain_kl_coef();
  }
  return options;
}

double WarmedUp(double learning_rate, int64_t warmup_updates, int64_t update) {
  if (update >= warmup_updates) return learning_rate;
  return learning_rate *
         (static_cast<double>(update) / static_cast<double>(warmup_updates));
}

}  // namespace temper
