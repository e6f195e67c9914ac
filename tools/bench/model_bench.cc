#include "tools/bench/model_bench.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/rng.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/config.h"
#include "kernels/model/gradients.h"
#include "kernels/model/transformer.h"
#include "learner/intake/episode.h"
#include "learner/train/init_weights.h"
#include "learner/train/packer.h"
#include "learner/train/token_logprob.h"
#include "rollout/engine.h"
#include "tools/bench/model_flops.h"
#include "tools/run/loaded_model.h"

namespace temper {
namespace {

constexpr uint64_t kConfigBytesMax = 1 << 20;
constexpr uint64_t kSeed = 1;
constexpr double kInitializerRange = 0.02;
constexpr int kPackSequences = 2;
constexpr int64_t kPackTokens = 256;
constexpr int64_t kPromptTokens = 128;
// Sampled before a sequence starts anew: long enough that hardly a step has a
// prompt in it.
constexpr int64_t kDecodeTokens = 1024;
constexpr int64_t kDecodeSequences[] = {1, 8, 32, 256};

int32_t RandomToken(const ModelConfig& config, int64_t sequence, int64_t at) {
  RngKey key;
  key.seed = kSeed;
  key.sample = static_cast<uint32_t>(sequence);
  key.ordinal = static_cast<uint32_t>(at);
  return static_cast<int32_t>(
      UniformBelow(key, static_cast<uint32_t>(config.vocab_size)));
}

// A sequence of which every token but the first counts as sampled.
Episode RandomEpisode(const ModelConfig& config, int number, int64_t tokens) {
  EpisodeBranch branch;
  branch.kept_offsets.push_back(0);
  for (int64_t t = 0; t < tokens; ++t) {
    branch.tokens.push_back(RandomToken(config, number, t));
    if (t == 0) continue;
    branch.sampled.push_back(static_cast<int32_t>(t));
    branch.logprobs.push_back(0);
    branch.kept_offsets.push_back(0);
  }
  Episode episode;
  episode.group = static_cast<uint64_t>(number);
  episode.branches.push_back(std::move(branch));
  return episode;
}

// None, if there is no peak.
Work Fmas(MachinePeak* peak) {
  if (peak == nullptr) return {};
  return [peak]() -> absl::StatusOr<double> { return peak->RunFmas(); };
}

// What training does with a pack, without the update. Routes and kept sets are
// not given, as random tokens have none that a sampler chose, and nothing is
// shared: rows computed are the rows that the FLOP are counted of.
class PackRunner {
 public:
  static absl::StatusOr<std::unique_ptr<PackRunner>> Create(
      Backend* backend, const PublishedWeights* weights) {
    auto runner = std::unique_ptr<PackRunner>(new PackRunner());
    const ModelConfig& config = weights->config();
    constexpr int64_t kRows = kPackSequences * kPackTokens;
    std::vector<Episode> episodes;
    std::vector<const Episode*> pointers;
    for (int s = 0; s < kPackSequences; ++s) {
      episodes.push_back(RandomEpisode(config, s, kPackTokens + 1));
    }
    for (const Episode& episode : episodes) pointers.push_back(&episode);
    ASSIGN_OR_RETURN(auto packs, PackEpisodes(config, pointers, kRows,
                                              /*keep_routing=*/false,
                                              PrefixSharing::kUnshared));
    runner->pack_ = std::move(packs.front());
    runner->backend_ = backend;
    runner->weights_ = weights;
    ASSIGN_OR_RETURN(runner->model_,
                     Transformer::Create(backend, weights, kRows));
    ASSIGN_OR_RETURN(runner->tape_, runner->model_->NewTape(kRows));
    ASSIGN_OR_RETURN(runner->gradients_,
                     ModelGradients::Create(backend, config));
    runner->logprob_ = std::make_unique<TokenLogProb>(backend);
    return runner;
  }

  int64_t rows() const { return pack_.batch.size(); }

  absl::Status Run(BenchPass pass) {
    TokenBatch batch = pack_.batch;
    Tensor hidden;
    RETURN_IF_ERROR(model_->Forward(&batch, nullptr, tape_.get(), {}, &hidden));
    ASSIGN_OR_RETURN(const TokenLogProbs result,
                     logprob_->Forward(*weights_, hidden, pack_,
                                       /*temperature=*/1,
                                       /*keep_sampling_mask=*/false));
    if (pass == BenchPass::kForward) return backend_->Sync();
    const std::vector<float> dlogp(
        result.logp.size(), -1.0f / static_cast<float>(result.logp.size()));
    ASSIGN_OR_RETURN(const Tensor dhidden,
                     logprob_->Backward(*weights_, dlogp, gradients_.get()));
    model_->Backward(tape_.get(), dhidden, gradients_.get());
    return backend_->Sync();
  }

 private:
  PackRunner() = default;

