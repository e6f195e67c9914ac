#include "learner/train/token_logprob.h"

#include <cmath>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/rng.h"
#include "kernels/find_backend.h"
#include "kernels/model/test_model.h"
#include "kernels/ops/testing/counting_backend.h"
#include "learner/train/device_array.h"

namespace temper {
namespace {

constexpr double kTemperature = 0.7;
constexpr int64_t kRows = 4;

// The head of a random model over random hidden states [kRows, D]. Five sampled
// tokens: two predicted by the same row, a row that predicts none, rows with
// and without a kept set.
class TokenLogProbTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { SetFlushDenormals(); }

  TokenLogProbTest()
      : backend_(*FindBackend({})),
        weights_(RandomModel(backend_.get(), TinyConfig(), /*seed=*/7)),
        gradients_(*ModelGradients::Create(backend_.get(), TinyConfig())),
        dim_(TinyConfig().hidden_size),
        vocab_(TinyConfig().vocab_size),
        hidden_array_(backend_.get()),
        logprob_(backend_.get()) {
    packed_.sampled = {{0, 0, 11}, {2, 0, 60}, {2, 1, 3}, {3, 1, 0}, {3, 2, 9}};
    packed_.kept_offsets = {0, 3, 3, 5, 5, 6};
    packed_.kept_ids = {4, 11, 30, 3, 59, 9};
    std::vector<float> hidden;
    for (int64_t i = 0; i < kRows * dim_; ++i) {
      hidden.push_back(static_cast<float>(
          Normal({1, RngPurpose::kTest, static_cast<uint64_t>(i)})));
    }
    hidden_ = hidden_array_.Upload(hidden)->Reshape({kRows, dim_});
    x_.assign(hidden.begin(), hidden.end());
    const std::vector<float> head =
        *Download(backend_.get(), weights_->value("lm_head.weight"));
    w_.assign(head.begin(), head.end());
  }

  struct Plain {
    std::vector<double> logp, entropy;
  };

  // The contract in double, of x_ and w_.
  Plain ComputePlain(bool keep_sampling_mask) const {
    Plain plain;
    for (size_t i = 0; i < packed_.sampled.size(); ++i) {
      std::vector<int32_t> kept(
          packed_.kept_ids.begin() + packed_.kept_offsets[i],
          packed_.kept_ids.begin() + packed_.kept_offsets[i + 1]);
      if (!keep_sampling_mask || kept.empty()) {
        kept.clear();
        for (int32_t v = 0; v < vocab_; ++v) kept.push_back(v);
      }
      double sum = 0, target = 0, weighted = 0;
      for (const int32_t v : kept) {
        double z = 0;
        for (int64_t d = 0; d < dim_; ++d) {
          z += w_[v * dim_ + d] * x_[packed_.sampled[i].row * dim_ + d];
        }
        z /= kTemperature;
        sum += std::exp(z);
        weighted += std::exp(z) * z;
        if (v == packed_.sampled[i].token) target = z;
      }
      plain.logp.push_back(target - std::log(sum));
      plain.entropy.push_back(std::log(sum) - weighted / sum);
    }
    return plain;
  }

  // sum_i dlogp_i logp_i
  double Scalar(const std::vector<float>& dlogp,
                bool keep_sampling_mask) const {
    const Plain plain = ComputePlain(keep_sampling_mask);
    double sum = 0;
    for (size_t i = 0; i < dlogp.size(); ++i) sum += dlogp[i] * plain.logp[i];
    return sum;
  }

  double Slope(double* value, const std::vector<float>& dlogp,
               bool keep_sampling_mask) const {
    constexpr double kStep = 1e-5;
    const double at = *value;
    *value = at + kStep;
    const double up = Scalar(dlogp, keep_sampling_mask);
    *value = at - kStep;
    const double down = Scalar(dlogp, keep_sampling_mask);
    *value = at;
    return (up - down) / (2 * kStep);
  }

