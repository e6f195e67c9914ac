// Promise P1, across the packages: what the engine recorded when it sampled is,
// bit for bit, what the learner's forward gives, through the trajectory's own
// bytes, the door and the packer; and what it recorded depends on nothing but
// the seed. Two turns with a tool's result between them, prompts that share a
// preamble, lengths above index_topk and over several pages. Each claim looks
// at the engine's own counts to see that what it speaks of took place.

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/log.h"
#include "kernels/base/sanitized.h"
#include "kernels/find_backend.h"
#include "rollout/engine.h"
#include "tests/delivery.h"
#include "tests/mismatch.h"
#include "tests/row_dependent_backend.h"
#include "tests/trial_model.h"

namespace temper {
namespace {

std::unique_ptr<Backend> NewBackend(const BackendSpec& spec) {
  auto backend = FindBackend(spec);
  CHECK(backend.ok()) << backend.status();
  return *std::move(backend);
}

TrialModel ModelByName(const std::string& name, const std::string& numerics) {
  static auto* const models = new std::map<std::string, TrialModel>();
  if (models->count(name) == 0) {
    (*models)[name] = name == "Tiny"      ? TinyTrialModel()
                      : name == "GoldenC" ? GoldenCTrialModel()
                                          : QuickstartTrialModel();
  }
  TrialModel model = models->at(name);
  model.numerics = numerics == NameOf(kFp8) ? kFp8 : *NumericsNamed(numerics);
  return model;
}

// Of a model, its numerics, and a temperature.
class ZeroMismatchTest : public testing::TestWithParam<
                             std::tuple<std::string, std::string, float>> {
 protected:
  static void SetUpTestSuite() { SetFlushDenormals(); }

  ZeroMismatchTest()
      : model_(ModelByName(std::get<0>(GetParam()), std::get<1>(GetParam()))) {
    setup_.sampling.temperature = std::get<2>(GetParam());
    setup_.sampling.top_p = 0.9f;
  }

  // Each conversation in an engine of its own, every prefill whole, on the tier
  // that defines the numbers.
  const std::vector<SequenceRecord>& Alone(int count) {
    const auto backend = NewBackend({.name = "scalar"});
    while (static_cast<int>(alone_.size()) < count) {
      Sampled sampled;
      const auto weights = WeightsOf(backend.get(), model_);
      auto engine = *Engine::Create(backend.get(), weights.get(), 1,
                                    {.batch_tokens_max = 2048});
      SamplerSetup setup = setup_;
      setup.together = 1;
      SampleTogether(model_, setup, static_cast<int>(alone_.size()),
                     kConversations, engine.get(), &sampled);
      EXPECT_EQ(engine->stats().scheduler.prefix_hit_tokens, 0);
      EXPECT_EQ(engine->stats().scheduler.preemptions, 0);
      // Every forward sampled a token: no prefill was cut.
      EXPECT_EQ(engine->stats().steps, engine->stats().sampled_tokens);
      alone_.push_back(sampled.records[0]);
    }
    return alone_;
  }

  void ExpectAsAlone(const Sampled& sampled, const std::string& what) {
    temper::ExpectAsAlone(
        sampled, Alone(static_cast<int>(sampled.records.size())), what);
  }

  Comparison CompareWith(Backend* learner, const Sampled& sampled,
                         const LearnerSetup& setup) {
    return Compare(learner, model_, Deliver(model_.config, sampled.records),
                   setup_.sampling.temperature, setup);
  }

  void ExpectZeroMismatch(Backend* learner, const Sampled& sampled,
                          const LearnerSetup& setup, const std::string& what) {
    temper::ExpectZeroMismatch(learner, model_, sampled,
                               setup_.sampling.temperature, setup, what);
  }

  void ForgetAlone() { alone_.clear(); }

  TrialModel model_;
  SamplerSetup setup_;

 private:
  std::vector<SequenceRecord> alone_;
};

TEST_P(ZeroMismatchTest, SequencesAreLongerThanTopKAndCoverSeveralPages) {
  for (const SequenceRecord& record : Alone(3)) {
    EXPECT_GT(record.size(), model_.config.index_topk);
    // C has positions for no more than two.
    const int64_t whole_pages =
        model_.config.max_position_embeddings > 2 * kPageTokens ? 2 : 1;
    EXPECT_GT(record.size(), whole_pages * kPageTokens);
    EXPECT_GT(record.sampled_count(), 2);
    // A tool's result stands between sampled tokens.
    const std::vector<uint8_t>& sampled = record.sampled;
    const auto first = std::find(sampled.begin(), sampled.end(), 1);
    const auto result = std::find(first, sampled.end(), 0);
    EXPECT_NE(std::find(result, sampled.end(), 1), sampled.end());
    EXPECT_NE(result, sampled.end());
  }
}

TEST_P(ZeroMismatchTest, WhateverRunsBesideASequence) {
  const auto backend = NewBackend({});
  for (const int together : {1, 2, 3, 8, 33, 64}) {
    setup_.together = together;
    const Sampled sampled =
        SampleAll(backend.get(), model_, setup_, std::max(together, 4));
    // Prefixes were found, and forwards shared.
    EXPECT_GT(sampled.stats.scheduler.prefix_hit_tokens, 0);
    EXPECT_EQ((sampled.stats.steps < sampled.stats.sampled_tokens),
              (together > 1));
    for (const PrefixSharing sharing :
         {PrefixSharing::kShared, PrefixSharing::kUnshared}) {
      // 64 are asked of the sampler; of the learner no more than of 33.
      if (together == 64 && sharing == PrefixSharing::kUnshared) continue;
      ExpectZeroMismatch(
          backend.get(), sampled, {sharing, std::min(together, 33)},
          absl::StrCat(together, " at once, ",
                       sharing == PrefixSharing::kShared ? "" : "un",
                       "shared"));
    }
    if (together == 8) ExpectAsAlone(sampled, "8 at once");
  }
}

TEST_P(ZeroMismatchTest, WhetherAPrefillIsWholeOrInChunks) {
  const auto backend = NewBackend({});
  for (const int64_t batch_tokens : {64, 67, 2048}) {
    setup_.batch_tokens = batch_tokens;
    for (const int together : {1, 4}) {
      setup_.together = together;
      const Sampled sampled = SampleAll(backend.get(), model_, setup_, 4);
      const std::string what =
          absl::StrCat(together, " in chunks of ", batch_tokens);
      const int64_t prompt =
          static_cast<int64_t>(model_.conversations[0].prompt.size());
      EXPECT_EQ(prompt > batch_tokens, batch_tokens < 2048) << what;
      if (together == 1) {
        // Alone, a sequence needs a forward for each token it samples; more are
        // those whose chunk did not reach its end.
        EXPECT_EQ(sampled.stats.steps > sampled.stats.sampled_tokens,
                  batch_tokens < 2048)
            << what;
      }
      ExpectAsAlone(sampled, what);
      ExpectZeroMismatch(backend.get(), sampled, {}, what);
    }
  }
}

TEST_P(ZeroMismatchTest, WhenASequenceIsPreemptedAndResumed) {
  const auto backend = NewBackend({});
  const int32_t pages_of_one =
      static_cast<int32_t>((model_.longest() + kPageTokens - 1) / kPageTokens);
  for (const int32_t spare : {0, 2}) {
    setup_.pages = pages_of_one + spare;
    setup_.together = 6;
    const Sampled sampled = SampleAll(backend.get(), model_, setup_, 6);
    const std::string what = absl::StrCat(setup_.pages, " pages");
    EXPECT_GT(sampled.stats.scheduler.preemptions, 0) << what;
    // What was taken away was computed again.
    int64_t tokens = 0;
    for (const SequenceRecord& record : sampled.records) tokens += record.fed();
    const SchedulerStats& stats = sampled.stats.scheduler;
    EXPECT_GT(
        stats.prefill_tokens + stats.decode_tokens + stats.prefix_hit_tokens,
        tokens)
        << what;
    ExpectAsAlone(sampled, what);
    ExpectZeroMismatch(backend.get(), sampled, {}, what);
  }
}

TEST_P(ZeroMismatchTest, WithoutTheMaskBothSidesUseTheWholeVocabulary) {
  const auto backend = NewBackend({});
  const Sampled truncated = SampleAll(backend.get(), model_, setup_, 6);
  setup_.mask = SamplingMask::kDrop;
  const Sampled sampled = SampleAll(backend.get(), model_, setup_, 6);
  for (size_t s = 0; s < sampled.records.size(); ++s) {
    EXPECT_EQ(sampled.records[s].tokens, truncated.records[s].tokens);
    EXPECT_FALSE(truncated.records[s].kept_ids.empty());
    EXPECT_TRUE(sampled.records[s].kept_ids.empty());
  }
  LearnerSetup whole;
  whole.keep_sampling_mask = false;
  ExpectZeroMismatch(backend.get(), sampled, whole, "the whole vocabulary");
  // What the sampler else records is of another distribution.
  EXPECT_GT(CompareWith(backend.get(), truncated, whole).different, 0);
}

TEST_P(ZeroMismatchTest, WhateverTruncatesTheDistribution) {
  const auto backend = NewBackend({});
  SampleOptions whole, top_k, min_p;
  top_k.top_k = 7;
  min_p.min_p = 0.05f;
  for (SampleOptions options : {whole, top_k, min_p}) {
    options.temperature = setup_.sampling.temperature;
    setup_.sampling = options;
    const Sampled sampled = SampleAll(backend.get(), model_, setup_, 8);
    const std::string what =
        absl::StrCat("top_k ", options.top_k, ", min_p ", options.min_p);
    const bool truncates = options.top_k > 0 || options.min_p > 0;
    EXPECT_EQ(sampled.records[0].kept_ids.empty(), !truncates) << what;
    ExpectZeroMismatch(backend.get(), sampled, {}, what);
  }
}

TEST_P(ZeroMismatchTest, WhateverTheTiersAndThreadsOnEitherSide) {
  for (const std::string& sampling : BackendNames()) {
    for (const int threads : {1, 2}) {
      const auto backend = NewBackend({.name = sampling, .threads = threads});
      const Sampled sampled = SampleAll(backend.get(), model_, setup_, 3);
      ExpectAsAlone(
          sampled, absl::StrCat(sampling, " sampled on ", threads, " threads"));
      for (const std::string& learning : BackendNames()) {
        const auto learner =
            NewBackend({.name = learning, .threads = 3 - threads});
        ExpectZeroMismatch(learner.get(), sampled, {},
                           absl::StrCat(sampling, " sampled on ", threads,
                                        " threads, ", learning, " learned"));
      }
    }
  }
}

TEST_P(ZeroMismatchTest, AReductionThatDependsOnTheNumberOfRowsIsCaught) {
  const auto inner = NewBackend({});
  RowDependentBackend broken(inner.get());
  setup_.together = 1;  // so that the sampler's batches have a row
  const Sampled sampled = SampleAll(&broken, model_, setup_, 3);
  const Comparison caught = CompareWith(&broken, sampled, {});
  EXPECT_GT(caught.different, 0) << "of " << caught.tokens << " tokens";
  // It is the rows: where both sides' batches have the same, all is well.
  const Sampled sound = SampleAll(inner.get(), model_, setup_, 3);
  EXPECT_EQ(CompareWith(inner.get(), sound, {}).different, 0);
}

#ifdef TEMPER_WHOLE_MATRICES

// What the tests above cut for time: each way of sampling with each, and all
// ways of training on what it gave.
class ZeroMismatchMatrix : public ZeroMismatchTest {
 protected:
  // One engine's records, and the learner's log-probabilities of them.
  void ExpectAllIsWell(Backend* backend, bool prefixes,
                       const std::string& what) {
    const Sampled sampled =
        SampleAll(backend, model_, setup_, std::max(setup_.together, 4));
    const SchedulerStats& stats = sampled.stats.scheduler;
    const bool preempts = setup_.pages < SamplerSetup().pages;
    EXPECT_EQ(stats.preemptions > 0, preempts) << what;
    if (prefixes || !preempts) {  // who resumes finds its own pages
      EXPECT_EQ(stats.prefix_hit_tokens > 0, prefixes) << what;
    }
    ExpectAsAlone(sampled, what);
    ExpectZeroMismatch(backend, sampled,
                       {PrefixSharing::kUnshared, setup_.together}, what);
    ++compared_;
    if (!prefixes) return;
    ExpectZeroMismatch(backend, sampled,
                       {PrefixSharing::kShared, setup_.together}, what);
    ++compared_;
  }

