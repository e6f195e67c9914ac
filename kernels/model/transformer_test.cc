// Values and gradients against an oracle: tests/model_parity_test.cc. Bitwise
// invariance: tests/model_invariance_test.cc. Here: what is refused, replay,
// shared segments, and which parameters a gradient may reach.

#include "kernels/model/transformer.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/rng.h"
#include "kernels/find_backend.h"
#include "kernels/model/test_model.h"

namespace temper {
namespace {

constexpr int64_t kTokensMax = 256;

// In fp32 and in bf16.
class TransformerTest : public ::testing::TestWithParam<Numerics> {
 protected:
  void SetUp() override {
    SetFlushDenormals();
    backend_ = *FindBackend({});
    weights_ = RandomModel(backend_.get(), config_, 7,
                           Passes::kForwardAndBackward, GetParam());
    model_ = *Transformer::Create(backend_.get(), weights_.get(), kTokensMax);
    tape_ = *model_->NewTape(kTokensMax);
    gradients_ = *ModelGradients::Create(backend_.get(), config_);
  }

  std::vector<float> ToHost(const Tensor& x) {
    std::vector<float> values(x.elements());
    EXPECT_TRUE(backend_->Read(x, values.data()).ok());
    return values;
  }

  std::vector<float> Forward(TokenBatch* batch) {
    Tensor hidden;
    const absl::Status status =
        model_->Forward(batch, nullptr, tape_.get(), {}, &hidden);
    EXPECT_TRUE(status.ok()) << status;
    return ToHost(hidden);
  }

  // Adds the gradient of sum_row sum_i c(row, i) hidden[row, i].
  void Backward(int64_t rows, const std::function<float(int64_t, int64_t)>& c) {
    const int64_t d = config_.hidden_size;
    std::vector<float> dhidden(rows * d);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < d; ++i) dhidden[r * d + i] = c(r, i);
    }
    auto buffer = *backend_->Allocate(rows * d * 4);
    const Tensor view(buffer->data(), DType::kF32, {rows, d});
    ASSERT_TRUE(backend_->CopyFromHost(dhidden.data(), view).ok());
    model_->Backward(tape_.get(), view, gradients_.get());
  }

  double GroupNorm(ParameterGroup group) {
    double sum = 0;
    for (const Parameter& p : weights_->parameters()) {
      if (p.group != group) continue;
      for (const float g : ToHost(gradients_->grad(p))) sum += g * g;
    }
    return std::sqrt(sum);
  }

  const ModelConfig config_ = TinyConfig();
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<PublishedWeights> weights_;
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<Tape> tape_;
  std::unique_ptr<ModelGradients> gradients_;
};

float Coefficient(int64_t sequence, int64_t position, int64_t i) {
  return Uniform({3, RngPurpose::kTest, static_cast<uint64_t>(position),
                  static_cast<uint32_t>(sequence), static_cast<uint32_t>(i)}) -
         0.5f;
}

