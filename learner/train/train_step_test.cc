#include "learner/train/train_step.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/rng.h"
#include "kernels/find_backend.h"
#include "kernels/model/test_model.h"
#include "learner/train/train_step_oracle.h"

namespace temper {
namespace {

using testing::HasSubstr;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kLearningRate = 1e-3;
constexpr uint64_t kSeed = 7;

// A model in training, with all that its step needs.
struct Trainee {
  TrainableModel model;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<TrainStep> step;
};

class TrainStepTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { SetFlushDenormals(); }

  TrainStepTest()
      : backend_(*FindBackend({})),
        base_(RandomModel(backend_.get(), TinyConfig(), kSeed)),
        reference_(RandomModel(backend_.get(), TinyConfig(), kSeed)) {
    // Near enough to the policy for a KL that one would meet.
    std::vector<float> values = ValuesOf(*base_);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] *= 1 + 0.1f * (Draw(i) - 0.5f);
    }
    EXPECT_TRUE(reference_->SetBytes(BytesOf(values)).ok());
    options_.temperature = 0.9;
    options_.optimizer.set_grad_clip(0);
    options_.tokens_max = 4096;
  }

  static float Draw(uint64_t index) {
    return Uniform({kSeed, RngPurpose::kTest, index, 9, 0});
  }

  Episode Make(const DrawnEpisode& spec) const {
    return MakeEpisode(backend_.get(), *base_, spec);
  }

  // Two groups of two episodes, the second of them with two branches and of
  // domain "math".
  std::vector<Episode> MakeBatch() const {
    return {Make({1, 0, 1.0}), Make({1, 1, 0.25}), Make({2, 0, 0.0, 2, "math"}),
            Make({2, 1, 2.0, 1, "math"})};
  }

  Trainee NewTrainee() const {
    Trainee trainee;
    trainee.model = TrainableOf(backend_.get(), TinyConfig(), ValuesOf(*base_));
    trainee.optimizer = *Optimizer::Create(
        backend_.get(), trainee.model.masters.get(),
        trainee.model.weights.get(), {ParameterGroup::kMain});
    auto step =
        TrainStep::Create(backend_.get(), trainee.model.weights.get(),
                          reference_.get(), trainee.optimizer.get(), options_);
    EXPECT_TRUE(step.ok()) << step.status();
    trainee.step = *std::move(step);
    return trainee;
  }

  static StepMetrics Run(const Trainee& trainee,
                         const std::vector<Episode>& episodes,
                         double learning_rate = kLearningRate) {
    std::vector<const Episode*> pointers;
    for (const Episode& episode : episodes) pointers.push_back(&episode);
    const auto metrics =
        trainee.step->Run(pointers, /*version=*/1, learning_rate);
    EXPECT_TRUE(metrics.ok()) << metrics.status();
    return metrics.ok() ? *metrics : StepMetrics();
  }

  // The record of a sampler that has the policy's weights, off by up to `gap`
  // nats a token.
  void Record(std::vector<Episode>* episodes, double gap = 0) const {
    const StepMetrics metrics = Run(NewTrainee(), *episodes);
    for (size_t e = 0; e < episodes->size(); ++e) {
      size_t t = 0;
      for (EpisodeBranch& branch : (*episodes)[e].branches) {
        for (float& logp : branch.logprobs) {
          const float draw = Draw(100'000 + 100 * e + t) - 0.5f;
          logp =
              metrics.trained[e].logp[t++] + static_cast<float>(2 * gap) * draw;
        }
      }
    }
  }

  OracleStep Oracle(const std::vector<Episode>& episodes) const {
    return ComputeOracleStep(
        backend_.get(), *base_,
        options_.NeedsReference() ? reference_.get() : nullptr, episodes,
        /*version=*/1, options_);
  }

  // Every value of the oracle's, and nothing else but what it leaves out.
  void ExpectOracle(const std::vector<Episode>& episodes) const {
    const StepMetrics metrics = Run(NewTrainee(), episodes);
    const OracleStep oracle = Oracle(episodes);
    EXPECT_EQ(
        metrics.values.size(),
        oracle.values.size() + (options_.objective.keep_routing() ? 3 : 2));
    for (const auto& [name, value] : oracle.values) {
      ASSERT_EQ(metrics.values.count(name), 1u) << name;
      EXPECT_NEAR(metrics.values.at(name), value, 2e-5) << name;
    }
    ASSERT_EQ(metrics.trained.size(), episodes.size());
    for (size_t e = 0; e < episodes.size(); ++e) {
      EXPECT_EQ(metrics.trained[e].group, episodes[e].group);
      EXPECT_EQ(metrics.trained[e].sample, episodes[e].sample);
      EXPECT_NEAR(metrics.trained[e].advantage, oracle.advantages[e], 1e-12);
      EXPECT_EQ(metrics.trained[e].masked, oracle.masked[e]) << e;
      ASSERT_EQ(metrics.trained[e].logp.size(), oracle.logp[e].size());
      for (size_t t = 0; t < oracle.logp[e].size(); ++t) {
        EXPECT_NEAR(metrics.trained[e].logp[t], oracle.logp[e][t], 2e-5);
      }
    }
  }

  // The gradient of a trainee's first step, from its first moments.
  static std::vector<double> Gradient(const Trainee& trainee) {
    std::vector<float> moments(trainee.optimizer->moments());
    EXPECT_TRUE(trainee.optimizer->CopyMoments(0, &moments).ok());
    std::vector<double> gradient;
    for (size_t i = 0; i < moments.size() / 2; ++i) {
      gradient.push_back(moments[i] / (1 - UsualOptimizer().beta1()));
    }
    return gradient;
  }

  static double Norm(const std::vector<double>& x) {
    double squares = 0;
    for (const double value : x) squares += value * value;
    return std::sqrt(squares);
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<PublishedWeights> base_;
  std::unique_ptr<PublishedWeights> reference_;
  TrainStepOptions options_;
};

TEST_F(TrainStepTest, MetricsAreThoseOfThePlainFormula) {
  std::vector<Episode> episodes = MakeBatch();
  Record(&episodes, /*gap=*/0.6);
  episodes[1].branches[0].versions[0].version = 5;  // not compared
  options_.objective.set_kl_coef(0.05);
  options_.domain_kl_coef["math"] = 0.3;
  ExpectOracle(episodes);
  options_.objective.set_loss_aggregation(ObjectiveConfig::token_mean);
  options_.objective.set_advantage_norm(ObjectiveConfig::std);
  options_.objective.set_clip_ratio_low(0.05);
  options_.objective.set_clip_ratio_high(0.02);
  ExpectOracle(episodes);
  const StepMetrics metrics = Run(NewTrainee(), episodes);
  EXPECT_GT(metrics.values.at("clip_frac_low"), 0);
  EXPECT_GT(metrics.values.at("clip_frac_high"), 0);
}

// Along the gradient itself and along its part in each tensor, by central
// differences of the oracle's loss.
TEST_F(TrainStepTest, TheGradientIsTheDerivativeOfThePlainLoss) {
  std::vector<Episode> episodes = MakeBatch();
  Record(&episodes, /*gap=*/0.1);
  options_.objective.set_kl_coef(0.5);
  const Trainee trainee = NewTrainee();
  const StepMetrics metrics = Run(trainee, episodes);
  const std::vector<double> gradient = Gradient(trainee);
  EXPECT_NEAR(metrics.values.at("grad_norm"), Norm(gradient),
              1e-6 * Norm(gradient));
  const std::vector<float> values = ValuesOf(*base_);
  const auto expect_slope = [&](int64_t begin, int64_t end,
                                const std::string& what) {
    std::vector<double> part(gradient.begin() + begin, gradient.begin() + end);
    const double norm = Norm(part);
    constexpr double kStep = 4e-3;
    double loss[2];
    for (const int side : {0, 1}) {
      std::vector<float> moved = values;
      for (int64_t i = begin; i < end; ++i) {
        moved[i] += static_cast<float>((side == 0 ? -kStep : kStep) *
                                       gradient[i] / norm);
      }
      ASSERT_TRUE(base_->SetBytes(BytesOf(moved)).ok());
      loss[side] = Oracle(episodes).values.at("loss");
    }
    EXPECT_NEAR((loss[1] - loss[0]) / (2 * kStep), norm, 0.01 * norm + 1e-4)
        << what;
  };
  const auto all = static_cast<int64_t>(values.size());
  expect_slope(0, all, "all");
  for (const Parameter& parameter : base_->parameters()) {
    if (parameter.group != ParameterGroup::kMain) continue;
    if (Norm({gradient.begin() + parameter.offset,
              gradient.begin() + parameter.offset + parameter.elements}) == 0) {
      continue;  // an expert that no token chose
    }
    expect_slope(parameter.offset, parameter.offset + parameter.elements,
                 parameter.name);
  }
}

TEST_F(TrainStepTest, OnPolicyEveryRatioIsExactlyOneAndTheMismatchZero) {
  std::vector<Episode> episodes = MakeBatch();
  Record(&episodes);
  const StepMetrics metrics = Run(NewTrainee(), episodes);
  EXPECT_EQ(metrics.values.at("ratio/mean"), 1);
  EXPECT_EQ(metrics.values.at("ratio/max"), 1);
  EXPECT_EQ(metrics.values.at("mismatch_kl"), 0);
  EXPECT_EQ(metrics.values.at("train_rollout_logprob_abs_diff/max"), 0);
}

TEST_F(TrainStepTest, MinibatchesAreUpdatesOneAfterTheOtherOnTheSameRecord) {
  std::vector<Episode> episodes = MakeBatch();
  Record(&episodes);
  options_.objective.set_kl_coef(0.05);
  options_.objective.set_minibatches(2);
  const Trainee trainee = NewTrainee();
  const StepMetrics both = Run(trainee, episodes);
  EXPECT_EQ(trainee.optimizer->steps(), 2);
  // The same updates by two steps of one minibatch.
  options_.objective.set_minibatches(1);
  const Trainee other = NewTrainee();
  const StepMetrics first = Run(other, {episodes[0], episodes[1]});
  const StepMetrics second = Run(other, {episodes[2], episodes[3]});
  EXPECT_EQ(trainee.model.masters->GetValues(),
            other.model.masters->GetValues());
  EXPECT_EQ(first.values.at("ratio/max"), 1);
  EXPECT_NE(second.values.at("ratio/max"), 1);
  EXPECT_EQ(both.values.at("ratio/max"),
            std::max(1.0, second.values.at("ratio/max")));
  for (const char* name : {"loss", "pg_loss", "kl_loss", "grad_norm"}) {
    EXPECT_DOUBLE_EQ(both.values.at(name),
                     (first.values.at(name) + second.values.at(name)) / 2)
        << name;
  }
  // The mismatch is of the weights that sampled: before the first update.
  EXPECT_EQ(both.values.at("train_rollout_logprob_abs_diff/max"), 0);
  EXPECT_EQ(both.values.at("train_rollout_logprob_abs_diff/tokens"),
            episodes[0].SampledTokens() + episodes[1].SampledTokens());
}

TEST_F(TrainStepTest, AnUpdatesGradientHoldsNothingOfTheOneBefore) {
  std::vector<Episode> episodes = MakeBatch();
  Record(&episodes);
  const Trainee trainee = NewTrainee();
  const StepMetrics first = Run(trainee, episodes, /*learning_rate=*/0);
  EXPECT_EQ(Run(trainee, episodes, /*learning_rate=*/0).values, first.values);
}

TEST_F(TrainStepTest, ADomainsBetaIsItsOwn) {
  std::vector<Episode> episodes = MakeBatch();
  for (Episode& episode : episodes) episode.domain = "math";
  Record(&episodes);
  const auto trained = [&](double kl_coef, double math) {
    options_.objective.set_kl_coef(kl_coef);
    options_.domain_kl_coef = {{"math", math}};
    const Trainee trainee = NewTrainee();
    Run(trainee, episodes);
    return trainee.model.masters->GetValues();
  };
  EXPECT_EQ(trained(0.5, 0), trained(0, 0));
  EXPECT_EQ(trained(0, 0.5), trained(0.5, 0.5));
  EXPECT_NE(trained(0, 0.5), trained(0, 0));
}

TEST_F(TrainStepTest, KlIsAbsentWithoutAReferenceAndTheBatchsMeanWithOne) {
  std::vector<Episode> episodes = MakeBatch();
  Record(&episodes);
  EXPECT_EQ(Run(NewTrainee(), episodes).values.count("kl"), 0u);
  // No episode of this domain: the reference is measured against all the same.
  options_.domain_kl_coef["code"] = 0.1;
  const StepMetrics metrics = Run(NewTrainee(), episodes);
  EXPECT_EQ(metrics.values.at("kl_loss"), 0);
  EXPECT_NEAR(metrics.values.at("kl"), Oracle(episodes).values.at("kl"), 2e-5);
  EXPECT_GT(metrics.values.at("kl"), 1e-3);
}

TEST_F(TrainStepTest, RecordedRoutesAreTakenUnlessKeepRoutingIsOff) {
  std::vector<Episode> episodes = MakeBatch();
  Record(&episodes);
  const auto trained = [&](bool keep_routing) {
    options_.objective.set_keep_routing(keep_routing);
    const Trainee trainee = NewTrainee();
    Run(trainee, episodes);
    return trainee.model.masters->GetValues();
  };
  // The record is what the model chooses by itself: nothing to tell apart.
  const std::vector<float> live = trained(true);
  EXPECT_EQ(trained(false), live);
  // Other experts on record in the first episode's last row.
  std::vector<int32_t>& routes = episodes[0].branches[0].routes;
  for (size_t i = routes.size() - 4; i < routes.size(); i += 2) {
    routes[i] = (routes[i] + 3) % 7;
    routes[i + 1] = 7;
  }
  EXPECT_NE(trained(true), live);
  EXPECT_EQ(trained(false), live);
  for (const bool keep : {true, false}) {
    options_.objective.set_keep_routing(keep);
    ExpectOracle(episodes);
  }
}

TEST_F(TrainStepTest, RoutingAgreesWhereTheRouterStillChoosesWhatWasKept) {
  std::vector<Episode> episodes = {Make({1, 0, 1.0}), Make({1, 1, 0.0})};
  EXPECT_EQ(Run(NewTrainee(), episodes).values.at("routing/agreement"), 1);
  // The last row's choice in the last layer leads to no other choice.
  std::vector<int32_t>& routes = episodes[1].branches[0].routes;
  int32_t* const last = &routes[routes.size() - 2];
  const bool low = last[0] == 0 && last[1] == 1;
  last[0] = low ? 2 : 0;
  last[1] = low ? 3 : 1;
  const StepMetrics metrics = Run(NewTrainee(), episodes);
  const auto choices =
      static_cast<double>(metrics.rows * TinyConfig().moe_layers());
  EXPECT_DOUBLE_EQ(metrics.values.at("routing/agreement"), 1 - 1 / choices);
  options_.objective.set_keep_routing(false);
  EXPECT_EQ(Run(NewTrainee(), episodes).values.count("routing/agreement"), 0u);
}

TEST_F(TrainStepTest, KeptSetsBoundTheSoftmaxUnlessKeepSamplingMaskIsOff) {
  std::vector<Episode> episodes = MakeBatch();
  Record(&episodes);
  options_.objective.set_kl_coef(0.05);  // the reference's softmax as well
  const StepMetrics kept = Run(NewTrainee(), episodes);
  ExpectOracle(episodes);
  options_.objective.set_keep_sampling_mask(false);
  const Trainee whole = NewTrainee();
  const StepMetrics metrics = Run(whole, episodes);
  ExpectOracle(episodes);
  // Every other token's kept set is the whole vocabulary already.
  for (size_t t = 0; t < kept.trained[0].logp.size(); ++t) {
    const bool same = kept.trained[0].logp[t] == metrics.trained[0].logp[t];
    EXPECT_EQ(same, t % 2 == 1) << t;
  }
  // Switched off is the same as a record without truncation.
  for (Episode& episode : episodes) {
    for (EpisodeBranch& branch : episode.branches) {
      branch.kept_ids.clear();
      branch.kept_offsets.assign(branch.sampled.size() + 1, 0);
    }
  }
  options_.objective.set_keep_sampling_mask(true);
  const Trainee untruncated = NewTrainee();
  EXPECT_EQ(Run(untruncated, episodes).values, metrics.values);
  EXPECT_EQ(untruncated.model.masters->GetValues(),
            whole.model.masters->GetValues());
}

TEST_F(TrainStepTest, BatchesOfRowsChangeNoMetricAndTheGradientInItsLastBits) {
  std::vector<Episode> episodes = MakeBatch();
  Record(&episodes, /*gap=*/0.1);
  options_.objective.set_kl_coef(0.05);
  const Trainee together = NewTrainee();
  const StepMetrics one = Run(together, episodes);
  options_.tokens_max = 21;
  const Trainee apart = NewTrainee();
  const StepMetrics several = Run(apart, episodes);
  EXPECT_GT(several.rows, one.rows);  // so there were several
  EXPECT_EQ(several.rows_unshared, one.rows_unshared);
  for (const auto& [name, value] : one.values) {
    if (name == "grad_norm") continue;
    EXPECT_EQ(several.values.at(name), value) << name;
  }
  const std::vector<double> a = Gradient(together), b = Gradient(apart);
  std::vector<double> difference;
  for (size_t i = 0; i < a.size(); ++i) difference.push_back(a[i] - b[i]);
  EXPECT_LT(Norm(difference), 1e-5 * Norm(a));
  EXPECT_GT(Norm(a), 1e-3);
}

TEST_F(TrainStepTest, ALargeGradientIsScaledToTheClipAndReportedAsItWas) {
  std::vector<Episode> episodes = MakeBatch();
  Record(&episodes);
  const Trainee free = NewTrainee();
  const double norm = Run(free, episodes).values.at("grad_norm");
  options_.optimizer.set_grad_clip(norm / 4);
  const Trainee clipped = NewTrainee();
  EXPECT_EQ(Run(clipped, episodes).values.at("grad_norm"), norm);
  EXPECT_NEAR(Norm(Gradient(clipped)), norm / 4, 1e-4 * norm);
  options_.optimizer.set_grad_clip(norm * 4);
  const Trainee below = NewTrainee();
  Run(below, episodes);
  EXPECT_EQ(below.model.masters->GetValues(), free.model.masters->GetValues());
}

TEST_F(TrainStepTest, ANegativeSequenceThatDriftedTeachesNothing) {
  std::vector<Episode> episodes = MakeBatch();
  Record(&episodes);
  // Episode 1 has a negative advantage, episode 0 a positive one.
  for (const size_t e : {0, 1}) {
    for (float& logp : episodes[e].branches[0].logprobs) logp += 0.15f;
  }
  const StepMetrics masked = Run(NewTrainee(), episodes);
  EXPECT_EQ(masked.values.at("opsm/masked_frac"), 0.25);
  EXPECT_TRUE(masked.trained[1].masked);
  EXPECT_FALSE(masked.trained[0].masked);
  ExpectOracle(episodes);
  options_.objective.set_off_policy_mask_threshold(kInf);
  EXPECT_EQ(Run(NewTrainee(), episodes).values.at("opsm/masked_frac"), 0);
  ExpectOracle(episodes);
  options_.objective.set_off_policy_mask_threshold(0.16);
  EXPECT_EQ(Run(NewTrainee(), episodes).values.at("opsm/masked_frac"), 0);
}

TEST_F(TrainStepTest, TheLearningRateIsThatOfTheCall) {
  std::vector<Episode> episodes = MakeBatch();
  Record(&episodes);
  options_.optimizer.set_learning_rate(123);
  const std::vector<float> before = ValuesOf(*base_);
  const auto largest_change = [&](double rate) {
    const Trainee trainee = NewTrainee();
    EXPECT_EQ(Run(trainee, episodes, rate).values.at("lr"), rate);
    const std::vector<float> after = trainee.model.masters->GetValues();
    double largest = 0;
    for (size_t i = 0; i < after.size(); ++i) {
      largest = std::max(largest, std::fabs(double{after[i]} - before[i]));
    }
    return largest;
  };
  EXPECT_EQ(largest_change(0), 0);
  // AdamW's first update moves a parameter by the learning rate at most.
  EXPECT_NEAR(largest_change(0x1p-9), 0x1p-9, 1e-6);
  EXPECT_NEAR(largest_change(0x1p-8), 0x1p-8, 1e-6);
}

TEST_F(TrainStepTest, IndexerAndBiasesStayAsTheyAreWeightDecayIncluded) {
  std::vector<Episode> episodes = MakeBatch();
  Record(&episodes);
  options_.optimizer.set_weight_decay(0.5);
  const Trainee trainee = NewTrainee();
  Run(trainee, episodes, /*learning_rate=*/0.1);
  const std::vector<float> before = ValuesOf(*base_);
  const std::vector<float> after = trainee.model.masters->GetValues();
  for (const Parameter& parameter : base_->parameters()) {
    const bool same =
        std::equal(before.begin() + parameter.offset,
                   before.begin() + parameter.offset + parameter.elements,
                   after.begin() + parameter.offset);
    // A vector that no token reaches has nothing that moves it.
    if (parameter.group == ParameterGroup::kMain && !parameter.decays) continue;
    EXPECT_EQ(same, parameter.group != ParameterGroup::kMain) << parameter.name;
  }
}

TEST_F(TrainStepTest, EqualRewardsWithoutKlLeaveTheWeights) {
  std::vector<Episode> episodes = {Make({1, 0, 0.5}), Make({1, 1, 0.5})};
  Record(&episodes);
  const Trainee trainee = NewTrainee();
  const StepMetrics metrics = Run(trainee, episodes);
  EXPECT_EQ(metrics.values.at("grad_norm"), 0);
  EXPECT_EQ(trainee.model.masters->GetValues(), ValuesOf(*base_));
  options_.objective.set_kl_coef(0.05);
  EXPECT_GT(Run(NewTrainee(), episodes).values.at("grad_norm"), 0);
}

TEST_F(TrainStepTest, AnEpisodeAboveTheRowsIsRefusedByNameAndNothingChanges) {
  std::vector<Episode> episodes = MakeBatch();
  options_.tokens_max = 4;
  const Trainee trainee = NewTrainee();
  const auto metrics = trainee.step->Run({&episodes[3]}, 1, kLearningRate);
  EXPECT_EQ(metrics.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(metrics.status().message()),
              HasSubstr("group 2, sample 1"));
  EXPECT_EQ(trainee.model.masters->GetValues(), ValuesOf(*base_));
  EXPECT_EQ(trainee.optimizer->steps(), 0);
}

}  // namespace
}  // namespace temper
