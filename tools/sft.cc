#include "tools/sft.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <sstream>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "kernels/base/checksum.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/bpe_trainer.h"
#include "kernels/model/chat_tokens.h"
#include "proto/wire/episode_limit.h"
#include "proto/wire/json_line.h"
#include "rollout/chat_template.h"
#include "tools/config_keys.h"
#include "tools/next_step.h"
#include "tools/text_config.h"

namespace temper {
namespace {

constexpr int64_t kPreambleWeight = 20;
constexpr int64_t kDemonstrationBytesMax = int64_t{1} << 30;

class FileSource : public DemonstrationSource {
 public:
  explicit FileSource(std::vector<Demonstration> demonstrations)
      : demonstrations_(std::move(demonstrations)) {}

  absl::StatusOr<Demonstration> Get(const std::string& mix,
                                    uint64_t index) override {
    if (!mix.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "mix \"", mix, "\": a demonstrations file has no mixes; leave it out"));
    }
    return demonstrations_[index % demonstrations_.size()];
  }

 private:
  const std::vector<Demonstration> demonstrations_;
};

void DropPreamble(Demonstration* demonstration) {
  demonstration->clear_tools();
  auto* const messages = demonstration->mutable_messages();
  for (int i = messages->size() - 1; i >= 0; --i) {
    if (messages->Get(i).role() == "system") {
      messages->DeleteSubrange(i, 1);
    }
  }
}

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
  const std::string where = absl::StrCat("stage ", index + 1, " (\"",
                                         stage.name(), "\"): ");
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
       {std::tuple("learning_rate", stage.learning_rate(),
                   stage.train_model()),
        std::tuple("indexer_learning_rate", stage.indexer_learning_rate(),
                   stage.train_indexer())}) {
    if (used && !(rate > 0 && rate <= 1)) {
      return absl::InvalidArgumentError(absl::StrCat(
          where, key, " ", rate, " is outside (0, 1]"));
    }
    if (!used && rate != 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          where, key, " ", rate, " has no effect: nothing here trains by it"));
    }
  }
  RETURN_IF_ERROR(CheckRange(where + "warmup_steps", stage.warmup_steps(), 0,
                             stage.steps()));
  RETURN_IF_ERROR(CheckRange(where + "final_fraction", stage.final_fraction(),
                             0, 1));
  return CheckRange(where + "decay_fraction", stage.decay_fraction(), 0, 1);
}

}  // namespace

absl::StatusOr<std::unique_ptr<DemonstrationSource>> OpenDemonstrations(
    const std::string& path) {
  const auto text = ReadFile(path, kDemonstrationBytesMax);
  RETURN_IF_ERROR(IfUnusable(
      text.status(),
      "set demonstrations to a demonstrations.jsonl file, or to quickstart"));
  std::vector<Demonstration> demonstrations;
  std::istringstream lines(*text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.empty()) continue;
    Demonstration demonstration;
    RETURN_IF_ERROR(ParseJsonLine(line, absl::StrCat(path, ":", number),
                                  &demonstration));
    demonstrations.push_back(std::move(demonstration));
  }
  if (demonstrations.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " holds no demonstrations"));
  }
  return std::make_unique<FileSource>(std::move(demonstrations));
}

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
  const std::tuple<const char*, double, double, double> limits[] = {
      {"threads", config->threads(), 0, 1024},
      {"demonstrations_per_step", config->demonstrations_per_step(), 1, 4096},
      {"weight_decay", config->weight_decay(), 0, 10},
      {"grad_clip", config->grad_clip(), 1e-9,
       std::numeric_limits<double>::infinity()},
      {"initializer_range", config->initializer_range(), 1e-9, 10},
      {"bias_update_speed", config->bias_update_speed(), 0, 1}};
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