  void RunOn(Backend* backend, bool prefixes, const std::string& name) {
    const auto pages_of_one = static_cast<int32_t>(
        (model_.longest() + kPageTokens - 1) / kPageTokens);
    for (const int together : {1, 2, 3, 8, 33, 64}) {
      for (const int64_t batch_tokens : {64, 67, 2048}) {
        for (const bool preempts : {false, true}) {
          if (preempts && together == 1) continue;  // by nobody
          setup_.together = together;
          setup_.batch_tokens = batch_tokens;
          setup_.pages = preempts ? pages_of_one : SamplerSetup().pages;
          ExpectAllIsWell(backend, prefixes,
                          absl::StrCat(name, ", ", together, " at once, ",
                                       batch_tokens, " tokens a forward, ",
                                       setup_.pages, " pages, prefixes ",
                                       prefixes ? "shared" : "unlike"));
        }
      }
    }
  }

  int64_t compared_ = 0;  // engines' records with forwards of a learner
};

TEST_P(ZeroMismatchMatrix, EachWayOfSamplingWithEachOfTraining) {
  for (const bool prefixes : {true, false}) {
    if (!prefixes) {
      MakePromptsDiffer(&model_);
      ForgetAlone();
    }
    for (const std::string& tier : BackendNames()) {
      for (const int threads : {1, 2}) {
        const auto backend = NewBackend({.name = tier, .threads = threads});
        RunOn(backend.get(), prefixes,
              absl::StrCat(tier, ", ", threads, " threads"));
      }
    }
  }
  LOG(INFO) << compared_ << " comparisons";
}

INSTANTIATE_TEST_SUITE_P(
    Models, ZeroMismatchMatrix,
    testing::Combine(testing::Values("Tiny"),
                     testing::Values("fp32", "bf16", "fp8"),
                     testing::Values(1.0f)),
    [](const auto& info) { return std::get<1>(info.param); });

#endif  // TEMPER_WHOLE_MATRICES

// What a sanitizer looks for is in the smallest model as in the others.
std::vector<std::string> ModelNames() {
  if (kSanitized) return {"Tiny"};
  return {"Tiny", "GoldenC", "Quickstart"};
}

INSTANTIATE_TEST_SUITE_P(
    Models, ZeroMismatchTest,
    testing::Combine(testing::ValuesIn(ModelNames()),
                     testing::Values("fp32", "bf16", "fp8"),
                     testing::Values(1.0f, 0.85f)),
    [](const auto& info) {
      return absl::StrCat(std::get<0>(info.param), "_", std::get<1>(info.param),
                          std::get<2>(info.param) == 1 ? "" : "_cooler");
    });

}  // namespace
}  // namespace temper
