#include "tools/cmd_sft.h"

#include <cstdint>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/checksum.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/config.h"
#include "kernels/model/tokenizer_file.h"
#include "learner/init_weights.h"
#include "tools/cli.h"
#include "tools/compute.h"
#include "tools/flags.h"
#include "tools/loaded_model.h"
#include "tools/next_step.h"
#include "tools/quickstart_source.h"
#include "tools/sft.h"
#include "tools/stop_signal.h"

namespace temper {
namespace {

constexpr uint64_t kConfigBytesMax = 1 << 20;
constexpr uint64_t kModelBytesMax = uint64_t{1} << 40;
constexpr uint64_t kTokenizerDemonstrations = 600;
constexpr int64_t kDigestStep = 20;
constexpr int64_t kReportEvery = 20;

struct SftFlags {
  std::string config_path;
  std::string output;
  std::string revision;
  int64_t steps = 0;  // 0: all
};

absl::StatusOr<SftConfig> LoadSftConfig(const SftFlags& flags) {
  const auto text = ReadFile(flags.config_path, kConfigBytesMax);
  RETURN_IF_ERROR(IfUnusable(
      text.status(),
      "name an SftConfig, as tools/configs/quickstart_sft.textproto is one"));
  ASSIGN_OR_RETURN(SftConfig config, ParseSftConfig(*text, flags.config_path));
  if (!flags.output.empty()) config.set_output(flags.output);
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

std::vector<std::string> MixesOf(const SftConfig& config) {
  std::map<std::string, int> seen;
  std::vector<std::string> mixes;
  for (const SftStage& stage : config.stage()) {
    if (seen[stage.mix()]++ == 0) mixes.push_back(stage.mix());
  }
  return mixes;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(
    const SftConfig& config, const ModelConfig& model,
    DemonstrationSource* source) {
  if (config.tokenizer() == "train") {
    ASSIGN_OR_RETURN(TokenizerSpec spec,
                     LearnTokenizer(source, MixesOf(config),
                                    kTokenizerDemonstrations,
                                    static_cast<int32_t>(model.vocab_size)));
    return Tokenizer::Create(std::move(spec));
  }
  if (!config.has_tokenizer() && !config.has_model()) {
    return absl::InvalidArgumentError(
        "tokenizer is not set; name a tokenizer.json, or \"train\" to learn one "
        "from the demonstrations");
  }
  return LoadNamedTokenizer(
      config.has_tokenizer() ? config.tokenizer()
                             : absl::StrCat(config.model(), "/tokenizer.json"),
      model);
}

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

absl::StatusOr<std::unique_ptr<ModelWeights>> MakeWeights(
    const SftConfig& config, Backend* backend) {
  if (config.has_model()) return LoadNamedWeights(backend, config.model());
  ASSIGN_OR_RETURN(const ModelConfig model, ReadStart(config.model_config()));
  ASSIGN_OR_RETURN(auto weights, ModelWeights::Create(backend, model));
  RETURN_IF_ERROR(
      InitWeights(config.seed(), config.initializer_range(), weights.get()));
  return weights;
}

void Report(const SftProgress& progress, double elapsed) {
  const double per_step = elapsed / static_cast<double>(progress.step);
  const double left =
      per_step * static_cast<double>(progress.steps_total - progress.step);
  fprintf(stderr,
          "%5lld/%lld  %-16s loss %.4f  indexer kl %.4f  load %.2f  "
          "%.0f rows/s  eta %.0f s\n",
          static_cast<long long>(progress.step),
          static_cast<long long>(progress.steps_total),
          progress.stage->name().c_str(), progress.metrics.loss,
          progress.metrics.indexer_kl, progress.metrics.load_max,
          static_cast<double>(progress.metrics.rows) / progress.seconds, left);
}

// Makes the directory, which must be new or empty, before hours of work.
absl::Status MakeOutput(const std::string& output) {
  const auto names = ListDirectory(output);
  if (names.ok() && !names->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        output, " exists and holds ", names->front(),
        "; give another --output, or remove what is there"));
  }
  if (!names.ok() && !absl::IsNotFound(names.status())) {
    return IfUnusable(names.status(), "name a new directory as --output");
  }
  return IfUnusable(MakeDirectories(output),
                    "name a directory that can be made as --output");
}

absl::StatusOr<std::string> FileDigest(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kModelBytesMax));
  return HexOf(Sha256Of(bytes));
}

