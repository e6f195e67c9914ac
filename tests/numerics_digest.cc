#include "tests/numerics_digest.h"

#include <cstring>
#include <memory>
#include <vector>

#include "kernels/base/checksum.h"
#include "kernels/base/log.h"
#include "kernels/model/test_model.h"
#include "kernels/model/transformer.h"
#include "learner/train/device_array.h"
#include "learner/train/train_step.h"
#include "rollout/engine.h"
#include "tests/delivery.h"

namespace temper {
namespace {

constexpr uint64_t kSeed = 5;
constexpr int kGroups = 2, kGroupSize = 3, kSteps = 3;
constexpr int64_t kPromptTokens = 20, kSampledTokens = 24;
constexpr float kTemperature = 0.8f;

// More keys than index_topk, groups of experts, YaRN.
ModelConfig Config() {
  ModelConfig config = TinyConfig();
  config.has_rope_scaling = true;
  config.rope_scaling.factor = 4;
  config.rope_scaling.original_max_position_embeddings = 32;
  return config;
}

template <typename T>
void Add(const std::vector<T>& values, Sha256* digest) {
  digest->Update(values.data(), values.size() * sizeof(T));
}

// Of every position of a sequence.
std::vector<float> Logits(Backend* backend, const PublishedWeights& weights) {
  const ModelConfig& config = weights.config();
  const int64_t n = 2 * kPromptTokens;
  TrainingBatch made =
      MakeTrainingBatch(config, {{RandomTokens(config, kSeed, n)}});
  auto model = *Transformer::Create(backend, &weights, n);
  auto tape = *model->NewTape(n);
  Tensor hidden;
  const absl::Status status =
      model->Forward(&made.batch, nullptr, tape.get(), {}, &hidden);
  CHECK(status.ok()) << status;
  DeviceArray array(backend);
  const Tensor logits = *array.Reserve(DType::kF32, {n, config.vocab_size});
  backend->Linear(hidden, weights.lm_head(), Use::kForward, logits);
  return *Download(backend, logits);
}

// Group g's prompts are alike; sample s of it is record g * kGroupSize + s.
std::vector<SequenceRecord> Sample(Backend* backend,
                                   PublishedWeights* weights) {
  auto engine = *Engine::Create(backend, weights, /*version=*/1, {});
  std::vector<int64_t> ids;
  for (int i = 0; i < kGroups * kGroupSize; ++i) {
    const auto group = static_cast<uint64_t>(i / kGroupSize);
    SequenceOptions options;
    options.key = {kSeed, group, static_cast<uint32_t>(i % kGroupSize)};
    options.sampling.temperature = kTemperature;
    options.sampling.top_p = 0.9f;
    options.sampling.min_p = 0.01f;
    options.stop_token = -1;
    ids.push_back(*engine->Open(options));
    const absl::Status status = engine->Extend(
        ids.back(),
        RandomTokens(weights->config(), kSeed + group, kPromptTokens),
        kSampledTokens);
    CHECK(status.ok()) << status;
  }
  while (engine->has_running()) CHECK(engine->Step().ok());
  std::vector<SequenceRecord> records;
  for (const int64_t id : ids) records.push_back(engine->record(id));
  return records;
}

// Of the record, off-policy from the second step on.
void Train(Backend* backend, const std::vector<Episode>& episodes,
           const TrainableModel& model) {
  const auto reference =
      PublishedOf(backend, Config(), model.masters->GetValues(),
                  Passes::kForwardAndBackward, model.weights->numerics());
  auto optimizer =
      *Optimizer::Create(backend, model.masters.get(), model.weights.get(),
                         {ParameterGroup::kMain});
  TrainStepOptions options;
  options.temperature = kTemperature;
  options.objective.set_kl_coef(0.05);
  options.objective.set_minibatches(2);
  options.optimizer.set_weight_decay(0.01);
  options.tokens_max = 1024;
  auto step = *TrainStep::Create(backend, model.weights.get(), reference.get(),
                                 optimizer.get(), options);
  std::vector<const Episode*> pointers;
  for (const Episode& episode : episodes) pointers.push_back(&episode);
  for (int i = 0; i < kSteps; ++i) {
    const auto metrics = step->Run(pointers, /*version=*/1, 1e-3);
    CHECK(metrics.ok()) << metrics.status();
    CHECK(metrics->values.at("grad_norm") > 0);
  }
}

}  // namespace

std::map<std::string, std::string> NumericsDigests(Backend* backend,
                                                   const Numerics& numerics) {
  const TrainableModel model =
      TrainableOf(backend, Config(), RandomValues(Config(), kSeed), numerics);
  const auto sampler =
      RandomModel(backend, Config(), kSeed, Passes::kForward, numerics);
  Sha256 logits, sampled, trained;
  Add(Logits(backend, *model.weights), &logits);
  const std::vector<SequenceRecord> records = Sample(backend, sampler.get());
  for (const SequenceRecord& record : records) {
    Add(record.tokens, &sampled);
    Add(record.logprobs, &sampled);
  }
  Train(backend, Deliver(Config(), records, kGroupSize), model);
  Add(model.masters->GetValues(), &trained);
  const std::string name = NameOf(numerics);
  return {
      {name + " logits", HexOf(logits.Finish())},
      {name + " sampled tokens and log-probabilities", HexOf(sampled.Finish())},
      {name + " weights after three steps", HexOf(trained.Finish())}};
}

// To renew one on purpose: know what changed it, see that every tier agrees on
// the new one, and write it here, in the commit that changes the numbers and
// says why; //tests/quickstart:remake_test's digest is renewed with it.
const std::map<std::string, std::string>& CommittedDigests() {
  static const auto* const committed = new std::map<std::string, std::string>{
      {"bf16 logits",
       "9d27e68e4d9d950530b291c87c7622ddc1c530f42bcb55bd1b2db98c63d158cf"},
      {"bf16 sampled tokens and log-probabilities",
       "817e47d2e397eea63ac174b5b1319f007320645581e1df112c41e0bc1cfa6ba6"},
      {"bf16 weights after three steps",
       "c00f966dedb3379fc4c655dab118bbc6b0c3d78c0dc230631df48d09ed0fe091"},
      {"fp32 logits",
       "7276472f0109f41996c07c80f978a6829629184b79cbdebae28b3342b856458a"},
      {"fp32 sampled tokens and log-probabilities",
       "cade4dccf6847e0be34968bee0b1228f493051b88ba44f7d374a9e9401689bce"},
      {"fp32 weights after three steps",
       "bfc639fac4f439e5b8c7f1b1c6b5db9000789d17ee4b4c2c8400d55cac66ff6e"},
      {"fp8 logits",
       "8a767f131c1fc2e59f9afbef243867a117db6d73ecabd136793fbe2d6958eddf"},
      {"fp8 sampled tokens and log-probabilities",
       "f149bd2176d419f765cbf294ff1bac7d70b01b763026ce70cc69e8139795dcb1"},
      {"fp8 weights after three steps",
       "7529d38e687724739b8dc93503e78cd5b116adbd1f902a2fd74209cf3acde9ac"},
  };
  return *committed;
}

}  // namespace temper
