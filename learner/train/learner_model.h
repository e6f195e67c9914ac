// The model that a learner trains: its weights, the frozen reference, AdamW and
// the GRPO step over them, as a run's configuration asks for.
//
// Not thread-safe. The backend outlives it.

#ifndef LEARNER_TRAIN_LEARNER_MODEL_H_
#define LEARNER_TRAIN_LEARNER_MODEL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/config.h"
#include "kernels/model/master_weights.h"
#include "kernels/model/published_weights.h"
#include "kernels/ops/backend.h"
#include "learner/intake/episode.h"
#include "learner/train/learner_state.h"
#include "learner/train/optimizer.h"
#include "learner/train/train_step.h"
#include "proto/config.pb.h"

namespace temper {

class LearnerModel {
 public:
  // Weights and moments are those of `checkpoint` (a checkpoint's directory,
  // whose counters are `counters`) or, without one, the weights of the
  // configured model. The reference is always the configured model, loaded only
  // if some KL coefficient is above 0. What lies beside the weights is copied
  // into every checkpoint from <run_dir>/model (learner/store/run_model.h),
  // which is made if the run has none. Errors name the file.
  static absl::StatusOr<std::unique_ptr<LearnerModel>> Open(
      const std::string& run_dir, const RunConfig& config,
      const std::optional<std::string>& checkpoint,
      const LearnerCounters& counters, Backend* backend);

  const ModelConfig& model() const { return model_; }
  const MasterWeights& masters() const { return *masters_; }
  const PublishedWeights& weights() const { return *weights_; }

  // Trains on a step's episodes, whole groups in (group, sample) order.
  // `version` is of the weights before. Errors as TrainStep::Run.
  absl::StatusOr<StepMetrics> Train(const std::vector<Episode>& episodes,
                                    uint64_t version);

  // Writes a checkpoint's files (learner/train/learner_state.h) into
  // `directory`.
  absl::Status Save(const std::string& directory,
                    const LearnerCounters& counters) const;

 private:
  explicit LearnerModel(const RunConfig& config) : config_(config) {}
  absl::Status OpenTrainStep(Backend* backend);

  const RunConfig config_;
  ModelConfig model_;
  std::string files_dir_;  // what lies beside the weights, in the run
  std::unique_ptr<MasterWeights> masters_;
  std::unique_ptr<PublishedWeights> weights_;
  std::unique_ptr<PublishedWeights> reference_;  // may be null
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<TrainStep> train_step_;
};

}  // namespace temper

#endif  // LEARNER_TRAIN_LEARNER_MODEL_H_
