// Supervised training from demonstrations, driven by a resolved SftConfig: what
// `temper sft` runs, and the test that makes the shipped checkpoint again.
//
// The bits of the result depend on the configuration and the demonstrations
// alone: not on threads, tier or time.

#ifndef LEARNER_TRAIN_SFT_TRAINER_H_
#define LEARNER_TRAIN_SFT_TRAINER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/chat/template.h"
#include "kernels/model/master_weights.h"
#include "kernels/model/tokenizer.h"
#include "kernels/ops/backend.h"
#include "learner/intake/episode.h"
#include "learner/train/demonstration_source.h"
#include "learner/train/sft_step.h"
#include "proto/sft_config.pb.h"

namespace temper {

// Of all stages.
int64_t TotalSteps(const SftConfig& config);

// The learning rate of `step` (from 0) of a stage.
double StageRate(const SftStage& stage, double peak, int64_t step);

struct SftProgress {
  std::string stage;  // its name
  int64_t step = 0;   // over all stages, from 1
  SftMetrics metrics;
  double seconds = 0;  // of this step
};

// Trains step by step through all stages. Not thread-safe.
class SftTrainer {
 public:
  // `config` is resolved; all that is pointed to outlives the object, and
  // `weights` is what it trains, from step 1 on. Errors:
  // ChatTemplate::Create's.
  static absl::StatusOr<std::unique_ptr<SftTrainer>> Create(
      const SftConfig& config, Backend* backend, const Tokenizer* tokenizer,
      const DemonstrationSource* source, MasterWeights* weights);

  // Goes on behind `step` instead: `weights` are what they were then,
  // `updates` and the files in `dir` what updates() and SaveOptimizers gave.
  absl::Status Resume(int64_t step, const SftUpdates& updates,
                      const std::string& dir);

  // The next step; there is one.
  absl::StatusOr<SftProgress> Step();

  int64_t step() const { return step_; }  // done
  SftUpdates updates() const { return trainer_->updates(); }
  absl::Status SaveOptimizers(const std::string& dir) const {
    return trainer_->SaveOptimizers(dir);
  }

 private:
  SftTrainer(const SftConfig& config, std::unique_ptr<ChatTemplate> chat,
             const DemonstrationSource* source, const ModelConfig& model)
      : config_(config),
        chat_(std::move(chat)),
        source_(source),
        model_(model),
        order_(config.seed(), source->size()) {}
  absl::StatusOr<std::vector<Episode>> Batch(const SftStage& stage);

  const SftConfig config_;
  const std::unique_ptr<ChatTemplate> chat_;
  const DemonstrationSource* const source_;
  const ModelConfig model_;
  DemonstrationOrder order_;
  std::unique_ptr<SftStep> trainer_;
  int64_t step_ = 0;
};

// SHA-256 (hexadecimal) of the fp32 values: what two makings are compared by.
std::string WeightsDigest(const MasterWeights& weights);

}  // namespace temper

#endif  // LEARNER_TRAIN_SFT_TRAINER_H_