// What another making is compared with, step by step and at its end. What was
// not given or not reached has no key.
absl::Status WriteManifest(const SftConfig& config, const std::string& revision,
                           int64_t steps, const std::string& digest_early,
                           const ModelWeights& weights) {
  nlohmann::json manifest = {{"made_by", "temper sft"},
                             {"steps", steps},
                             {"fp32_sha256", WeightsDigest(weights)},
                             {"files", nlohmann::json::object()}};
  if (!revision.empty()) manifest["revision"] = revision;
  if (!digest_early.empty()) {
    manifest[absl::StrCat("fp32_sha256_after_step_", kDigestStep)] =
        digest_early;
  }
  for (const char* name : {"config.json", "model.safetensors",
                           "tokenizer.json"}) {
    ASSIGN_OR_RETURN(manifest["files"][name],
                     FileDigest(absl::StrCat(config.output(), "/", name)));
  }
  return WriteFileDurably(absl::StrCat(config.output(), "/manifest.json"),
                          manifest.dump(2) + "\n");
}

absl::Status MakeCheckpoint(const SftFlags& flags) {
  ASSIGN_OR_RETURN(const SftConfig config, LoadSftConfig(flags));
  RETURN_IF_ERROR(MakeOutput(config.output()));
  ASSIGN_OR_RETURN(const auto backend,
                   NewComputeBackend(static_cast<int>(config.threads())));
  ASSIGN_OR_RETURN(const auto source, OpenSource(config));
  ASSIGN_OR_RETURN(const auto weights, MakeWeights(config, backend.get()));
  ASSIGN_OR_RETURN(const auto tokenizer,
                   MakeTokenizer(config, weights->config(), source.get()));
  ASSIGN_OR_RETURN(const std::string tier, ComputeTierName());
  fprintf(stderr,
          "%lld parameters, %lld of them active; %d tokens; %s, %d threads\n",
          static_cast<long long>(weights->config().parameter_count()),
          static_cast<long long>(weights->config().active_parameter_count()),
          tokenizer->vocab_size(), tier.c_str(),
          ComputeThreads(static_cast<int>(config.threads())));
  double elapsed = 0;
  int64_t steps = 0, steps_total = 0;
  std::string digest_early;
  RETURN_IF_ERROR(RunSft(
      config, backend.get(), *tokenizer, source.get(), weights.get(),
      [&](const SftProgress& progress) {
        elapsed += progress.seconds;
        steps = progress.step;
        steps_total = progress.steps_total;
        if (steps == kDigestStep) digest_early = WeightsDigest(*weights);
        if (steps % kReportEvery == 0 || steps == progress.steps_total) {
          Report(progress, elapsed);
        }
        return StopSignalCount() == 0 && steps != flags.steps;
      }));
  RETURN_IF_ERROR(WriteFileDurably(
      absl::StrCat(config.output(), "/tokenizer.json"),
      TokenizerJson(tokenizer->spec())));
  RETURN_IF_ERROR(weights->Save(config.output(), config.output_dtype()));
  RETURN_IF_ERROR(WriteManifest(config, flags.revision, steps, digest_early,
                                *weights));
  if (StopSignalCount() > 0 && steps < steps_total) {
    return absl::CancelledError(
        absl::StrCat("stopped after step ", steps, " of ", steps_total,
                     ", whose weights are in ", config.output(),
                     "; a stopped sft is not resumed"));
  }
  printf("%s\n", config.output().c_str());
  return absl::OkStatus();
}

}  // namespace

int RunSftVerb(int argc, char** argv) {
  SftFlags values;
  Flags flags("sft", "Makes a checkpoint from demonstrations.");
  flags.Text("CONFIG", &values.config_path,
             "An SftConfig in text format (proto/sft_config.proto).");
  flags.Require();
  flags.Text("--output", &values.output,
             "The checkpoint's directory, new or empty, instead of the "
             "configuration's.");
  flags.Text("--revision", &values.revision,
             "The source revision, written into manifest.json.");
  flags.Number("--steps", &values.steps, 0, 1'000'000'000,
               "Stop after so many steps; 0 runs them all.");
  if (const auto code = flags.Parse(argc, argv)) return *code;
  InstallStopSignal();
  const absl::Status status = MakeCheckpoint(values);
  return status.ok() ? kExitDone : ReportError("sft", status);
}

}  // namespace temper
