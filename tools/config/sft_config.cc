#include "tools/config/sft_config.h"

#include <tuple>

#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "tools/config/key_rules.h"
#include "tools/config/text_config.h"

namespace temper {
namespace {

// What the table cannot say of a stage: keys that go together.
absl::Status CheckStage(const SftStage& stage) {
  if (!stage.train_model() && !stage.train_indexer()) {
    return absl::InvalidArgumentError(
        "trains nothing; set train_model or train_indexer");
  }
  for (const auto& [key, rate, trains, trained_by] :
       {std::tuple("learning_rate", stage.learning_rate(), stage.train_model(),
                   "train_model"),
        std::tuple("indexer_learning_rate", stage.indexer_learning_rate(),
                   stage.train_indexer(), "train_indexer")}) {
    // The table's default is 0: where it trains, a rate must have been meant.
    if (trains && rate == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(key, " 0 trains nothing; set it above 0, or ",
                       trained_by, " to false"));
    }
    if (!trains && rate != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(key, " ", rate, " has no effect: ", trained_by,
                       " is false; set that, or remove this"));
    }
  }
  if (stage.warmup_steps() > stage.steps()) {
    return absl::InvalidArgumentError(
        absl::StrCat("warmup_steps ", stage.warmup_steps(), " exceeds steps ",
                     stage.steps(), "; lower it"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SftConfig> ParseSftConfig(const std::string& text,
                                         const std::string& source) {
  SftConfig config;
  RETURN_IF_ERROR(ParseTextConfig(text, source, &config));
  return config;
}

absl::Status ResolveSftConfig(SftConfig* config) {
  RETURN_IF_ERROR(ResolveKeys(config));
  // Both have the empty text as default, for either may be left out, but not
  // both.
  if (config->model().empty() == config->model_config().empty()) {
    return absl::InvalidArgumentError(
        "give one of model (a checkpoint to go on from) and model_config (a "
        "config.json to start from)");
  }
  if (config->stage_size() == 0) {
    return absl::InvalidArgumentError("no stage is given; give at least one");
  }
  for (int i = 0; i < config->stage_size(); ++i) {
    const absl::Status status = CheckStage(config->stage(i));
    if (status.ok()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("stage ", i + 1, " (\"", config->stage(i).name(),
                     "\"): ", std::string(status.message())));
  }
  return absl::OkStatus();
}

absl::Status MakePathsAbsolute(SftConfig* config) {
  // The words of the table are no paths, nor is what is not given.
  for (const auto& [path, word] :
       {std::tuple(config->mutable_model(), ""),
        std::tuple(config->mutable_model_config(), ""),
        std::tuple(config->mutable_tokenizer(), "train"),
        std::tuple(config->mutable_demonstrations(), "quickstart"),
        std::tuple(config->mutable_output(), "")}) {
    if (path->empty() || *path == word) continue;
    ASSIGN_OR_RETURN(*path, AbsolutePath(*path));
  }
  return absl::OkStatus();
}

absl::Status CheckSameMaking(const SftConfig& was, const SftConfig& now) {
  const std::string change = ForbiddenChange(was, now);
  return change.empty() ? absl::OkStatus() : absl::InvalidArgumentError(change);
}

}  // namespace temper
