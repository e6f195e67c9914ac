#include "tests/mismatch.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "gtest/gtest.h"
#include "kernels/base/log.h"
#include "learner/train/token_logprob.h"

namespace temper {

void SampleTogether(const TrialModel& model, const SamplerSetup& setup,
                    int begin, int count, Engine* engine, Sampled* sampled) {
  const int end = std::min(count, begin + setup.together);
  std::vector<int64_t> ids;
  for (int s = begin; s < end; ++s) {
    SequenceOptions options;
    options.key = {11, static_cast<uint64_t>(s), 0};
    options.sampling = setup.sampling;
    options.mask = setup.mask;
    options.stop_token = model.stop_token;
    ids.push_back(*engine->Open(options));
  }
  for (const auto part : {&Conversation::prompt, &Conversation::tool_result}) {
    for (int s = begin; s < end; ++s) {
      const absl::Status status = engine->Extend(
          ids[s - begin], model.conversations[s].*part, model.turn_tokens);
      CHECK(status.ok()) << status;
    }
    while (engine->has_running()) CHECK(engine->Step().ok());
  }
  for (const int64_t id : ids) {
    sampled->records.push_back(engine->record(id));
    engine->Close(id);
  }
}

Sampled SampleAll(Backend* backend, const TrialModel& model,
                  const SamplerSetup& setup, int count) {
  const auto weights = WeightsOf(backend, model);
  EngineOptions options;
  options.pages = setup.pages;
  options.batch_tokens_max = setup.batch_tokens;
  auto engine = *Engine::Create(backend, weights.get(), 1, options);
  Sampled sampled;
  for (int begin = 0; begin < count; begin += setup.together) {
    SampleTogether(model, setup, begin, count, engine.get(), &sampled);
  }
  sampled.stats = engine->stats();
  return sampled;
}

Comparison Compare(Backend* backend, const TrialModel& model,
                   const std::vector<Episode>& episodes, float temperature,
                   const LearnerSetup& setup) {
  const auto weights = WeightsOf(backend, model);
  const int64_t rows_max =
      model.longest() * std::min<int64_t>(setup.together, episodes.size());
  auto transformer = *Transformer::Create(backend, weights.get(), rows_max);
  auto tape = *transformer->NewTape(rows_max);
  TokenLogProb logprob(backend);
  Comparison comparison;
  for (size_t begin = 0; begin < episodes.size(); begin += setup.together) {
    std::vector<const Episode*> pointers;
    for (size_t e = begin;
         e < std::min(episodes.size(), begin + setup.together); ++e) {
      pointers.push_back(&episodes[e]);
    }
    auto batches = PackEpisodes(model.config, pointers, rows_max,
                                /*keep_routing=*/true, setup.sharing);
    CHECK(batches.ok()) << batches.status();
    CHECK_EQ(batches->size(), 1u);
    PackedBatch& packed = batches->front();
    comparison.rows += packed.batch.size();
    comparison.rows_unshared += packed.tokens_unshared;
    Tensor hidden;
    const absl::Status status =
        transformer->Forward(&packed.batch, nullptr, tape.get(), {}, &hidden);
    CHECK(status.ok()) << status;
    const auto result = logprob.Forward(*weights, hidden, packed, temperature,
                                        setup.keep_sampling_mask);
    CHECK(result.ok()) << result.status();
    for (size_t i = 0; i < packed.logp_old.size(); ++i) {
      ++comparison.tokens;
      comparison.different += std::memcmp(&result->logp[i], &packed.logp_old[i],
                                          sizeof(float)) != 0;
    }
  }
  return comparison;
}

bool SameRecord(const SequenceRecord& a, const SequenceRecord& b) {
  return a.tokens == b.tokens && a.sampled == b.sampled &&
         a.logprobs.size() == b.logprobs.size() &&
         std::memcmp(a.logprobs.data(), b.logprobs.data(),
                     a.logprobs.size() * sizeof(float)) == 0 &&
         a.kept_offsets == b.kept_offsets && a.kept_ids == b.kept_ids &&
         a.routes == b.routes;
}

void ExpectAsAlone(const Sampled& sampled,
                   const std::vector<SequenceRecord>& alone,
                   const std::string& what) {
  ASSERT_LE(sampled.records.size(), alone.size()) << what;
  for (size_t s = 0; s < sampled.records.size(); ++s) {
    EXPECT_TRUE(SameRecord(sampled.records[s], alone[s]))
        << what << ": conversation " << s << " went another way";
  }
}

void ExpectZeroMismatch(Backend* learner, const TrialModel& model,
                        const Sampled& sampled, float temperature,
                        const LearnerSetup& setup, const std::string& what) {
  const Comparison comparison =
      Compare(learner, model, Deliver(model.config, sampled.records),
              temperature, setup);
  EXPECT_GT(comparison.tokens, static_cast<int64_t>(2 * sampled.records.size()))
      << what;
  EXPECT_EQ(comparison.different, 0)
      << what << ": of " << comparison.tokens << " tokens";
  const bool shares =
      setup.sharing == PrefixSharing::kShared &&
      std::min<size_t>(setup.together, sampled.records.size()) > 1;
  EXPECT_EQ(comparison.rows < comparison.rows_unshared, shares) << what;
}

void MakePromptsDiffer(TrialModel* model) {
  // By two tokens: there are fewer than conversations.
  const int firsts = static_cast<int>(model->config.vocab_size) - 2;
  for (int s = 0; s < kConversations; ++s) {
    model->conversations[s].prompt[0] = 2 + s % firsts;
    model->conversations[s].prompt[1] = 2 + s / firsts;
  }
}

}  // namespace temper
