#include "learner/train/objective.h"

#include <cmath>
#include <functional>
#include <limits>

#include "gtest/gtest.h"
#include "kernels/base/rng.h"

namespace temper {
namespace {

float Draw(uint32_t ordinal) {
  RngKey key;
  key.ordinal = ordinal;
  return Uniform(key) - 0.5f;
}

ObjectiveSequence MakeSequence(double advantage, double kl_coef) {
  ObjectiveSequence sequence;
  sequence.advantage = advantage;
  sequence.kl_coef = kl_coef;
  for (uint32_t t = 0; t < 9; ++t) {
    const float logp = -1.0f + Draw(3 * t);
    sequence.logp.push_back(logp);
    sequence.logp_old.push_back(logp + Draw(3 * t + 1));
    sequence.logp_ref.push_back(logp + Draw(3 * t + 2));
  }
  return sequence;
}

double Loss(const ObjectiveConfig& options, const BatchShape& shape,
            const ObjectiveSequence& sequence) {
  return SumSequences(options, shape,
                      {ComputeSequence(options, shape, sequence)})
      .loss;
}

// Steps of the loss by one float ulp-scale change against dlogp. The inputs
// are floats, so the step is made in their grid: h = 2^-12, error O(h^2).
void ExpectGradientMatches(const ObjectiveConfig& options, double advantage) {
  constexpr float kStep = 0x1p-12f;
  const BatchShape shape = {3, 20};
  const ObjectiveSequence sequence = MakeSequence(advantage, 0.05);
  const SequenceTerms terms = ComputeSequence(options, shape, sequence);
  for (size_t t = 0; t < sequence.logp.size(); ++t) {
    ObjectiveSequence up = sequence, down = sequence;
    up.logp[t] += kStep;
    down.logp[t] -= kStep;
    const double slope =
        (Loss(options, shape, up) - Loss(options, shape, down)) /
        (static_cast<double>(up.logp[t]) - down.logp[t]);
    EXPECT_NEAR(terms.dlogp[t], slope, 1e-6) << "token " << t;
  }
}

TEST(ObjectiveTest, DlogpIsTheDerivativeForEveryEstimatorAndAggregation) {
  for (const auto kl : {ObjectiveConfig::unbiased_k3, ObjectiveConfig::k3,
                        ObjectiveConfig::k2, ObjectiveConfig::k1}) {
    for (const auto aggregation :
         {ObjectiveConfig::seq_mean_token_mean, ObjectiveConfig::token_mean}) {
      ObjectiveConfig options = PaperObjective();
      options.set_kl_estimator(kl);
      options.set_loss_aggregation(aggregation);
      ExpectGradientMatches(options, 0.7);
      options.set_off_policy_mask_threshold(
          std::numeric_limits<double>::infinity());
      ExpectGradientMatches(options, -0.7);
    }
  }
}

TEST(ObjectiveTest, OnPolicyRatioIsExactlyOne) {
  ObjectiveSequence sequence = MakeSequence(-1, 0);
  sequence.logp_old = sequence.logp;
  const SequenceTerms terms = ComputeSequence({}, {1, 9}, sequence);
  for (const double ratio : terms.ratio) EXPECT_EQ(ratio, 1.0);
  EXPECT_EQ(terms.drift, 0.0);
  EXPECT_FALSE(terms.masked);
}

TEST(ObjectiveTest, MaskDropsDriftedNegativesAndKeepsTheirPlace) {
  ObjectiveSequence sequence = MakeSequence(-1, 0);
  for (size_t t = 0; t < sequence.logp.size(); ++t) {
    sequence.logp_old[t] = sequence.logp[t] + 0.2f;
  }
  const SequenceTerms negative = ComputeSequence({}, {1, 9}, sequence);
  EXPECT_TRUE(negative.masked);
  EXPECT_EQ(negative.surrogate, 0);
  for (const float d : negative.dlogp) EXPECT_EQ(d, 0);
  sequence.advantage = 1;
  EXPECT_FALSE(ComputeSequence({}, {1, 9}, sequence).masked);
  // N still counts the masked one.
  const double alone = SumSequences({}, {1, 9}, {negative}).loss;
  EXPECT_EQ(alone, 0);
}

TEST(ObjectiveTest, UnbiasedKlStaysFiniteWhereThePolicyVanishes) {
  ObjectiveSequence sequence;
  sequence.kl_coef = 1;
  sequence.logp = {-800};
  sequence.logp_old = {-1};
  sequence.logp_ref = {-2};
  const SequenceTerms terms = ComputeSequence({}, {1, 1}, sequence);
  // r k3 -> exp(logp_ref - logp_old) as r -> 0.
  EXPECT_NEAR(terms.kls[0], std::exp(-1.0), 1e-12);
  EXPECT_TRUE(std::isfinite(terms.dlogp[0]));
}

TEST(ObjectiveTest, TheUnbiasedKlIsThereWhateverTheLossEstimates) {
  for (const auto kl : {ObjectiveConfig::unbiased_k3, ObjectiveConfig::k3,
                        ObjectiveConfig::k2, ObjectiveConfig::k1}) {
    ObjectiveConfig options = PaperObjective();
    options.set_kl_estimator(kl);
    const ObjectiveSequence sequence = MakeSequence(1, 0.05);
    const SequenceTerms terms = ComputeSequence(options, {1, 9}, sequence);
    for (size_t t = 0; t < sequence.logp.size(); ++t) {
      EXPECT_NEAR(terms.unbiased_kl[t], terms.ratio[t] * terms.k3[t], 1e-12);
    }
  }
}

// Infinity times a coefficient of 0 is no number.
TEST(ObjectiveTest, AnInfiniteKlOfCoefficientZeroIsNotInTheLoss) {
  ObjectiveConfig options = PaperObjective();
  options.set_kl_estimator(ObjectiveConfig::k3);
  ObjectiveSequence sequence;
  sequence.logp = {-800};
  sequence.logp_old = {-1};
  sequence.logp_ref = {-2};
  const SequenceTerms terms = ComputeSequence(options, {1, 1}, sequence);
  EXPECT_EQ(terms.token_loss[0], 0);
  EXPECT_EQ(terms.dlogp[0], 0);
  EXPECT_NEAR(terms.unbiased_kl[0], std::exp(-1.0), 1e-12);
}

TEST(ObjectiveTest, AdvantagesAreCentredInTheirGroup) {
  const auto a =
      ComputeAdvantages({1, 0, 1, 5}, {7, 7, 7, 9}, ObjectiveConfig::none);
  EXPECT_DOUBLE_EQ(a[0], 1.0 / 3);
  EXPECT_DOUBLE_EQ(a[1], -2.0 / 3);
  EXPECT_EQ(a[3], 0);
  const auto s = ComputeAdvantages({1, 0}, {7, 7}, ObjectiveConfig::std);
  EXPECT_NEAR(s[0], 0.5 / (std::sqrt(0.5) + 1e-6), 1e-12);
}

// A mean of equal numbers may differ from them in its last bit: what is then
// left, -2.2e-16, is neither nothing to learn nor a negative advantage.
TEST(ObjectiveTest, EqualRewardsHaveAnAdvantageOfExactlyZero) {
  for (const auto norm : {ObjectiveConfig::none, ObjectiveConfig::std}) {
    for (const double reward : {1.1, -1.1, 0.1, 1e-300, 100.3}) {
      for (size_t size = 1; size <= 16; ++size) {
        std::vector<double> rewards(size, reward);
        std::vector<int64_t> groups(size, 7);
        rewards.push_back(3);  // another group's
        groups.push_back(9);
        for (const double a : ComputeAdvantages(rewards, groups, norm)) {
          EXPECT_EQ(a, 0) << size << " rewards of " << reward;
        }
      }
    }
  }
}

TEST(ObjectiveTest, StdDoesNotBlowUpRewardsThatAreApartByRounding) {
  const double sum = 0.1 + 0.2;
  ASSERT_NE(sum, 0.3);
  for (const double a :
       ComputeAdvantages({sum, 0.3}, {7, 7}, ObjectiveConfig::std)) {
    EXPECT_LT(std::fabs(a), 1e-9);
  }
}

}  // namespace
}  // namespace temper
