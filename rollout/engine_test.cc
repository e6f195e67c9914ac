#include "rollout/engine.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <string>

#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/rng.h"
#include "kernels/find_backend.h"
#include "kernels/model/test_model.h"
#include "proto/wire/episode_limit.h"

namespace temper {
namespace {

constexpr int32_t kNoStop = -1;
constexpr int32_t kVocabulary = 97;

// With room for the scripts below, which are longer than what is selected.
ModelConfig SmallConfig() {
  ModelConfig config = TinyConfig();
  config.vocab_size = kVocabulary;
  config.index_topk = 40;
  config.max_position_embeddings = 1024;
  return config;
}

std::vector<int32_t> Tokens(uint32_t stream, int64_t count) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int32_t>(UniformBelow(
        {11, RngPurpose::kTest, stream, 0, static_cast<uint32_t>(i)},
        kVocabulary)));
  }
  return tokens;
}

// An episode of two turns with a tool result between them.
struct Script {
  std::vector<int32_t> prompt;
  std::vector<int32_t> result;
  SequenceOptions options;
};

// `preamble` tokens are those of every other script.
Script MakeScript(uint32_t sample, int64_t preamble, int64_t own) {
  Script script;
  script.prompt = Tokens(1000, preamble);
  const std::vector<int32_t> tail = Tokens(sample, own);
  script.prompt.insert(script.prompt.end(), tail.begin(), tail.end());
  script.result = Tokens(2000 + sample, 25);
  script.options.key = {5, 3, sample};
  script.options.stop_token = kNoStop;
  script.options.sampling.top_p = sample % 2 == 0 ? 0.9f : 1.0f;
  return script;
}

constexpr int64_t kFirstTurn = 15;
constexpr int64_t kSecondTurn = 20;

struct World {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<PublishedWeights> weights;
  std::unique_ptr<Engine> engine;
};

World MakeWorld(const EngineOptions& options,
                const BackendSpec& spec = {.name = "scalar"}) {
  SetFlushDenormals();
  World world;
  auto backend = FindBackend(spec);
  EXPECT_TRUE(backend.ok()) << backend.status();
  world.backend = *std::move(backend);
  world.weights = PublishedOf(world.backend.get(), SmallConfig(),
                              RandomValues(SmallConfig(), 1));
  auto engine =
      Engine::Create(world.backend.get(), world.weights.get(), 1, options);
  EXPECT_TRUE(engine.ok()) << engine.status();
  world.engine = *std::move(engine);
  return world;
}

// Runs scripts at the same time; records in their order.
std::vector<SequenceRecord> RunScripts(Engine* engine,
                                       const std::vector<Script>& scripts) {
  std::vector<int64_t> ids;
  std::map<int64_t, size_t> script_of;
  std::map<int64_t, int> turns;
  for (size_t i = 0; i < scripts.size(); ++i) {
    const auto id = engine->Open(scripts[i].options);
    EXPECT_TRUE(id.ok()) << id.status();
    EXPECT_TRUE(engine->Extend(*id, scripts[i].prompt, kFirstTurn).ok());
    ids.push_back(*id);
    script_of[*id] = i;
  }
  while (engine->has_running()) {
    const auto stopped = engine->Step();
    EXPECT_TRUE(stopped.ok()) << stopped.status();
    if (!stopped.ok()) break;
    engine->CheckIntegrity();
    for (const StoppedSequence& sequence : *stopped) {
      if (++turns[sequence.id] == 2) continue;
      EXPECT_TRUE(engine
                      ->Extend(sequence.id,
                               scripts[script_of[sequence.id]].result,
                               kSecondTurn)
                      .ok());
    }
  }
  std::vector<SequenceRecord> records;
  for (const int64_t id : ids) {
    records.push_back(engine->record(id));
    engine->Close(id);
  }
  engine->CheckIntegrity();
  return records;
}