absl::StatusOr<Episode> EncodeDemonstration(
    const Tokenizer& tokenizer, const Demonstration& demonstration) {
  ASSIGN_OR_RETURN(const auto chat, ChatTemplate::Create(&tokenizer));
  ASSIGN_OR_RETURN(
      RenderedChat rendered,
      chat->Render({demonstration.messages().begin(),
                    demonstration.messages().end()},
                   {demonstration.tools().begin(), demonstration.tools().end()},
                   ChatOptions()));
  EpisodeBranch branch;
  branch.tokens = std::move(rendered.tokens);
  branch.kept_offsets.push_back(0);
  for (size_t t = 0; t < branch.tokens.size(); ++t) {
    if (!rendered.sampled[t]) continue;
    branch.sampled.push_back(static_cast<int32_t>(t));
    branch.logprobs.push_back(0);
    branch.kept_offsets.push_back(0);
  }
  if (branch.sampled.empty()) {
    return absl::InvalidArgumentError(
        "a demonstration has no assistant message after its last user message");
  }
  Episode episode;
  episode.branches.push_back(std::move(branch));
  return episode;
}

absl::StatusOr<TokenizerSpec> LearnTokenizer(
    DemonstrationSource* source, const std::vector<std::string>& mixes,
    uint64_t count, int32_t vocab_size) {
  std::vector<TrainingText> texts;
  for (const std::string& mix : mixes) {
    for (uint64_t i = 0; i < count; ++i) {
      ASSIGN_OR_RETURN(const Demonstration demonstration, source->Get(mix, i));
      ASSIGN_OR_RETURN(
          const std::string text,
          RenderChatText({demonstration.messages().begin(),
                          demonstration.messages().end()},
                         {demonstration.tools().begin(),
                          demonstration.tools().end()},
                         ChatOptions()));
      // The preamble is the same in all: it is learnt from once, heavily
      // enough to be cut into few tokens.
      const size_t user = text.find(kUserToken);
      if (texts.empty()) texts.push_back({text, kPreambleWeight});
      texts.push_back({user == std::string::npos ? text : text.substr(user), 1});
    }
  }
  BpeTrainerOptions options;
  options.vocab_size = vocab_size;
  return TrainBpe(texts, options);
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

absl::Status RunSft(const SftConfig& config, Backend* backend,
                    const Tokenizer& tokenizer, DemonstrationSource* source,
                    ModelWeights* weights,
                    const std::function<bool(const SftProgress&)>& report) {
  ASSIGN_OR_RETURN(const auto trainer,
                   SftStep::Create(backend, weights, kEpisodeTokensMax));
  SftProgress progress;
  for (const SftStage& stage : config.stage()) {
    progress.steps_total += stage.steps();
  }
  uint64_t next = 0;
  for (const SftStage& stage : config.stage()) {
    SftStepOptions options;
    options.dense_attention = stage.attention() == "dense";
    options.train_model = stage.train_model();
    options.train_indexer = stage.train_indexer();
    options.bias_update_speed = config.bias_update_speed();
    options.model.weight_decay = config.weight_decay();
    options.model.grad_clip = options.indexer.grad_clip = config.grad_clip();
    for (int64_t step = 0; step < stage.steps(); ++step) {
      const auto start = std::chrono::steady_clock::now();
      std::vector<Episode> episodes;
      for (uint32_t i = 0; i < config.demonstrations_per_step(); ++i) {
        ASSIGN_OR_RETURN(Demonstration demonstration,
                         source->Get(stage.mix(), next++));
        if (stage.has_preamble() && !stage.preamble()) {
          DropPreamble(&demonstration);
        }
        auto episode = EncodeDemonstration(tokenizer, demonstration);
        if (!episode.ok()) {
          return absl::Status(
              episode.status().code(),
              absl::StrCat("demonstration ", next, " in the order of training: ",
                           std::string(episode.status().message())));
        }
        episodes.push_back(*std::move(episode));
      }
      std::vector<const Episode*> batch;
      for (const Episode& episode : episodes) batch.push_back(&episode);
      options.model.learning_rate =
          StageRate(stage, stage.learning_rate(), step);
      options.indexer.learning_rate =
          StageRate(stage, stage.indexer_learning_rate(), step);
      ASSIGN_OR_RETURN(progress.metrics, trainer->Run(batch, options));
      progress.stage = &stage;
      progress.stage_step = step + 1;
      ++progress.step;
      progress.seconds = std::chrono::duration<double>(
                             std::chrono::steady_clock::now() - start)
                             .count();
      if (!report(progress)) return absl::OkStatus();
    }
  }
  return absl::OkStatus();
}

std::string WeightsDigest(const ModelWeights& weights) {
  const std::vector<float> values = weights.GetValues();
  return HexOf(Sha256Of(values.data(), values.size() * sizeof(float)));
}

}  // namespace temper
