#include "learner/learner_model.h"

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "learner/objective.h"

namespace temper {

absl::StatusOr<std::unique_ptr<LearnerModel>> LearnerModel::Open(
    const RunConfig& config, const std::optional<std::string>& checkpoint,
    const LearnerCounters& counters, Backend* backend) {
  std::unique_ptr<LearnerModel> model(new LearnerModel(config));
  ASSIGN_OR_RETURN(model->model_, ReadModelConfig(config.model()));
  const std::string from = checkpoint.has_value()
                               ? absl::StrCat(*checkpoint, "/model")
                               : config.model();
  ASSIGN_OR_RETURN(model->weights_,
                   ModelWeights::Load(backend, model->model_, from));
  ASSIGN_OR_RETURN(model->optimizer_,
                   Optimizer::Create(backend, model->weights_.get(),
                                     {ParameterGroup::kMain}));
  if (checkpoint.has_value()) {
    RETURN_IF_ERROR(
        LoadOptimizerState(*checkpoint, counters, model->optimizer_.get()));
  }
  RETURN_IF_ERROR(model->OpenTrainStep(backend));
  return model;
}

absl::Status LearnerModel::OpenTrainStep(Backend* backend) {
  TrainStepOptions options;
  ASSIGN_OR_RETURN(options.objective,
                   MakeObjectiveOptions(config_.objective()));
  const OptimizerConfig& optimizer = config_.optimizer();
  options.optimizer.weight_decay = optimizer.weight_decay();
  options.optimizer.beta1 = optimizer.beta1();
  options.optimizer.beta2 = optimizer.beta2();
  options.optimizer.eps = optimizer.adam_eps();
  options.optimizer.grad_clip = optimizer.grad_clip();
  options.temperature = config_.sampling().temperature();
  options.keep_routing = config_.objective().keep_routing();
  options.keep_sampling_mask = config_.objective().keep_sampling_mask();
  options.minibatches = static_cast<int>(config_.objective().minibatches());
  options.kl_coef = config_.objective().kl_coef();
  for (const DomainConfig& domain : config_.domain()) {
    options.domain_kl_coef[domain.domain_name()] = domain.domain_kl_coef();
  }
  if (options.NeedsReference()) {
    ASSIGN_OR_RETURN(reference_,
                     ModelWeights::Load(backend, model_, config_.model()));
  }
  ASSIGN_OR_RETURN(train_step_,
                   TrainStep::Create(backend, weights_.get(), reference_.get(),
                                     optimizer_.get(), options));
  return absl::OkStatus();
}

absl::StatusOr<StepMetrics> LearnerModel::Train(
    const std::vector<Episode>& episodes, int64_t step, uint64_t version) {
  const OptimizerConfig& optimizer = config_.optimizer();
  double rate = optimizer.learning_rate();
  if (step <= static_cast<int64_t>(optimizer.warmup_steps())) {
    rate *= static_cast<double>(step) / optimizer.warmup_steps();
  }
  std::vector<const Episode*> pointers;
  for (const Episode& episode : episodes) pointers.push_back(&episode);
  return train_step_->Run(pointers, version, rate);
}

absl::Status LearnerModel::Save(const std::string& directory,
                                const LearnerCounters& counters) const {
  return SaveLearnerState(directory, config_.model(), *weights_, *optimizer_,
                          counters);
}

}  // namespace temper