TEST_P(TransformerTest, RefusesMalformedBatchesByName) {
  const auto refusal = [&](const std::function<void(TokenBatch*)>& spoil) {
    TokenBatch batch =
        MakeTrainingBatch(config_, {{RandomTokens(config_, 1, 9)}}).batch;
    spoil(&batch);
    Tensor hidden;
    const absl::Status status =
        model_->Forward(&batch, nullptr, tape_.get(), {}, &hidden);
    EXPECT_TRUE(hidden.empty());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  const auto names = [&](const char* what,
                         const std::function<void(TokenBatch*)>& spoil) {
    const std::string message = refusal(spoil);
    EXPECT_TRUE(absl::StrContains(message, what)) << message;
  };
  names("id 61", [](TokenBatch* b) { b->tokens[4] = 61; });
  names("id -1", [](TokenBatch* b) { b->tokens[4] = -1; });
  names("position 9", [](TokenBatch* b) { b->position[4] = 9; });
  names("sequence 1", [](TokenBatch* b) { b->sequence[4] = 1; });
  names("slot 5", [](TokenBatch* b) { b->slot[4] = 5; });
  names("block 9", [](TokenBatch* b) {
    b->blocks[3] = 9;
    b->tokens.erase(b->tokens.begin() + 3);
    for (auto* x : {&b->position, &b->sequence, &b->slot}) {
      x->erase(x->begin() + 3);
    }
    for (int i = 3; i < 8; ++i) b->slot[i] = i, b->blocks[i + 1] = i;
    b->routes.resize(b->routes.size() - 4);
  });
  names("route 8", [](TokenBatch* b) { b->routes[0] = 0, b->routes[1] = 8; });
  names("ascending", [](TokenBatch* b) { b->routes[0] = b->routes[1] = 3; });
  names("route entries", [](TokenBatch* b) { b->routes.pop_back(); });
  names("0 tokens", [](TokenBatch* b) { *b = TokenBatch(); });
}

TEST_P(TransformerTest, RecordedRoutesReplayTheSameBitsAndOthersDoNot) {
  TokenBatch batch =
      MakeTrainingBatch(config_, {{RandomTokens(config_, 1, 40)}}).batch;
  const std::vector<float> live = Forward(&batch);
  for (size_t i = 0; i < batch.routes.size(); i += 2) {
    EXPECT_GE(batch.routes[i], 0);
    EXPECT_LT(batch.routes[i], batch.routes[i + 1]);
  }
  TokenBatch replayed = batch;
  EXPECT_EQ(Forward(&replayed), live);
  EXPECT_EQ(replayed.routes, batch.routes);
  TokenBatch other = batch;
  const bool low = other.routes[0] == 0 && other.routes[1] == 1;
  other.routes[0] = low ? 2 : 0;
  other.routes[1] = low ? 3 : 1;
  EXPECT_NE(Forward(&other), live);
}

TEST_P(TransformerTest, AgreementCountsTheRoutersChoiceWhateverIsReplayed) {
  TokenBatch batch =
      MakeTrainingBatch(config_, {{RandomTokens(config_, 1, 40)}}).batch;
  const std::vector<float> hidden = Forward(&batch);
  const int64_t rows = batch.size() * config_.moe_layers();
  const int64_t chosen = config_.num_experts_per_tok;
  // The choice of the last layer's last row leads to no other choice.
  TokenBatch other = batch;
  int32_t* const last = &other.routes[other.routes.size() - chosen];
  const bool low = last[0] == 0 && last[1] == 1;
  last[0] = low ? 2 : 0;
  last[1] = low ? 3 : 1;
  const auto room = *backend_->Allocate(sizeof(int64_t));
  ForwardOptions options;
  options.agreement =
      Tensor(room->data(), DType::kI64, {1}, backend_->device());
  int64_t want = 0;  // counts add up
  for (TokenBatch replayed : {batch, other}) {
    Tensor view;
    ASSERT_TRUE(
        model_->Forward(&replayed, nullptr, tape_.get(), options, &view).ok());
    int64_t count = 0;
    ASSERT_TRUE(backend_->Read(options.agreement, &count).ok());
    want += rows - (replayed.routes == batch.routes ? 0 : 1);
    EXPECT_EQ(count, want);
    EXPECT_EQ(ToHost(view) == hidden, replayed.routes == batch.routes);
  }
}

TEST_P(TransformerTest, SharedSegmentsHaveTheValuesAndGradientsOfUnsharedOnes) {
  const std::vector<int32_t> trunk = RandomTokens(config_, 1, 50);
  std::vector<TrainingSequence> shared = {
      {trunk}, {trunk, 0, 37}, {trunk, 1, 44}};
  for (size_t s = 1; s < shared.size(); ++s) {
    const std::vector<int32_t> tail = RandomTokens(config_, 10 + s, 30);
    shared[s].tokens.resize(shared[s].shared);
    shared[s].tokens.insert(shared[s].tokens.end(), tail.begin(), tail.end());
  }
  // The third branches off inside the second's own part.
  std::copy_n(shared[1].tokens.begin(), 44, shared[2].tokens.begin());
  std::vector<TrainingSequence> unshared;
  for (const TrainingSequence& s : shared) unshared.push_back({s.tokens});

  std::vector<std::vector<float>> gradients;
  std::vector<std::vector<float>> hidden;
  for (const auto& sequences : {shared, unshared}) {
    TrainingBatch made = MakeTrainingBatch(config_, sequences);
    const std::vector<float> rows = Forward(&made.batch);
    const int64_t d = config_.hidden_size;
    std::vector<float> by_sequence;
    std::vector<float> c(made.batch.size() * d, 0);
    for (size_t s = 0; s < sequences.size(); ++s) {
      for (size_t p = 0; p < made.rows[s].size(); ++p) {
        const int64_t at = made.rows[s][p] * d;
        by_sequence.insert(by_sequence.end(), rows.begin() + at,
                           rows.begin() + at + d);
        for (int64_t i = 0; i < d; ++i) c[at + i] += Coefficient(s, p, i);
      }
    }
    gradients_->Zero();
    Backward(made.batch.size(),
             [&](int64_t r, int64_t i) { return c[r * d + i]; });
    hidden.push_back(by_sequence);
    gradients.push_back(ToHost(gradients_->all()));
  }
  EXPECT_EQ(hidden[0], hidden[1]);
  double worst = 0, size = 0;
  for (size_t i = 0; i < gradients[0].size(); ++i) {
    worst =
        std::max<double>(worst, std::abs(gradients[0][i] - gradients[1][i]));
    size = std::max<double>(size, std::abs(gradients[0][i]));
  }
  EXPECT_GT(size, 0.1);
  // In bf16 a shared row's gradient is rounded once where two are, apart.
  EXPECT_LT(worst, (GetParam() == kFp32 ? 2e-5 : 2e-2) * size);
}

TEST_P(TransformerTest, FiniteButHugeWeightsAreAnErrorThatNamesThem) {
  const std::vector<float> good = RandomValues(config_, 7);
  for (const char* name :
       {"model.layers.1.mlp.gate.weight", "model.layers.2.mlp.gate.weight",
        "model.layers.1.self_attn.indexer.wq_b.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.2.mlp.experts.1.up_proj.weight",
        "model.embed_tokens.weight", "model.norm.weight"}) {
    for (const float size : {1e20f, 1e38f}) {
      std::vector<float> values = good;
      for (const Parameter& p : weights_->parameters()) {
        if (p.name != name) continue;
        std::fill_n(values.begin() + p.offset, p.elements, size);
      }
      SetValues(values, weights_.get());
      TokenBatch batch =
          MakeTrainingBatch(config_, {{RandomTokens(config_, 1, 40)}}).batch;
      Tensor hidden;
      const absl::Status status = model_->Forward(&batch, nullptr, tape_.get(),
                                                  ForwardOptions(), &hidden);
      if (status.ok()) {
        for (const float x : ToHost(hidden)) ASSERT_TRUE(std::isfinite(x));
        continue;  // it did not come to the row that is too large
      }
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
      EXPECT_TRUE(absl::StrContains(std::string(status.message()), name))
          << status;
    }
  }
}

// Its products are the sampler's and the loss's, which know no weights by name.
TEST_P(TransformerTest, AHugeHeadIsNamedOnceItIsPublished) {
  const std::vector<float> good = RandomValues(config_, 7);
  std::vector<float> values = good;
  for (const Parameter& p : weights_->parameters()) {
    if (p.name == "lm_head.weight") values[p.offset] = 3e38f;
  }
  const auto forward = [this] {
    TokenBatch batch =
        MakeTrainingBatch(config_, {{RandomTokens(config_, 1, 4)}}).batch;
    Tensor hidden;
    return model_->Forward(&batch, nullptr, tape_.get(), ForwardOptions(),
                           &hidden);
  };
  EXPECT_TRUE(forward().ok());
  SetValues(values, weights_.get());
  for (int again = 0; again < 2; ++again) {
    const absl::Status status = forward();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_TRUE(absl::StrContains(std::string(status.message()),
                                  "e+38, in \"lm_head.weight\""))
        << status;
  }
  SetValues(good, weights_.get());
  EXPECT_TRUE(forward().ok());
}

TEST_P(TransformerTest, BackwardAddsToGradientsAndLeavesTheIndexersAlone) {
  TokenBatch batch =
      MakeTrainingBatch(config_, {{RandomTokens(config_, 1, 40)}}).batch;
  Forward(&batch);
  const auto c = [](int64_t r, int64_t i) { return Coefficient(0, r, i); };
  Backward(batch.size(), c);
  const std::vector<float> once = ToHost(gradients_->all());
  const double norm = GroupNorm(ParameterGroup::kMain);
  EXPECT_GT(norm, 0);
  EXPECT_EQ(GroupNorm(ParameterGroup::kIndexer), 0);
  EXPECT_EQ(GroupNorm(ParameterGroup::kBias), 0);
  Backward(batch.size(), c);
  EXPECT_NEAR(GroupNorm(ParameterGroup::kMain), 2 * norm, 1e-4 * norm);
}

TEST_P(TransformerTest, IndexerLossReachesTheIndexerAlone) {
  TokenBatch batch =
      MakeTrainingBatch(config_, {{RandomTokens(config_, 1, 40)}}).batch;
  Forward(&batch);
  std::vector<std::vector<float>> kl;
  ASSERT_TRUE(model_
                  ->IndexerLoss(tape_.get(), std::vector<float>(40, 1), &kl,
                                gradients_.get())
                  .ok());
  ASSERT_EQ(kl.size(), 3u);
  EXPECT_EQ(kl[0].size(), 40u);
  EXPECT_NEAR(kl[0][0], 0, 1e-6);
  EXPECT_GT(kl[2][39], 0);
  EXPECT_GT(GroupNorm(ParameterGroup::kIndexer), 0);
  EXPECT_EQ(GroupNorm(ParameterGroup::kMain), 0);
}

TEST_P(TransformerTest, DenseWarmUpReadsEveryKey) {
  TokenBatch batch =
      MakeTrainingBatch(config_, {{RandomTokens(config_, 1, 40)}}).batch;
  std::vector<int32_t> selected;
  DebugTaps taps;
  taps.selected = &selected;
  ForwardOptions options;
  options.taps = &taps;
  options.index_topk = 512;
  Tensor hidden;
  ASSERT_TRUE(
      model_->Forward(&batch, nullptr, tape_.get(), options, &hidden).ok());
  EXPECT_EQ(taps.selected_width, 40);
  for (int32_t s = 0; s < 40; ++s) {
    EXPECT_EQ(selected[39 * 40 + s], s);
  }
  options.index_topk = 0;
  ASSERT_TRUE(
      model_->Forward(&batch, nullptr, tape_.get(), options, &hidden).ok());
  EXPECT_EQ(taps.selected_width, config_.index_topk);
}

TEST_P(TransformerTest, PlannedBytesGrowWithTheBatchAndTrainingNeedsMore) {
  const int64_t small =
      Transformer::InferenceBytes(config_, GetParam(), {.tokens = 16});
  EXPECT_GT(small, 0);
  EXPECT_GT(Transformer::InferenceBytes(config_, GetParam(), {.tokens = 256}),
            small);
  EXPECT_GT(Transformer::TrainingBytes(config_, GetParam(), 256),
            Transformer::InferenceBytes(config_, GetParam(), {.tokens = 256}));
}

INSTANTIATE_TEST_SUITE_P(, TransformerTest,
                         ::testing::Values(kFp32, kBf16, kFp8),
                         [](const auto& info) { return NameOf(info.param); });

}  // namespace
}  // namespace temper
