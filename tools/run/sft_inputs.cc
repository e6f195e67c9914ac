#include "tools/run/sft_inputs.h"

#include <cstdio>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/chat/template.h"
#include "kernels/model/config.h"
#include "kernels/model/tokenizer_file.h"
#include "learner/train/init_weights.h"
#include "tools/cli/next_step.h"
#include "tools/cli/print.h"
#include "tools/cli/progress_timer.h"
#include "tools/config/sft_config.h"
#include "tools/quickstart/source.h"
#include "tools/run/loaded_model.h"
#include "tools/run/stop_signal.h"

namespace temper {
namespace {

constexpr uint64_t kConfigBytesMax = 1 << 20;
constexpr uint64_t kDemonstrationBytesMax = uint64_t{1} << 30;
constexpr uint64_t kTokenizerDemonstrations = 600;

absl::StatusOr<ModelConfig> ReadStart(const std::string& path) {
  constexpr char kNext[] =
      "set model_config to a config.json of the Hugging Face layout";
  const auto json = ReadFile(path, kConfigBytesMax);
  RETURN_IF_ERROR(IfUnusable(json.status(), kNext));
  auto model = ParseModelConfig(*json);
  if (model.ok()) return model;
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": ", std::string(model.status().message()), "; ", kNext));
}

absl::StatusOr<std::unique_ptr<MasterWeights>> MakeWeights(
    const SftConfig& config, const ModelConfig& model, Backend* backend) {
  if (!config.model().empty()) return LoadNamedMasters(backend, config.model());
  ASSIGN_OR_RETURN(auto weights, MasterWeights::Create(backend, model));
  RETURN_IF_ERROR(
      InitWeights(config.seed(), config.initializer_range(), weights.get()));
  return weights;
}

std::vector<std::string> MixesOf(const SftConfig& config) {
  // In the order of the stages: the tokenizer is learnt from texts in an order.
  std::set<std::string> seen;
  std::vector<std::string> mixes;
  for (const SftStage& stage : config.stage()) {
    if (seen.insert(stage.mix()).second) mixes.push_back(stage.mix());
  }
  return mixes;
}

// CheckDemonstrations with a line on stderr now and then. Where `tokenizer` is
// null it is yet to be learnt.
absl::StatusOr<DemonstrationTotals> Check(const SftConfig& config,
                                          int64_t steps,
                                          const ModelConfig& model,
                                          const Tokenizer* tokenizer,
                                          const DemonstrationSource& source) {
  std::unique_ptr<ChatTemplate> chat;
  if (tokenizer != nullptr) {
    auto made = ChatTemplate::Create(tokenizer);
    RETURN_IF_ERROR(IfUnusable(made.status(), kNameATokenizer));
    chat = *std::move(made);
  }
  ProgressTimer timer;
  return CheckDemonstrations(
      config, steps, model, chat.get(), source, [&](uint64_t checked) {
        if (timer.Due()) PrintErr("%d demonstrations checked\n", checked);
        return StopSignalCount() == 0;
      });
}

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(
    const SftConfig& config, int64_t steps, const ModelConfig& model,
    const DemonstrationSource& source) {
  // Without a tokenizer nothing can be counted in tokens yet: that is checked
  // once it is there.
  if (config.tokenizer() == "train") {
    RETURN_IF_ERROR(
        Check(config, steps, model, /*tokenizer=*/nullptr, source).status());
    ASSIGN_OR_RETURN(
        TokenizerSpec spec,
        LearnTokenizer(source, MixesOf(config), kTokenizerDemonstrations,
                       static_cast<int32_t>(model.vocab_size),
                       [] { return StopSignalCount() == 0; }));
    ASSIGN_OR_RETURN(auto tokenizer, Tokenizer::Create(std::move(spec)));
    RETURN_IF_ERROR(CheckTokenizerFits(*tokenizer, model));
    return tokenizer;
  }
  if (config.tokenizer().empty() && config.model().empty()) {
    return absl::InvalidArgumentError(
        "tokenizer is not set; name a tokenizer.json, or \"train\" to learn "
        "one "
        "from the demonstrations");
  }
  return LoadNamedTokenizer(
      config.tokenizer().empty()
          ? absl::StrCat(config.model(), "/tokenizer.json")
          : config.tokenizer(),
      model);
}

// What lies beside the model to go on from, and the tokenizer.
absl::StatusOr<ModelFiles> MakeFiles(const SftConfig& config,
                                     const Tokenizer& tokenizer) {
  ModelFiles files;
  if (!config.model().empty()) {
    ASSIGN_OR_RETURN(files, ReadModelFiles(config.model()));
    if (!config.tokenizer().empty()) DropTokenizerFiles(&files);
    const auto generation = files.find("generation_config.json");
    if (generation != files.end()) {
      RETURN_IF_ERROR(CheckGenerationConfig(
          tokenizer, absl::StrCat(config.model(), "/", generation->first),
          generation->second));
    }
  }
  // Its own bytes, if it is that model's.
  files.try_emplace("tokenizer.json", TokenizerJson(tokenizer.spec()));
  return files;
}

}  // namespace

absl::StatusOr<SftConfig> ReadSftConfig(const std::string& path,
                                        const std::string& output) {
  const auto text = ReadFile(path, kConfigBytesMax);
  RETURN_IF_ERROR(IfUnusable(
      text.status(),
      "name an SftConfig, as tools/configs/quickstart_sft.textproto is one"));
  ASSIGN_OR_RETURN(SftConfig config, ParseSftConfig(*text, path));
  if (!output.empty()) config.set_output(output);
  RETURN_IF_ERROR(ResolveSftConfig(&config));
  return config;
}

absl::StatusOr<std::unique_ptr<DemonstrationSource>> OpenSource(
    const SftConfig& config) {
  if (config.demonstrations() == "quickstart") {
    return NewQuickstartSource(config.seed());
  }
  const std::string& path = config.demonstrations();
  auto text = ReadFile(path, kDemonstrationBytesMax);
  RETURN_IF_ERROR(IfUnusable(
      text.status(),
      "set demonstrations to a demonstrations.jsonl file, or to quickstart"));
  return DemonstrationsOfText(path, *std::move(text));
}

absl::StatusOr<SftInputs> ReadSftInputs(const SftConfig& config, int64_t steps,
                                        Backend* backend) {
  SftInputs inputs;
  ASSIGN_OR_RETURN(inputs.source, OpenSource(config));
  ASSIGN_OR_RETURN(const ModelConfig model,
                   config.model().empty() ? ReadStart(config.model_config())
                                          : ReadNamedConfig(config.model()));
  ASSIGN_OR_RETURN(inputs.tokenizer,
                   MakeTokenizer(config, steps, model, *inputs.source));
  ASSIGN_OR_RETURN(inputs.files, MakeFiles(config, *inputs.tokenizer));
  ASSIGN_OR_RETURN(
      const DemonstrationTotals totals,
      Check(config, steps, model, inputs.tokenizer.get(), *inputs.source));
  PrintErr(
      "%d demonstrations of %d tokens, %d of them to learn; the "
      "longest has %d\n",
      totals.demonstrations, totals.tokens, totals.learnt, totals.longest);
  // Last: it takes longest, and of the rest more goes wrong.
  ASSIGN_OR_RETURN(inputs.weights, MakeWeights(config, model, backend));
  return inputs;
}

}  // namespace temper