void ExpectSame(const SequenceRecord& a, const SequenceRecord& b) {
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.sampled, b.sampled);
  ASSERT_EQ(a.logprobs.size(), b.logprobs.size());
  EXPECT_EQ(std::memcmp(a.logprobs.data(), b.logprobs.data(),
                        a.logprobs.size() * sizeof(float)),
            0);
  EXPECT_EQ(a.kept_offsets, b.kept_offsets);
  EXPECT_EQ(a.kept_ids, b.kept_ids);
  EXPECT_EQ(a.routes, b.routes);
  EXPECT_EQ(a.versions, b.versions);
}

std::vector<Script> FourScripts() {
  return {MakeScript(0, 130, 10), MakeScript(1, 130, 33), MakeScript(2, 130, 1),
          MakeScript(3, 20, 61)};
}

// Each alone in a fresh engine: the definition all else is held against.
const std::vector<SequenceRecord>& Alone() {
  static const std::vector<SequenceRecord>* const records = [] {
    auto* const all = new std::vector<SequenceRecord>();
    for (const Script& script : FourScripts()) {
      World world = MakeWorld({.pages = 16, .batch_tokens_max = 1024});
      all->push_back(RunScripts(world.engine.get(), {script})[0]);
    }
    return all;
  }();
  return *records;
}

void ExpectAsAlone(const std::vector<SequenceRecord>& records) {
  ASSERT_EQ(records.size(), Alone().size());
  for (size_t i = 0; i < records.size(); ++i) {
    SCOPED_TRACE(i);
    ExpectSame(records[i], Alone()[i]);
  }
}

TEST(EngineTest, RecordIsAligned) {
  const SequenceRecord& record = Alone()[0];
  EXPECT_EQ(record.size(), 140 + kFirstTurn + 25 + kSecondTurn);
  EXPECT_EQ(record.sampled_count(), kFirstTurn + kSecondTurn);
  EXPECT_EQ(record.fed(), record.size() - 1) << "the last token is not fed";
  EXPECT_EQ(record.routes.size(), static_cast<size_t>(record.fed()) * 2 * 2);
  for (size_t i = 0; i < record.routes.size(); i += 2) {
    EXPECT_LT(record.routes[i], record.routes[i + 1]) << "ascending";
  }
  EXPECT_EQ(record.kept_offsets.size(), record.logprobs.size() + 1);
  EXPECT_GT(record.kept_ids.size(), 0u) << "top_p 0.9 truncates";
  EXPECT_EQ(Alone()[1].kept_ids.size(), 0u) << "top_p 1 does not";
}

TEST(EngineTest, BatchedWithOthersIsAsAlone) {
  World world = MakeWorld({.pages = 64, .batch_tokens_max = 1024});
  ExpectAsAlone(RunScripts(world.engine.get(), FourScripts()));
}

TEST(EngineTest, ChunkedPrefillIsAsWhole) {
  World world = MakeWorld({.pages = 64, .batch_tokens_max = 70});
  ExpectAsAlone(RunScripts(world.engine.get(), FourScripts()));
}

TEST(EngineTest, PrefixHitIsAsComputed) {
  World world = MakeWorld({.pages = 64, .batch_tokens_max = 1024});
  RunScripts(world.engine.get(), FourScripts());
  const int64_t before = world.engine->stats().scheduler.prefix_hit_tokens;
  ExpectAsAlone(RunScripts(world.engine.get(), FourScripts()));
  EXPECT_GE(world.engine->stats().scheduler.prefix_hit_tokens - before,
            3 * 128 + 64);
}

TEST(EngineTest, PreemptedAndResumedIsAsUndisturbed) {
  World world = MakeWorld({.pages = 5, .batch_tokens_max = 128});
  ExpectAsAlone(RunScripts(world.engine.get(), FourScripts()));
  EXPECT_GT(world.engine->stats().scheduler.preemptions, 0);
}

