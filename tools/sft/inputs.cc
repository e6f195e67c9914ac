#include "tools/sft/inputs.h"

#include <chrono>
#include <cstdio>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/config.h"
#include "kernels/model/tokenizer_file.h"
#include "learner/train/init_weights.h"
#include "tools/cli/next_step.h"
#include "tools/cli/print.h"
#include "tools/quickstart/source.h"
#include "tools/run/loaded_model.h"
#include "tools/run/stop_signal.h"
#include "tools/sft/sft.h"

namespace temper {
namespace {

constexpr uint64_t kConfigBytesMax = 1 << 20;
constexpr uint64_t kTokenizerDemonstrations = 600;
constexpr auto kProgressEvery = std::chrono::seconds(5);

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
  if (config.has_model()) return LoadNamedMasters(backend, config.model());
  ASSIGN_OR_RETURN(auto weights, MasterWeights::Create(backend, model));
  RETURN_IF_ERROR(
      InitWeights(config.seed(), config.initializer_range(), weights.get()));
  return weights;
}

std::vector<std::string> MixesOf(const SftConfig& config) {
  std::set<std::string> seen;
  std::vector<std::string> mixes;
  for (const SftStage& stage : config.stage()) {
    if (seen.insert(stage.mix()).second) mixes.push_back(stage.mix());
  }
  return mixes;
}

// CheckDemonstrations with a line on stderr now and then.
absl::StatusOr<DemonstrationTotals> Check(const SftConfig& config,
                                          int64_t steps,
                                          const ModelConfig& model,
                                          const Tokenizer* tokenizer,
                                          const DemonstrationSource& source) {
  auto shown = std::chrono::steady_clock::now();
  return CheckDemonstrations(
      config, steps, model, tokenizer, source, [&](uint64_t checked) {
        const auto now = std::chrono::steady_clock::now();
        if (now - shown >= kProgressEvery) {
          PrintErr("%llu demonstrations checked\n",
                   static_cast<unsigned long long>(checked));
          shown = now;
        }
        return StopSignalCount() == 0;
      });
}

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(
    const SftConfig& config, int64_t steps, const ModelConfig& model,
    const DemonstrationSource& source) {
  if (config.tokenizer() == "train") {
    RETURN_IF_ERROR(
        Check(config, steps, model, /*tokenizer=*/nullptr, source).status());
    ASSIGN_OR_RETURN(
        TokenizerSpec spec,
        LearnTokenizer(source, MixesOf(config), kTokenizerDemonstrations,
                       static_cast<int32_t>(model.vocab_size)));
    ASSIGN_OR_RETURN(auto tokenizer, Tokenizer::Create(std::move(spec)));
    RETURN_IF_ERROR(CheckTokenizerFits(*tokenizer, model));
    return tokenizer;
  }
  if (!config.has_tokenizer() && !config.has_model()) {
    return absl::InvalidArgumentError(
        "tokenizer is not set; name a tokenizer.json, or \"train\" to learn "
        "one "
        "from the demonstrations");
  }
  return LoadNamedTokenizer(
      config.has_tokenizer() ? config.tokenizer()
                             : absl::StrCat(config.model(), "/tokenizer.json"),
      model);
}

// What lies beside the model to go on from, and the tokenizer.
absl::StatusOr<ModelFiles> MakeFiles(const SftConfig& config,
                                     const Tokenizer& tokenizer) {
  ModelFiles files;
  if (config.has_model()) {
    ASSIGN_OR_RETURN(files, ReadModelFiles(config.model()));
    if (config.has_tokenizer()) DropTokenizerFiles(&files);
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
  return OpenDemonstrations(config.demonstrations());
}

absl::StatusOr<SftInputs> ReadSftInputs(const SftConfig& config, int64_t steps,
                                        Backend* backend) {
  SftInputs inputs;
  ASSIGN_OR_RETURN(inputs.source, OpenSource(config));
  ASSIGN_OR_RETURN(const ModelConfig model,
                   config.has_model() ? ReadNamedConfig(config.model())
                                      : ReadStart(config.model_config()));
  ASSIGN_OR_RETURN(inputs.tokenizer,
                   MakeTokenizer(config, steps, model, *inputs.source));
  ASSIGN_OR_RETURN(inputs.files, MakeFiles(config, *inputs.tokenizer));
  ASSIGN_OR_RETURN(
      const DemonstrationTotals totals,
      Check(config, steps, model, inputs.tokenizer.get(), *inputs.source));
  PrintErr(
      "%llu demonstrations of %lld tokens, %lld of them to learn; the "
      "longest has %lld\n",
      static_cast<unsigned long long>(totals.demonstrations),
      static_cast<long long>(totals.tokens),
      static_cast<long long>(totals.learnt),
      static_cast<long long>(totals.longest));
  ASSIGN_OR_RETURN(inputs.weights, MakeWeights(config, model, backend));
  return inputs;
}

}  // namespace temper
