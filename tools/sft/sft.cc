#include "tools/sft/sft.h"

#include <chrono>
#include <limits>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/checksum.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "proto/wire/episode_limit.h"
#include "tools/config/config_keys.h"
#include "tools/config/text_config.h"

namespace temper {
namespace {

// What to say of a name that is no key where it stands in a file.
std::string UnknownKey(const std::string&, const std::string& name) {
  std::vector<std::string> names;
  for (const auto* part : {SftConfig::descriptor(), SftStage::descriptor()}) {
    for (int i = 0; i < part->field_count(); ++i) {
      if (part->field(i)->name() == name) {
        return part == SftStage::descriptor()
                   ? absl::StrCat(name, " belongs in stage { }")
                   : absl::StrCat(name, " belongs outside every stage");
      }
      names.push_back(part->field(i)->name());
    }
  }
  const std::string nearest = Nearest(name, names);
  return absl::StrCat("unknown key ", name,
                      nearest.empty()
                          ? "; proto/sft_config.proto has every key"
                          : absl::StrCat("; did you mean ", nearest, "?"));
}

// Written so that a NaN fails.
absl::Status CheckRange(const std::string& key, double value, double min,
                        double max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(key, " ", value, " is outside ", min, " .. ", max));
}

absl::Status CheckStage(const SftStage& stage, int index) {
  const std::string where =
      absl::StrCat("stage ", index + 1, " (\"", stage.name(), "\"): ");
  if (stage.steps() == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, "steps 0; give it at least 1"));
  }
  if (stage.attention() != "dense" && stage.attention() != "sparse") {
    return absl::InvalidArgumentError(
        absl::StrCat(where, "attention \"", stage.attention(),
                     "\" is none of dense | sparse"));
  }
  if (!stage.train_model() && !stage.train_indexer()) {
    return absl::InvalidArgumentError(absl::StrCat(
        where, "trains nothing; set train_model or train_indexer"));
  }
  for (const auto& [key, rate, used] :
       {std::tuple("learning_rate", stage.learning_rate(), stage.train_model()),
        std::tuple("indexer_learning_rate", stage.indexer_learning_rate(),
                   stage.train_indexer())}) {
    if (used && !(rate > 0 && rate <= 1)) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, key, " ", rate, " is outside (0, 1]"));
    }
    if (!used && rate != 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          where, key, " ", rate, " has no effect: nothing here trains by it"));
    }
  }
  RETURN_IF_ERROR(CheckRange(where + "warmup_steps", stage.warmup_steps(), 0,
                             stage.steps()));
  RETURN_IF_ERROR(
      CheckRange(where + "final_fraction", stage.final_fraction(), 0, 1));
  return CheckRange(where + "decay_fraction", stage.decay_fraction(), 0, 1);
}

}  // namespace

absl::StatusOr<SftConfig> ParseSftConfig(const std::string& text,
                                         const std::string& source) {
  SftConfig config;
  RETURN_IF_ERROR(ParseTextConfig(text, source, UnknownKey, &config));
  return config;
}

absl::Status ResolveSftConfig(SftConfig* config) {
  if (config->has_model() == config->has_model_config()) {
    return absl::InvalidArgumentError(
        "give one of model (a checkpoint to go on from) and model_config (a "
        "config.json to start from)");
  }
  if (!config->has_demonstrations()) {
    return absl::InvalidArgumentError(
        "demonstrations is not set; name a demonstrations.jsonl, or a "
        "generator: quickstart");
  }
  if (!config->has_output()) {
    return absl::InvalidArgumentError(
        "output is not set; name the directory for the checkpoint");
  }
  if (!config->has_output_dtype()) config->set_output_dtype("BF16");
  if (config->output_dtype() != "BF16" && config->output_dtype() != "F32") {
    return absl::InvalidArgumentError(absl::StrCat(
        "output_dtype \"", config->output_dtype(), "\" is none of BF16 | F32"));
  }
  if (!config->has_seed()) config->set_seed(1);
  if (!config->has_demonstrations_per_step()) {
    config->set_demonstrations_per_step(32);
  }
  if (!config->has_weight_decay()) config->set_weight_decay(0.05);
  if (!config->has_grad_clip()) config->set_grad_clip(1);
  if (!config->has_initializer_range()) config->set_initializer_range(0.02);
  if (!config->has_bias_update_speed()) config->set_bias_update_speed(0.001);
  if (!config->has_save_interval()) config->set_save_interval(20);
  const std::tuple<const char*, double, double, double> limits[] = {
      {"threads", config->threads(), 0, 1024},
      {"demonstrations_per_step", config->demonstrations_per_step(), 1, 4096},
      {"weight_decay", config->weight_decay(), 0, 10},
      {"grad_clip", config->grad_clip(), 1e-9,
       std::numeric_limits<double>::infinity()},
      {"initializer_range", config->initializer_range(), 1e-9, 10},
      {"bias_update_speed", config->bias_update_speed(), 0, 1},
      {"save_interval", config->save_interval(), 1, 1e6}};
  for (const auto& [key, value, min, max] : limits) {
    RETURN_IF_ERROR(CheckRange(key, value, min, max));
  }
  if (config->stage_size() == 0) {
    return absl::InvalidArgumentError("no stage is given; give at least one");
  }
  for (int i = 0; i < config->stage_size(); ++i) {
    RETURN_IF_ERROR(CheckStage(config->stage(i), i));
  }
  return absl::OkStatus();
}

int64_t TotalSteps(const SftConfig& config) {
  int64_t steps = 0;
  for (const SftStage& stage : config.stage()) steps += stage.steps();
  return steps;
}

double StageRate(const SftStage& stage, double peak, int64_t step) {
  const double warmup = stage.warmup_steps();
  if (static_cast<double>(step) < warmup) {
    return peak * (static_cast<double>(step) + 1) / warmup;
  }
  const double total = stage.steps();
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
  options.dense_attention = stage.attention() == "dense";
  options.train_model = stage.train_model();
  options.train_indexer = stage.train_indexer();
  options.bias_update_speed = config_.bias_update_speed();
  options.model.weight_decay = config_.weight_decay();
  options.model.grad_clip = options.indexer.grad_clip = config_.grad_clip();
  options.model.learning_rate = StageRate(stage, stage.learning_rate(), step);
  options.indexer.learning_rate =
      StageRate(stage, stage.indexer_learning_rate(), step);
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