TEST(EngineTest, ThreadsAndTiersDoNotChangeABit) {
  for (const std::string& name : BackendNames()) {
    for (const int threads : {1, 2}) {
      SCOPED_TRACE(name + ", threads " + std::to_string(threads));
      World world =
          MakeWorld({.pages = 64}, {.name = name, .threads = threads});
      ExpectAsAlone(RunScripts(world.engine.get(), FourScripts()));
    }
  }
}

TEST(EngineTest, SamplerRowsInSeveralGoesAreAsInOne) {
  World world = MakeWorld({.pages = 64, .sample_rows_max = 1});
  ExpectAsAlone(RunScripts(world.engine.get(), FourScripts()));
}

TEST(EngineTest, SharedPreambleIsComputedOnce) {
  World world = MakeWorld({.pages = 64, .batch_tokens_max = 1024});
  std::vector<Script> scripts;
  for (uint32_t i = 0; i < 6; ++i) scripts.push_back(MakeScript(i, 128, 5));
  for (const Script& script : scripts) {
    const auto id = world.engine->Open(script.options);
    ASSERT_TRUE(id.ok());
    ASSERT_TRUE(world.engine->Extend(*id, script.prompt, 1).ok());
  }
  const auto stopped = world.engine->Step();
  ASSERT_TRUE(stopped.ok()) << stopped.status();
  EXPECT_EQ(stopped->size(), 6u);
  EXPECT_EQ(world.engine->stats().scheduler.prefill_tokens, 128 + 6 * 5);
}

// Log-probabilities of the sampled tokens as training recomputes them: no
// cache, recorded routes, recorded kept sets.
std::vector<float> TrainingLogprobs(World* world, SequenceRecord record) {
  Backend* const backend = world->backend.get();
  auto transformer = Transformer::Create(backend, world->weights.get(), 512);
  EXPECT_TRUE(transformer.ok()) << transformer.status();
  auto tape = (*transformer)->NewTape(512);
  EXPECT_TRUE(tape.ok()) << tape.status();
  const int32_t fed = static_cast<int32_t>(record.fed());
  TokenBatch batch;
  batch.page_tokens = 1;
  batch.blocks_max = fed;
  batch.routes = record.routes;
  std::vector<int32_t> rows, targets;
  for (int32_t t = 0; t < fed; ++t) {
    batch.tokens.push_back(record.tokens[t]);
    batch.position.push_back(t);
    batch.sequence.push_back(0);
    batch.slot.push_back(t);
    batch.blocks.push_back(t);
    if (!record.sampled[t + 1]) continue;
    rows.push_back(t);
    targets.push_back(record.tokens[t + 1]);
  }
  Tensor hidden;
  const absl::Status forward =
      (*transformer)
          ->Forward(&batch, nullptr, tape->get(), ForwardOptions(), &hidden);
  EXPECT_TRUE(forward.ok()) << forward;
  const int64_t n = static_cast<int64_t>(rows.size());
  std::vector<float> gathered(n * 32), logp(n), lse(n), entropy(n);
  std::vector<int32_t> offsets(record.kept_offsets.begin(),
                               record.kept_offsets.end());
  const int64_t kept = static_cast<int64_t>(record.kept_ids.size());
  record.kept_ids.push_back(0);  // so that data() is never null
  const auto ints = [](std::vector<int32_t>* v, int64_t size) {
    return Tensor(v->data(), DType::kI32, {size});
  };
  const auto floats = [n](std::vector<float>* v) {
    return Tensor(v->data(), DType::kF32, {n});
  };
  const Tensor x(gathered.data(), DType::kF32, {n, 32});
  backend->GatherRows(hidden, ints(&rows, n), x);
  backend->LogProb({.x = x,
                    .w = &world->weights->lm_head(),
                    .rows = world->weights->lm_head_rows(),
                    .targets = ints(&targets, n),
                    .kept_offsets = ints(&offsets, n + 1),
                    .kept_ids = ints(&record.kept_ids, kept),
                    .temperature = 1.0f,
                    .logp = floats(&logp),
                    .lse = floats(&lse),
                    .entropy = floats(&entropy)});
  EXPECT_TRUE(backend->Sync().ok());
  return logp;
}

