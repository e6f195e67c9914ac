#include "learner/train/sft_trainer.h"

#include <chrono>
#include <utility>

#include "kernels/base/checksum.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "proto/wire/episode_limit.h"

namespace temper {
int64_t TotalSteps(const SftConfig& config) {
  int64_t steps = 0;
  for (const SftStage& stage : config.stage()) steps += stage.steps();
  return steps;
}

double StageRate(const SftStage& stage, double peak, int64_t step) {
  const double warmup = stage.warmup_steps();
  if (static_cast<double>(step) < warmup) {
    // From peak / warmup on: a first step of rate 0 would train nothing.
    return peak * (static_cast<double>(step) + 1) / warmup;
  }
  const double total = stage.steps();
  // With decay_fraction 0 it begins at the end, and there is none.
  const double begin = total * (1 - stage.decay_fraction());
  if (static_cast<double>(step) < begin || begin >= total) return peak;
  const double done = (static_cast<double>(step) - begin) / (total - begin);
  return peak * (1 - done * (1 - stage.final_fraction()));
}

absl::StatusOr<std::unique_ptr<SftTrainer>> SftTrainer::Create(
    const SftConfig& config, Backend* backend, const Tokenizer* tokenizer,
    const DemonstrationSource* source, MasterWeights* weights) {
  ASSIGN_OR_RETURN(auto chat, ChatTemplate::Create(tokenizer));
  std::unique_ptr<SftTrainer> trainer(
      new SftTrainer(config, std::move(chat), source, weights->config()));
  ASSIGN_OR_RETURN(trainer->trainer_,
                   SftStep::Create(backend, weights, kEpisodeTokensMax));
  return trainer;
}

absl::Status SftTrainer::Resume(int64_t step, const SftUpdates& updates,
                                const std::string& dir) {
  RETURN_IF_ERROR(trainer_->LoadOptimizers(dir, updates));
  step_ = step;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Episode>> SftTrainer::Batch(const SftStage& stage) {
  const uint64_t count = config_.demonstrations_per_step();
  std::vector<Episode> episodes;
  for (uint64_t i = 0; i < count; ++i) {
    // Positions count over all stages and since the first step, so that a
    // resumed making takes what it would have taken.
    const uint64_t index = order_.At(static_cast<uint64_t>(step_) * count + i);
    ASSIGN_OR_RETURN(Demonstration demonstration,
                     source_->Get(stage.mix(), index));
    ASSIGN_OR_RETURN(episodes.emplace_back(),
                     EncodeDemonstration(*chat_, model_, stage, demonstration));
  }
  return episodes;
}

absl::StatusOr<SftProgress> SftTrainer::Step() {
  CHECK_LT(step_, TotalSteps(config_));
  const auto start = std::chrono::steady_clock::now();
  int64_t step = step_;  // of its stage
  int index = 0;
  while (step >= config_.stage(index).steps()) {
    step -= config_.stage(index++).steps();
  }
  const SftStage& stage = config_.stage(index);
  SftStepOptions options;
  options.dense_attention = stage.attention() == SftStage::dense;
  options.train_model = stage.train_model();
  options.train_indexer = stage.train_indexer();
  options.bias_update_speed = config_.bias_update_speed();
  options.model.set_weight_decay(config_.weight_decay());
  // Each by itself: model and indexer have losses and norms of their own.
  options.model.set_grad_clip(config_.grad_clip());
  options.indexer.set_grad_clip(config_.grad_clip());
  options.model.set_learning_rate(
      StageRate(stage, stage.learning_rate(), step));
  options.indexer.set_learning_rate(
      StageRate(stage, stage.indexer_learning_rate(), step));
  ASSIGN_OR_RETURN(const std::vector<Episode> episodes, Batch(stage));
  std::vector<const Episode*> batch;
  for (const Episode& episode : episodes) batch.push_back(&episode);
  SftProgress progress;
  ASSIGN_OR_RETURN(progress.metrics, trainer_->Run(batch, options));
  progress.stage = stage.name();
  progress.step = ++step_;
  progress.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  return progress;
}

std::string WeightsDigest(const MasterWeights& weights) {
  const std::vector<float> values = weights.GetValues();
  return HexOf(Sha256Of(values.data(), values.size() * sizeof(float)));
}

}  // namespace temper
