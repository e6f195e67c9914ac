#include "learner/train/learner_model.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "learner/store/run_model.h"
#include "learner/train/train_step_options.h"
#include "proto/wire/run_numerics.h"

namespace temper {

absl::StatusOr<std::unique_ptr<LearnerModel>> LearnerModel::Open(
    const std::string& run_dir, const RunConfig& config,
    const std::optional<std::string>& checkpoint,
    const LearnerCounters& counters, Backend* backend) {
  std::unique_ptr<LearnerModel> model(new LearnerModel(config));
  // Nothing of the first model is asked for that a checkpoint has.
  const std::string from = checkpoint.has_value()
                               ? absl::StrCat(*checkpoint, "/model")
                               : config.model();
  ASSIGN_OR_RETURN(model->model_, ReadModelConfig(from));
  // So that a resume finds what lies beside the weights though the base model
  // has gone meanwhile.
  if (RunModelDir(run_dir, from) == from) {
    RETURN_IF_ERROR(KeepRunModel(run_dir, from));
  }
  model->files_dir_ = RunModelDir(run_dir, from);
  auto masters = checkpoint.has_value()
                     ? LoadMasters(*checkpoint, model->model_, backend)
                     : MasterWeights::Load(backend, model->model_, from);
  RETURN_IF_ERROR(masters.status());
  model->masters_ = *std::move(masters);
  ASSIGN_OR_RETURN(
      model->weights_,
      PublishedWeights::Of(model->masters_.get(), NumericsOf(config),
                           Passes::kForwardAndBackward));
  ASSIGN_OR_RETURN(
      model->optimizer_,
      Optimizer::Create(backend, model->masters_.get(), model->weights_.get(),
                        {ParameterGroup::kMain}));
  if (checkpoint.has_value()) {
    RETURN_IF_ERROR(
        LoadOptimizerState(*checkpoint, counters, model->optimizer_.get()));
  }
  RETURN_IF_ERROR(model->OpenTrainStep(backend));
  return model;
}

absl::Status LearnerModel::OpenTrainStep(Backend* backend) {
  ASSIGN_OR_RETURN(const TrainStepOptions options,
                   MakeTrainStepOptions(config_));
  if (options.NeedsReference()) {
    // Always the first model, of a resumed run too: the KL is to where the run
    // began.
    ASSIGN_OR_RETURN(
        reference_, PublishedWeights::Load(backend, model_, NumericsOf(config_),
                                           Passes::kForward, config_.model()));
  }
  ASSIGN_OR_RETURN(train_step_,
                   TrainStep::Create(backend, weights_.get(), reference_.get(),
                                     optimizer_.get(), options));
  return absl::OkStatus();
}

absl::StatusOr<StepMetrics> LearnerModel::Train(
    const std::vector<Episode>& episodes, uint64_t version) {
  std::vector<const Episode*> pointers;
  for (const Episode& episode : episodes) pointers.push_back(&episode);
  return train_step_->Run(pointers, version,
                          config_.optimizer().learning_rate());
}

absl::Status LearnerModel::Save(const std::string& directory,
                                const LearnerCounters& counters) const {
  return SaveLearnerState(directory, files_dir_,
                          ScheduleConfig::CheckpointDtype_Name(
                              config_.schedule().checkpoint_dtype()),
                          *masters_, *optimizer_, counters);
}

}  // namespace temper
