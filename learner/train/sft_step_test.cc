#include "learner/train/sft_step.h"

#include <cmath>
#include <cstdlib>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/rng.h"
#include "kernels/find_backend.h"
#include "kernels/model/safetensors.h"
#include "kernels/model/test_model.h"
#include "learner/train/init_weights.h"

namespace temper {
namespace {

// The tests' model with fewer layers and words: what learns to copy in 400
// small steps, by attention that must choose among more keys than it keeps.
ModelConfig CopyConfig() {
  ModelConfig config = TinyConfig();
  config.vocab_size = 32;
  config.num_hidden_layers = 2;
  config.index_topk = 8;
  return config;
}

// Copying: BOS, eight random tokens, a mark, the same eight tokens (sampled).
Episode CopyTask(uint32_t index) {
  EpisodeBranch branch;
  branch.tokens.push_back(0);
  for (uint32_t i = 0; i < 8; ++i) {
    RngKey key;
    key.group = index;
    key.ordinal = i;
    branch.tokens.push_back(2 + static_cast<int32_t>(UniformBelow(key, 30)));
  }
  branch.tokens.push_back(1);
  branch.kept_offsets.push_back(0);
  for (int i = 0; i < 8; ++i) {
    branch.sampled.push_back(static_cast<int32_t>(branch.tokens.size()));
    branch.tokens.push_back(branch.tokens[1 + i]);
    branch.logprobs.push_back(0);
    branch.kept_offsets.push_back(0);
  }
  Episode episode;
  episode.group = index;
  episode.branches.push_back(branch);
  return episode;
}

class SftStepTest : public testing::Test {
 protected:
  void SetUp() override {
    SetFlushDenormals();
    backend_ = *FindBackend({});
    weights_ = *MasterWeights::Create(backend_.get(), CopyConfig());
    ASSERT_TRUE(InitWeights(3, 0.08, weights_.get()).ok());
    step_ = *SftStep::Create(backend_.get(), weights_.get(), 4096);
  }

  SftMetrics Run(uint32_t first, int count, const SftStepOptions& options) {
    std::vector<Episode> episodes;
    for (int i = 0; i < count; ++i) episodes.push_back(CopyTask(first + i));
    std::vector<const Episode*> batch;
    for (const Episode& episode : episodes) batch.push_back(&episode);
    const auto metrics = step_->Run(batch, options);
    EXPECT_TRUE(metrics.ok()) << metrics.status();
    return metrics.ok() ? *metrics : SftMetrics();
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<MasterWeights> weights_;
  std::unique_ptr<SftStep> step_;
};

TEST_F(SftStepTest, TheModelLearnsToCopyByDenseAttention) {
  SftStepOptions options;
  options.dense_attention = true;
  options.train_indexer = false;
  options.model.set_learning_rate(4e-3);
  options.bias_update_speed = 0.001;
  const double before = Run(0, 16, options).loss;
  EXPECT_NEAR(before, std::log(32.0), 0.5);
  double after = 0;
  for (uint32_t step = 1; step < 400; ++step) {
    after = Run(step * 16, 16, options).loss;
  }
  // Chance is 3.4 nats; copying needs attention that finds the right key.
  EXPECT_LT(after, 1.0);
}

TEST_F(SftStepTest, TheIndexersWarmUpTrainsItAlone) {
  SftStepOptions options;
  options.dense_attention = true;
  options.train_model = false;
  options.indexer.set_learning_rate(1e-2);
  const std::vector<float> values = weights_->GetValues();
  const double before = Run(0, 16, options).indexer_kl;
  double after = 0;
  for (uint32_t step = 1; step < 60; ++step) {
    after = Run(step * 16, 16, options).indexer_kl;
  }
  EXPECT_LT(after, 0.8 * before);
  const std::vector<float> trained = weights_->GetValues();
  for (const Parameter& parameter : weights_->parameters()) {
    if (parameter.group == ParameterGroup::kIndexer) continue;
    for (int64_t i = 0; i < parameter.elements; ++i) {
      ASSERT_EQ(trained[parameter.offset + i], values[parameter.offset + i])
          << parameter.name;
    }
  }
}

TEST_F(SftStepTest, TheLanguageModelsLossNeverTouchesTheIndexer) {
  SftStepOptions options;
  options.train_indexer = false;
  options.model.set_learning_rate(1e-2);
  options.model.set_weight_decay(0.1);
  const std::vector<float> values = weights_->GetValues();
  Run(0, 16, options);
  const std::vector<float> trained = weights_->GetValues();
  for (const Parameter& parameter : weights_->parameters()) {
    if (parameter.group != ParameterGroup::kIndexer) continue;
    for (int64_t i = 0; i < parameter.elements; ++i) {
      ASSERT_EQ(trained[parameter.offset + i], values[parameter.offset + i])
          << parameter.name;
    }
  }
}

// Weights and optimizers, saved and loaded into another object, go on to the
// same bits: also where only one of the two optimizers has a state.
TEST_F(SftStepTest, ASavedStateGoesOnAsIfItHadNeverStopped) {
  SftStepOptions options;
  options.model.set_learning_rate(1e-2);
  options.model.set_weight_decay(0.1);
  options.indexer.set_learning_rate(1e-2);
  options.bias_update_speed = 0.01;
  for (const bool train_indexer : {false, true}) {
    SCOPED_TRACE(train_indexer);
    options.train_indexer = train_indexer;
    Run(0, 8, options);
    Run(8, 8, options);
    const std::vector<float> values = weights_->GetValues();
    const std::string dir =
        absl::StrCat(getenv("TEST_TMPDIR"), "/state", train_indexer);
    ASSERT_TRUE(MakeDirectories(dir).ok());
    ASSERT_TRUE(step_->SaveOptimizers(dir).ok());
    const SftUpdates updates = step_->updates();
    EXPECT_EQ(updates.model, train_indexer ? 5 : 2);
    EXPECT_EQ(updates.indexer, train_indexer ? 3 : 0);
    options.train_indexer = true;
    Run(16, 8, options);
    const std::vector<float> expected = weights_->GetValues();

    ASSERT_TRUE(weights_->SetValues(values).ok());
    step_ = *SftStep::Create(backend_.get(), weights_.get(), 4096);
    ASSERT_TRUE(step_->LoadOptimizers(dir, updates).ok());
    Run(16, 8, options);
    EXPECT_TRUE(weights_->GetValues() == expected);
  }
}

TEST_F(SftStepTest, OptimizersOfAnotherModelAreRefusedNamingFileAndSizes) {
  const std::string dir = absl::StrCat(getenv("TEST_TMPDIR"), "/other");
  ASSERT_TRUE(MakeDirectories(dir).ok());
  const std::string path = dir + "/optimizer.safetensors";
  SafetensorsEntry entry;
  entry.dtype = "F32";
  entry.shape = {2, 3};
  entry.bytes = 6 * sizeof(float);
  const std::vector<float> values(6);
  for (const auto& [name, said] :
       {std::pair("moments", "\"moments\" is F32[2, 3], not "),
        std::pair("other", " has no \"moments\"")}) {
    entry.name = name;
    ASSERT_TRUE(
        WriteSafetensors(path, {entry}, [&](size_t, const ByteSink& sink) {
          return sink(values.data(), entry.bytes);
        }).ok());
    const absl::Status status = step_->LoadOptimizers(dir, {.model = 1});
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(path));
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(said));
  }
}

}  // namespace
}  // namespace temper