  Backend* backend_ = nullptr;
  const PublishedWeights* weights_ = nullptr;
  PackedBatch pack_;
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<Tape> tape_;
  std::unique_ptr<ModelGradients> gradients_;
  std::unique_ptr<TokenLogProb> logprob_;
};

// An engine kept full: a sequence that ends begins again.
class Decoder {
 public:
  static absl::StatusOr<std::unique_ptr<Decoder>> Create(
      Backend* backend, PublishedWeights* weights, int64_t sequences) {
    auto decoder = std::unique_ptr<Decoder>(new Decoder());
    const int64_t positions = weights->config().max_position_embeddings;
    const int64_t length = std::min(kPromptTokens + kDecodeTokens, positions);
    if (length <= kPromptTokens) {
      return absl::InvalidArgumentError(
          absl::StrCat("the model has ", positions,
                       " positions; decoding is measured after "
                       "prompts of ",
                       kPromptTokens));
    }
    EngineOptions options;
    options.pages = static_cast<int32_t>(
        sequences * ((length + kPageTokens - 1) / kPageTokens) + 1);
    options.sequences_max = sequences;
    options.sample_rows_max = std::min<int64_t>(sequences, 64);
    ASSIGN_OR_RETURN(decoder->engine_,
                     Engine::Create(backend, weights, 1, options));
    decoder->sample_max_ = length - kPromptTokens;
    for (int64_t s = 0; s < sequences; ++s) RETURN_IF_ERROR(decoder->Start());
    // Until all sample in one step: what is measured is decoding alone.
    int64_t sampled = 0;
    while (sampled < sequences) {
      ASSIGN_OR_RETURN(sampled, decoder->Step());
    }
    return decoder;
  }

  // How many tokens were sampled.
  absl::StatusOr<int64_t> Step() {
    const int64_t before = engine_->stats().sampled_tokens;
    ASSIGN_OR_RETURN(const std::vector<StoppedSequence> stopped,
                     engine_->Step());
    for (const StoppedSequence& sequence : stopped) {
      engine_->Close(sequence.id);
      RETURN_IF_ERROR(Start());
    }
    return engine_->stats().sampled_tokens - before;
  }

 private:
  Decoder() = default;

  absl::Status Start() {
    const ModelConfig& config = engine_->config();
    SequenceOptions options;
    options.key.seed = kSeed;
    options.key.group = static_cast<uint64_t>(started_);
    // None: a sequence that ends is a prefill, and decoding is what is timed.
    options.stop_token = -1;
    ASSIGN_OR_RETURN(const int64_t id, engine_->Open(options));
    // Its own: of a prompt that was there before, the engine has the pages.
    std::vector<int32_t> prompt;
    for (int64_t t = 0; t < kPromptTokens; ++t) {
      prompt.push_back(RandomToken(config, started_, t));
    }
    ++started_;
    return engine_->Extend(id, prompt, sample_max_);
  }

  std::unique_ptr<Engine> engine_;
  int64_t sample_max_ = 0;
  int64_t started_ = 0;
};

}  // namespace

absl::StatusOr<BenchModel> LoadBenchModel(Backend* backend,
                                          const Numerics& numerics,
                                          const std::string& path) {
  BenchModel model;
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    ASSIGN_OR_RETURN(model.masters, LoadNamedMasters(backend, path));
  } else {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kConfigBytesMax));
    ASSIGN_OR_RETURN(const ModelConfig config, ParseModelConfig(text));
    ASSIGN_OR_RETURN(model.masters, MasterWeights::Create(backend, config));
    RETURN_IF_ERROR(InitWeights(kSeed, kInitializerRange, model.masters.get()));
  }
  ASSIGN_OR_RETURN(model.weights,
                   PublishedWeights::Of(model.masters.get(), numerics,
                                        Passes::kForwardAndBackward));
  return model;
}

absl::StatusOr<Measurements> BenchPack(Backend* backend, MachinePeak* peak,
                                       const PublishedWeights& weights,
                                       BenchPass pass, Clock* clock) {
  const ModelConfig& config = weights.config();
  double flops_a_sequence = 0;
  for (int64_t position = 0; position < kPackTokens; ++position) {
    flops_a_sequence += ForwardFlops(config, position);
    if (pass == BenchPass::kForwardBackward) {
      flops_a_sequence += BackwardFlops(config, position);
    }
  }
  ASSIGN_OR_RETURN(const auto runner, PackRunner::Create(backend, &weights));
  const auto work = [&]() -> absl::StatusOr<double> {
    RETURN_IF_ERROR(runner->Run(pass));
    return kPackSequences * flops_a_sequence;
  };
  Measurement result;
  result.name = absl::StrCat(kPackSequences, " x ", kPackTokens, " tokens");
  result.unit = "tokens";
  result.peak_unit = "FLOP";
  ASSIGN_OR_RETURN(
      result.of_peak,
      MeasurePaired(work, Fmas(peak), {.micros_max = 10'000'000}, clock));
  result.per_second = result.of_peak.per_second / flops_a_sequence *
                      static_cast<double>(kPackTokens);
  return Measurements{result};
}

absl::StatusOr<Measurements> BenchDecode(Backend* backend, MachinePeak* peak,
                                         PublishedWeights* weights,
                                         Clock* clock) {
  const ModelConfig& config = weights->config();
  // Attention's share changes little over the tokens that are measured.
  const double flops_a_token =
      ForwardFlops(config, kPromptTokens + kDecodeTokens / 4);
  Measurements results;
  for (const int64_t sequences : kDecodeSequences) {
    ASSIGN_OR_RETURN(const auto decoder,
                     Decoder::Create(backend, weights, sequences));
    const auto work = [&]() -> absl::StatusOr<double> {
      ASSIGN_OR_RETURN(const int64_t tokens, decoder->Step());
      return static_cast<double>(tokens) * flops_a_token;
    };
    Measurement& result = results.emplace_back();
    result.name =
        absl::StrCat(sequences, sequences == 1 ? " sequence" : " sequences");
    result.unit = "tokens";
    result.peak_unit = "FLOP";
    ASSIGN_OR_RETURN(
        result.of_peak,
        MeasurePaired(work, Fmas(peak), {.micros_max = 5'000'000}, clock));
    result.per_second = result.of_peak.per_second / flops_a_token;
  }
  return results;
}

}  // namespace temper