// Promise P1 within this package.
TEST(EngineTest, TrainingForwardGivesTheSampledLogprobs) {
  World world = MakeWorld({.pages = 16});
  for (const SequenceRecord& record : Alone()) {
    EXPECT_EQ(TrainingLogprobs(&world, record), record.logprobs);
  }
}

// Two turns with a change of weights in the middle of the first.
std::vector<SequenceRecord> RunAcrossAFlip(const EngineOptions& options,
                                           const std::vector<Script>& scripts) {
  World world = MakeWorld(options);
  Engine* const engine = world.engine.get();
  std::vector<int64_t> ids;
  for (const Script& script : scripts) {
    ids.push_back(*engine->Open(script.options));
    EXPECT_TRUE(engine->Extend(ids.back(), script.prompt, 4).ok());
  }
  while (engine->has_running()) EXPECT_TRUE(engine->Step().ok());
  EXPECT_TRUE(
      engine->SetWeights(2, BytesOf(RandomValues(SmallConfig(), 2))).ok());
  for (size_t i = 0; i < scripts.size(); ++i) {
    EXPECT_TRUE(engine->Extend(ids[i], scripts[i].result, kSecondTurn).ok());
  }
  while (engine->has_running()) EXPECT_TRUE(engine->Step().ok());
  std::vector<SequenceRecord> records;
  for (const int64_t id : ids) records.push_back(engine->record(id));
  return records;
}

TEST(EngineTest, NewWeightsReplayRoutesAndNameTheirTokens) {
  const SequenceRecord record =
      RunAcrossAFlip({.pages = 16}, {MakeScript(1, 100, 40)})[0];
  World world = MakeWorld({.pages = 16});
  const SequenceRecord old =
      RunScripts(world.engine.get(), {MakeScript(1, 100, 40)})[0];
  const int64_t fed_before = 140 + 3;
  EXPECT_TRUE(std::equal(record.routes.begin(),
                         record.routes.begin() + fed_before * 4,
                         old.routes.begin()))
      << "routes of tokens read before the flip are kept";
  for (int64_t i = 0; i < record.sampled_count(); ++i) {
    EXPECT_EQ(record.versions[i], i < 4 ? 1u : 2u);
  }
  for (int64_t t = 0; t < record.fed(); ++t) {
    EXPECT_EQ(record.route_versions[t], t < fed_before ? 1u : 2u);
  }
}

TEST(EngineTest, AfterAFlipTheRecordedRoutesAreReplayed) {
  World world = MakeWorld({.pages = 16});
  ASSERT_TRUE(
      world.weights->SetBytes(BytesOf(RandomValues(SmallConfig(), 2))).ok());
  for (const SequenceRecord& record :
       RunAcrossAFlip({.pages = 64}, FourScripts())) {
    const std::vector<float> trained = TrainingLogprobs(&world, record);
    ASSERT_EQ(trained.size(), record.logprobs.size());
    for (size_t i = 4; i < trained.size(); ++i) {
      EXPECT_EQ(trained[i], record.logprobs[i]) << "sampled token " << i;
    }
    SequenceRecord live = record;
    std::fill(live.routes.begin(), live.routes.end(), -1);
    EXPECT_NE(TrainingLogprobs(&world, live), trained)
        << "routes of the old weights are not those of the new";
  }
}

TEST(EngineTest, AcrossAFlipBatchedIsAsAlone) {
  const std::vector<Script> scripts = FourScripts();
  const std::vector<SequenceRecord> together =
      RunAcrossAFlip({.pages = 64}, scripts);
  for (size_t i = 0; i < scripts.size(); ++i) {
    SCOPED_TRACE(i);
    ExpectSame(together[i], RunAcrossAFlip({.pages = 64}, {scripts[i]})[0]);
  }
}

