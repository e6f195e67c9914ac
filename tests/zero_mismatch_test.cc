// Promise P1, across the packages: what the engine recorded when it sampled is,
// bit for bit, what the learner's forward gives, through the trajectory's own
// bytes, the door and the packer. Two turns with unsampled tokens between them
// (a tool's result), prompts that share a preamble, lengths above index_topk
// and over several pages.

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/log.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/model/test_model.h"
#include "learner/packer.h"
#include "learner/token_logprob.h"
#include "learner/trajectory_door.h"
#include "rollout/branch.h"
#include "rollout/engine.h"
#include "tests/forwarding_backend.h"

namespace temper {
namespace {

constexpr int64_t kTokensMax = 16384;
constexpr int kPreamble = 90;
constexpr int kQuestion = 9;
constexpr int kToolResult = 13;
constexpr int64_t kTurnTokens = 24;

std::unique_ptr<Backend> NewBackend(Tier tier, int threads) {
  auto backend = NewCpuBackend(tier, threads);
  CHECK(backend.ok()) << backend.status();
  return *std::move(backend);
}

std::vector<Tier> Tiers() {
  if (BestTier() == Tier::kScalar) return {Tier::kScalar};
  return {Tier::kScalar, BestTier()};
}

struct SamplerSetup {
  int sequences = 8;  // at once
  int64_t batch_tokens = 512;
  int32_t pages = 256;
};

// Two turns of every sequence, as the engine records them.
std::vector<SequenceRecord> SampleAll(Backend* backend,
                                      const ModelConfig& config,
                                      const SamplerSetup& setup, int count) {
  const auto weights = RandomModel(backend, config, 5);
  EngineOptions options;
  options.pages = setup.pages;
  options.batch_tokens_max = setup.batch_tokens;
  auto engine = *Engine::Create(backend, weights.get(), 1, options);
  std::vector<SequenceRecord> records(count);
  for (int begin = 0; begin < count; begin += setup.sequences) {
    const int end = std::min(count, begin + setup.sequences);
    std::vector<int64_t> ids;
    for (int s = begin; s < end; ++s) {
      SequenceOptions sequence;
      sequence.key = {11, static_cast<uint64_t>(s), 0};
      sequence.sampling.top_p = 0.9f;
      sequence.stop_token = 1;
      ids.push_back(*engine->Open(sequence));
    }
    for (int turn = 0; turn < 2; ++turn) {
      for (int s = begin; s < end; ++s) {
        std::vector<int32_t> tokens =
            turn == 0 ? RandomTokens(config, 1, kPreamble)
                      : RandomTokens(config, 500 + s, kToolResult);
        if (turn == 0) {
          const auto question = RandomTokens(config, 200 + s, kQuestion);
          tokens.insert(tokens.end(), question.begin(), question.end());
        }
        const absl::Status status =
            engine->Extend(ids[s - begin], tokens, kTurnTokens);
        CHECK(status.ok()) << status;
      }
      while (engine->has_running()) CHECK(engine->Step().ok());
    }
    for (int s = begin; s < end; ++s) {
      records[s] = engine->record(ids[s - begin]);
      engine->Close(ids[s - begin]);
    }
  }
  return records;
}

// By way of the wire and the door.
std::vector<Episode> Deliver(const ModelConfig& config,
                             const std::vector<SequenceRecord>& records) {
  DoorLimits limits;
  limits.run = "trial";
  limits.vocab_size = static_cast<int32_t>(config.vocab_size);
  limits.moe_layers = static_cast<int32_t>(config.moe_layers());
  limits.experts = static_cast<int32_t>(config.n_routed_experts);
  limits.experts_per_token = static_cast<int32_t>(config.num_experts_per_tok);
  const auto door = TrajectoryDoor::Create(limits);
  CHECK(door.ok()) << door.status();
  std::vector<Episode> episodes;
  for (size_t s = 0; s < records.size(); ++s) {
    Trajectory trajectory;
    trajectory.set_wire_version(kTrajectoryWireVersion);
    trajectory.mutable_key()->set_run("trial");
    trajectory.mutable_key()->set_group(s + 1);
    trajectory.mutable_key()->set_lease(1);
    trajectory.set_purpose(PURPOSE_TRAIN);
    trajectory.set_task_id("task");
    trajectory.set_environment("math");
    trajectory.set_outcome(OUTCOME_OK);
    trajectory.mutable_verdict()->set_outcome(OUTCOME_OK);
    trajectory.mutable_verdict()->set_verified(true);
    trajectory.set_has_reward(true);
    *trajectory.add_branches() = PackBranch(records[s], config);
    const auto parsed = door->Parse(trajectory.SerializeAsString());
    CHECK(parsed.ok()) << parsed.status();
    auto episode = door->Admit(*parsed, [](uint64_t v) { return v == 1; });
    CHECK(episode.ok()) << episode.status();
    episodes.push_back(*std::move(episode));
  }
  return episodes;
}

struct Comparison {
  int64_t tokens = 0;
  int64_t different = 0;
};

// The learner's log-probabilities against the sampler's record.
Comparison Compare(Backend* backend, const ModelConfig& config,
                   const std::vector<Episode>& episodes,
                   PrefixSharing sharing) {
  const auto weights = RandomModel(backend, config, 5);
  auto transformer = *Transformer::Create(backend, weights.get(), kTokensMax);
  auto tape = *transformer->NewTape(kTokensMax);
  TokenLogProb logprob(backend);
  std::vector<const Episode*> pointers;
  for (const Episode& episode : episodes) pointers.push_back(&episode);
  auto batches = PackEpisodes(config, pointers, kTokensMax,
                              /*keep_routing=*/true, sharing);
  CHECK(batches.ok()) << batches.status();
  Comparison comparison;
  for (PackedBatch& packed : *batches) {
    Tensor hidden;
    const absl::Status status =
        transformer->Forward(&packed.batch, nullptr, tape.get(), {}, &hidden);
    CHECK(status.ok()) << status;
    const auto result =
        logprob.Forward(*weights, hidden, packed, /*temperature=*/1, true);
    CHECK(result.ok()) << result.status();
    for (size_t i = 0; i < packed.logp_old.size(); ++i) {
      ++comparison.tokens;
      comparison.different +=
          std::memcmp(&result->logp[i], &packed.logp_old[i], sizeof(float)) != 0;
    }
  }
  return comparison;
}

void ExpectSame(const Comparison& comparison, const std::string& what) {
  EXPECT_GT(comparison.tokens, 0) << what;
  EXPECT_EQ(comparison.different, 0)
      << what << ": of " << comparison.tokens << " tokens";
}

class ZeroMismatchTest : public testing::Test {
 protected:
  void SetUp() override { SetFlushDenormals(); }
  const ModelConfig config_ = TinyConfig();
};

TEST_F(ZeroMismatchTest, SequencesAreLongerThanTopKAndCoverSeveralPages) {
  const auto backend = NewBackend(BestTier(), 1);
  const auto records = SampleAll(backend.get(), config_, {}, 2);
  for (const SequenceRecord& record : records) {
    EXPECT_GT(record.size(), config_.index_topk);
    EXPECT_GT(record.size(), kPageTokens);
    EXPECT_GT(record.sampled_count(), 1);
  }
}

TEST_F(ZeroMismatchTest, WhateverRunsBesideASequence) {
  const auto backend = NewBackend(BestTier(), 1);
  const auto learner = NewBackend(BestTier(), 1);
  for (const int together : {1, 2, 3, 8, 33}) {
    SamplerSetup setup;
    setup.sequences = together;
    const auto episodes = Deliver(
        config_, SampleAll(backend.get(), config_, setup,
                           std::max(together, 3)));
    ExpectSame(Compare(learner.get(), config_, episodes,
                       PrefixSharing::kShared),
               absl::StrCat(together, " sequences at once, shared"));
    ExpectSame(Compare(learner.get(), config_, episodes,
                       PrefixSharing::kUnshared),
               absl::StrCat(together, " sequences at once, unshared"));
  }
}

TEST_F(ZeroMismatchTest, WhateverTheChunksAndPreemptions) {
  const auto backend = NewBackend(BestTier(), 2);
  const auto learner = NewBackend(BestTier(), 1);
  for (const int64_t batch_tokens : {64, 97, 2048}) {
    for (const int32_t pages : {9, 256}) {  // nine: they push one another out
      SamplerSetup setup;
      setup.batch_tokens = batch_tokens;
      setup.pages = pages;
      const auto episodes =
          Deliver(config_, SampleAll(backend.get(), config_, setup, 6));
      ExpectSame(
          Compare(learner.get(), config_, episodes, PrefixSharing::kShared),
          absl::StrCat("chunks of ", batch_tokens, ", ", pages, " pages"));
    }
  }
}

TEST_F(ZeroMismatchTest, WhateverTheTiersAndThreadsOnEitherSide) {
  for (const Tier sampling : Tiers()) {
    for (const Tier learning : Tiers()) {
      for (const int threads : {1, 2}) {
        const auto backend = NewBackend(sampling, threads);
        const auto learner = NewBackend(learning, 3 - threads);
        const auto episodes =
            Deliver(config_, SampleAll(backend.get(), config_, {}, 3));
        ExpectSame(
            Compare(learner.get(), config_, episodes, PrefixSharing::kShared),
            absl::StrCat(TierName(sampling), " sampled, ", TierName(learning),
                         " learned, ", threads, " threads"));
      }
    }
  }
}

// A residual sum that comes out one ulp off in batches of more than one row:
// what an order of addition that depends on M does.
class RowDependentBackend : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void Linear(const Tensor& x, const Weight& w, Use use,
              const Tensor& y) override {
    ForwardingBackend::Linear(x, w, use, y);
    if (x.dim(0) < 5) return;
    float* first = y.as<float>();
    *first = *first * (1 + 0x1p-22f);
  }
};

TEST_F(ZeroMismatchTest, AProductThatDependsOnTheRowsIsCaught) {
  const auto inner = NewBackend(BestTier(), 1);
  RowDependentBackend broken(inner.get());
  const auto learner = NewBackend(BestTier(), 1);
  const auto episodes =
      Deliver(config_, SampleAll(&broken, config_, {}, 8));
  const Comparison comparison =
      Compare(learner.get(), config_, episodes, PrefixSharing::kShared);
  EXPECT_GT(comparison.different, 0);
}

}  // namespace
}  // namespace temper