  TokenLogProbs Forward(bool keep_sampling_mask) {
    const auto result = logprob_.Forward(*weights_, hidden_, packed_,
                                         kTemperature, keep_sampling_mask);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *result : TokenLogProbs();
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<PublishedWeights> weights_;
  std::unique_ptr<ModelGradients> gradients_;
  const int64_t dim_, vocab_;
  DeviceArray hidden_array_;
  TokenLogProb logprob_;
  PackedBatch packed_;
  Tensor hidden_;
  std::vector<double> x_, w_;  // of hidden_ and lm_head
};

TEST_F(TokenLogProbTest, LogProbAndEntropyAreOverTheKeptSetAtTheTemperature) {
  for (const bool keep : {true, false}) {
    const TokenLogProbs got = Forward(keep);
    const Plain want = ComputePlain(keep);
    ASSERT_EQ(got.logp.size(), want.logp.size());
    ASSERT_EQ(got.entropy.size(), want.logp.size());
    for (size_t i = 0; i < want.logp.size(); ++i) {
      EXPECT_NEAR(got.logp[i], want.logp[i], 1e-5) << i << keep;
      EXPECT_NEAR(got.entropy[i], want.entropy[i], 1e-5) << i << keep;
    }
  }
  EXPECT_EQ(Forward(true).logp[4], 0);  // the only one that was kept
}

TEST_F(TokenLogProbTest, BackwardIsTheDerivativeOfWhatForwardGave) {
  const std::vector<float> dlogp = {0.5f, -1.0f, 2.0f, 0.25f, -0.75f};
  for (const bool keep : {true, false}) {
    Forward(keep);
    gradients_->Zero();
    const auto dhidden = logprob_.Backward(*weights_, dlogp, gradients_.get());
    ASSERT_TRUE(dhidden.ok()) << dhidden.status();
    ASSERT_EQ(dhidden->dim(0), kRows);
    const std::vector<float> dx = *Download(backend_.get(), *dhidden);
    const std::vector<float> dw =
        *Download(backend_.get(), gradients_->grad("lm_head.weight"));
    for (size_t i = 0; i < x_.size(); ++i) {
      EXPECT_NEAR(dx[i], Slope(&x_[i], dlogp, keep), 1e-5) << i << keep;
    }
    for (size_t i = 0; i < w_.size(); i += 7) {
      EXPECT_NEAR(dw[i], Slope(&w_[i], dlogp, keep), 1e-5) << i << keep;
    }
    for (int64_t d = 0; d < dim_; ++d) EXPECT_EQ(dx[dim_ + d], 0);
  }
}

TEST_F(TokenLogProbTest, BackwardAddsToTheHeadsGradientAndToNoOther) {
  const std::vector<float> dlogp = {0.5f, -1.0f, 2.0f, 0.25f, -0.75f};
  gradients_->Zero();
  Forward(true);
  ASSERT_TRUE(logprob_.Backward(*weights_, dlogp, gradients_.get()).ok());
  const Tensor head = gradients_->grad("lm_head.weight");
  const std::vector<float> once = *Download(backend_.get(), head);
  ASSERT_TRUE(logprob_.Backward(*weights_, dlogp, gradients_.get()).ok());
  const std::vector<float> twice = *Download(backend_.get(), head);
  for (size_t i = 0; i < once.size(); ++i) {
    EXPECT_NEAR(twice[i], 2 * once[i], 1e-5);
  }
  const std::vector<float> all = *Download(backend_.get(), gradients_->all());
  for (const Parameter& parameter : weights_->parameters()) {
    if (parameter.name == "lm_head.weight") continue;
    for (int64_t i = 0; i < parameter.elements; ++i) {
      ASSERT_EQ(all[parameter.offset + i], 0) << parameter.name;
    }
  }
}

TEST_F(TokenLogProbTest, ABatchThatSampledNothingHasNoneAndNoGradient) {
  Forward(true);  // leaves numbers in the arrays that are used again
  packed_ = PackedBatch();
  packed_.kept_offsets = {0};
  EXPECT_TRUE(Forward(true).logp.empty());
  gradients_->Zero();
  const auto dhidden = logprob_.Backward(*weights_, {}, gradients_.get());
  ASSERT_TRUE(dhidden.ok()) << dhidden.status();
  const std::vector<float> values = *Download(backend_.get(), *dhidden);
  EXPECT_EQ(values, std::vector<float>(kRows * dim_, 0.0f));
}

TEST(TokenLogProbMemoryTest, TakesWhatThePlanSays) {
  SetFlushDenormals();
  const auto inner = *FindBackend({});
  CountingBackend backend(inner.get());
  const ModelConfig config = TinyConfig();
  const auto weights = RandomModel(&backend, config, /*seed=*/7);
  const auto gradients = *ModelGradients::Create(&backend, config);
  DeviceArray hidden(&backend);
  PackedBatch packed;
  packed.kept_offsets = {0};
  for (int32_t row = 0; row < 64; ++row) {
    packed.sampled.push_back({row, 0, 5});
    for (int32_t id = 0; id < TokenLogProb::kKeptAToken; ++id) {
      packed.kept_ids.push_back(id);
    }
    packed.kept_offsets.push_back(static_cast<int32_t>(packed.kept_ids.size()));
  }
  const Tensor x = *hidden.Reserve(DType::kF32, {64, config.hidden_size});
  const int64_t before = backend.allocated_bytes();
  TokenLogProb logprob(&backend);
  ASSERT_TRUE(logprob.Forward(*weights, x, packed, 1, true).ok());
  ASSERT_TRUE(
      logprob.Backward(*weights, std::vector<float>(64, 0.1f), gradients.get())
          .ok());
  const auto taken = static_cast<double>(backend.allocated_bytes() - before);
  const auto planned = static_cast<double>(TokenLogProb::BytesFor(config, 64));
  EXPECT_NEAR(taken / planned, 1, 0.02);
}

}  // namespace
}  // namespace temper