TEST(EngineTest, PrefixesOfOldWeightsAreNotReused) {
  World world = MakeWorld({.pages = 64});
  RunScripts(world.engine.get(), FourScripts());
  ASSERT_TRUE(
      world.engine->SetWeights(2, BytesOf(RandomValues(SmallConfig(), 2)))
          .ok());
  const std::vector<Script> one = {MakeScript(0, 130, 10)};
  const int64_t before = world.engine->stats().scheduler.prefix_hit_tokens;
  const SequenceRecord after = RunScripts(world.engine.get(), one)[0];
  EXPECT_EQ(world.engine->stats().scheduler.prefix_hit_tokens, before);
  EXPECT_NE(after.logprobs, Alone()[0].logprobs);
}

TEST(EngineTest, VersionThatDoesNotRiseIsRefused) {
  World world = MakeWorld({.pages = 4});
  EXPECT_EQ(world.engine->SetWeights(1, BytesOf(RandomValues(SmallConfig(), 2)))
                .code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(world.engine->SetWeights(2, BytesOf({1.0f})).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(world.engine->version(), 1u);
}

// A longer one would fit no batch of the learner's.
TEST(EngineTest, NoSequenceIsLongerThanTheLongestEpisode) {
  auto backend = *FindBackend({.name = "scalar"});
  ModelConfig config = SmallConfig();
  config.max_position_embeddings = 4 * kEpisodeTokensMax;
  auto weights =
      *PublishedWeights::Create(backend.get(), config, kFp32, Passes::kForward);
  const auto engine =
      Engine::Create(backend.get(), weights.get(), 1,
                     {.pages = 2 * kEpisodeTokensMax / kPageTokens});
  ASSERT_TRUE(engine.ok()) << engine.status();
  const int64_t id = *(*engine)->Open({});
  const std::vector<int32_t> longest(kEpisodeTokensMax - 1);  // and one sampled
  std::vector<int32_t> longer = longest;
  longer.push_back(0);
  EXPECT_EQ((*engine)->Extend(id, longer, 1).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE((*engine)->Extend(id, longest, 1).ok());
}

TEST(EngineTest, StopTokenEndsATurn) {
  Script script = MakeScript(0, 130, 10);
  script.options.stop_token = Alone()[0].tokens[140 + 3];
  World world = MakeWorld({.pages = 16});
  const auto id = world.engine->Open(script.options);
  ASSERT_TRUE(world.engine->Extend(*id, script.prompt, kFirstTurn).ok());
  std::vector<StoppedSequence> stopped;
  while (world.engine->has_running()) stopped = *world.engine->Step();
  ASSERT_EQ(stopped.size(), 1u);
  EXPECT_EQ(stopped[0].reason, StopReason::kStopToken);
  const SequenceRecord& record = world.engine->record(*id);
  EXPECT_EQ(record.tokens.back(), script.options.stop_token);
  EXPECT_LE(record.sampled_count(), 4);
}

TEST(EngineTest, LimitsAreErrorsAndChangeNothing) {
  World world = MakeWorld({.pages = 2, .sequences_max = 1});
  Engine* const engine = world.engine.get();
  const auto id = engine->Open({});
  ASSERT_TRUE(id.ok());
  EXPECT_EQ(engine->Open({}).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(engine->Extend(*id, {kVocabulary}, 1).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(engine->Extend(*id, {}, 1).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(engine->Extend(*id, Tokens(1, 128), 1).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(engine->record(*id).size(), 0);
  EXPECT_TRUE(engine->Extend(*id, Tokens(1, 120), 1000).ok());
  EXPECT_EQ(engine->Extend(*id, {1}, 1).code(),
            absl::StatusCode::kInvalidArgument);
  while (engine->has_running()) ASSERT_TRUE(engine->Step().ok());
  EXPECT_EQ(engine->record(*id).size(), 128) << "filled to capacity";
  SequenceOptions cold;
  cold.sampling.temperature = 0;
  engine->Close(*id);
  EXPECT_EQ(engine->Open(cold).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace temper
