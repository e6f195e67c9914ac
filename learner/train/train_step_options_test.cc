#include "learner/train/train_step_options.h"

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using testing::HasSubstr;
using testing::UnorderedElementsAreArray;

constexpr double kInf = std::numeric_limits<double>::infinity();

// Values that no option has by itself.
RunConfig Config() {
  RunConfig config;
  ObjectiveConfig* objective = config.mutable_objective();
  objective->set_minibatches(3);
  objective->set_clip_ratio_low(0.11);
  objective->set_clip_ratio_high(0.12);
  objective->set_kl_coef(0.13);
  objective->set_kl_estimator("k1");
  objective->set_off_policy_mask_threshold(0.14);
  objective->set_keep_routing(false);
  objective->set_keep_sampling_mask(false);
  objective->set_advantage_norm("std");
  objective->set_loss_aggregation("token_mean");
  config.mutable_sampling()->set_temperature(0.15);
  OptimizerConfig* optimizer = config.mutable_optimizer();
  optimizer->set_learning_rate(0.16);
  optimizer->set_weight_decay(0.17);
  optimizer->set_beta1(0.18);
  optimizer->set_beta2(0.19);
  optimizer->set_adam_eps(0.2);
  optimizer->set_grad_clip(0.21);
  optimizer->set_warmup_steps(22);
  return config;
}

TrainStepOptions Make(const RunConfig& config) {
  const auto options = MakeTrainStepOptions(config);
  EXPECT_TRUE(options.ok()) << options.status();
  return options.ok() ? *options : TrainStepOptions();
}

// Every option that a key sets, under the key's name.
std::map<std::string, double> Values(const TrainStepOptions& options) {
  return {
      {"minibatches", options.minibatches},
      {"clip_ratio_low", options.objective.clip_ratio_low},
      {"clip_ratio_high", options.objective.clip_ratio_high},
      {"kl_coef", options.kl_coef},
      {"kl_estimator", static_cast<double>(options.objective.kl_estimator)},
      {"off_policy_mask_threshold",
       options.objective.off_policy_mask_threshold},
      {"keep_routing", options.keep_routing},
      {"keep_sampling_mask", options.keep_sampling_mask},
      {"advantage_norm", static_cast<double>(options.objective.advantage_norm)},
      {"loss_aggregation",
       static_cast<double>(options.objective.loss_aggregation)},
      {"temperature", options.temperature},
      {"weight_decay", options.optimizer.weight_decay},
      {"beta1", options.optimizer.beta1},
      {"beta2", options.optimizer.beta2},
      {"adam_eps", options.optimizer.eps},
      {"grad_clip", options.optimizer.grad_clip},
      {"warmup_steps", static_cast<double>(options.warmup_updates)}};
}

struct KeyCase {
  const char* key;
  std::function<void(RunConfig*)> set;
  double option;  // as Values gives it
};

template <typename Enum>
double Number(Enum value) {
  return static_cast<double>(value);
}

std::vector<KeyCase> ObjectiveCases() {
  const auto objective = [](auto setter, auto value) {
    return [=](RunConfig* config) {
      (config->mutable_objective()->*setter)(value);
    };
  };
  using C = ObjectiveConfig;
  const auto estimator = [&](const char* name, KlEstimator value) {
    return KeyCase{"kl_estimator",
                   [name](RunConfig* config) {
                     config->mutable_objective()->set_kl_estimator(name);
                   },
                   Number(value)};
  };
  return {
      {"minibatches", objective(&C::set_minibatches, 5u), 5},
      {"clip_ratio_low", objective(&C::set_clip_ratio_low, 0.5), 0.5},
      {"clip_ratio_high", objective(&C::set_clip_ratio_high, 0.75), 0.75},
      {"kl_coef", objective(&C::set_kl_coef, 0.0), 0},
      {"off_policy_mask_threshold",
       objective(&C::set_off_policy_mask_threshold, kInf), kInf},
      {"keep_routing", objective(&C::set_keep_routing, true), 1},
      {"keep_sampling_mask", objective(&C::set_keep_sampling_mask, true), 1},
      estimator("unbiased_k3", KlEstimator::kUnbiasedK3),
      estimator("k3", KlEstimator::kK3),
      estimator("k2", KlEstimator::kK2),
      {"advantage_norm",
       [](RunConfig* config) {
         config->mutable_objective()->set_advantage_norm("none");
       },
       Number(AdvantageNorm::kNone)},
      {"loss_aggregation",
       [](RunConfig* config) {
         config->mutable_objective()->set_loss_aggregation(
             "seq_mean_token_mean");
       },
       Number(LossAggregation::kSeqMeanTokenMean)}};
}

std::vector<KeyCase> OptimizerCases() {
  const auto optimizer = [](auto setter, double value) {
    return [=](RunConfig* config) {
      (config->mutable_optimizer()->*setter)(value);
    };
  };
  using C = OptimizerConfig;
  return {{"weight_decay", optimizer(&C::set_weight_decay, 0.0), 0},
          {"beta1", optimizer(&C::set_beta1, 0.5), 0.5},
          {"beta2", optimizer(&C::set_beta2, 0.75), 0.75},
          {"adam_eps", optimizer(&C::set_adam_eps, 0.125), 0.125},
          {"grad_clip", optimizer(&C::set_grad_clip, kInf), kInf},
          {"warmup_steps",
           [](RunConfig* config) {
             config->mutable_optimizer()->set_warmup_steps(23);
           },
           23},
          {"temperature",
           [](RunConfig* config) {
             config->mutable_sampling()->set_temperature(0.5);
           },
           0.5}};
}

std::vector<KeyCase> Cases() {
  std::vector<KeyCase> cases = ObjectiveCases();
  for (KeyCase& one : OptimizerCases()) cases.push_back(one);
  return cases;
}

TEST(TrainStepOptionsTest, EachKeyReachesItsOptionAndNoOther) {
  const std::map<std::string, double> before = Values(Make(Config()));
  for (const KeyCase& one : Cases()) {
    RunConfig config = Config();
    one.set(&config);
    std::map<std::string, double> want = before;
    ASSERT_NE(want[one.key], one.option) << one.key << " is not changed";
    want[one.key] = one.option;
    EXPECT_EQ(Values(Make(config)), want) << one.key;
  }
}

TEST(TrainStepOptionsTest, ValuesAreTheConfigurationsOwn) {
  const std::map<std::string, double> values = Values(Make(Config()));
  const std::map<std::string, double> want = {
      {"minibatches", 3},
      {"clip_ratio_low", 0.11},
      {"clip_ratio_high", 0.12},
      {"kl_coef", 0.13},
      {"kl_estimator", Number(KlEstimator::kK1)},
      {"off_policy_mask_threshold", 0.14},
      {"keep_routing", 0},
      {"keep_sampling_mask", 0},
      {"advantage_norm", Number(AdvantageNorm::kStd)},
      {"loss_aggregation", Number(LossAggregation::kTokenMean)},
      {"temperature", 0.15},
      {"weight_decay", 0.17},
      {"beta1", 0.18},
      {"beta2", 0.19},
      {"adam_eps", 0.2},
      {"grad_clip", 0.21},
      {"warmup_steps", 22}};
  EXPECT_EQ(values, want);
}

// A key that is added to the configuration must be said to be the step's, or
// not to be.
TEST(TrainStepOptionsTest, NoKeyOfObjectiveAndOptimizerIsForgotten) {
  std::set<std::string> known = {"group_size", "prompts_per_step",
                                 "max_staleness",   // the batch's
                                 "learning_rate"};  // TrainStep::Run's
  for (const KeyCase& one : Cases()) known.insert(one.key);
  known.erase("temperature");  // sampling's
  std::vector<std::string> keys;
  for (const auto* section :
       {ObjectiveConfig::descriptor(), OptimizerConfig::descriptor()}) {
    for (int i = 0; i < section->field_count(); ++i) {
      keys.push_back(section->field(i)->name());
    }
  }
  EXPECT_THAT(keys, UnorderedElementsAreArray(known));
}

TEST(TrainStepOptionsTest, ADomainsCoefficientOverridesAndOthersHaveKlCoef) {
  RunConfig config = Config();
  DomainConfig* math = config.add_domain();
  math->set_domain_name("math");
  math->set_domain_kl_coef(0.5);
  DomainConfig* free = config.add_domain();
  free->set_domain_name("free");
  free->set_domain_kl_coef(0);
  const TrainStepOptions options = Make(config);
  EXPECT_EQ(options.KlCoef("math"), 0.5);
  EXPECT_EQ(options.KlCoef("free"), 0.0);
  EXPECT_EQ(options.KlCoef("code"), 0.13);
  EXPECT_EQ(options.KlCoef(""), 0.13);
}

TEST(TrainStepOptionsTest, AReferenceIsNeededIfAndOnlyIfSomeBetaIsNotZero) {
  RunConfig config = Config();
  EXPECT_TRUE(Make(config).NeedsReference());
  config.mutable_objective()->set_kl_coef(0);
  EXPECT_FALSE(Make(config).NeedsReference());
  DomainConfig* domain = config.add_domain();
  domain->set_domain_name("math");
  domain->set_domain_kl_coef(0);
  EXPECT_FALSE(Make(config).NeedsReference());
  domain->set_domain_kl_coef(0.5);
  EXPECT_TRUE(Make(config).NeedsReference());
}

TEST(TrainStepOptionsTest, WhatNoStepCanDoIsRefusedByName) {
  const auto refusal = [](auto change) {
    RunConfig config = Config();
    change(&config);
    const auto options = MakeTrainStepOptions(config);
    EXPECT_EQ(options.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(options.status().message());
  };
  EXPECT_THAT(refusal([](RunConfig* config) {
                config->mutable_objective()->set_kl_estimator("k4");
              }),
              HasSubstr("kl_estimator \"k4\" is none of unbiased_k3"));
  EXPECT_THAT(refusal([](RunConfig* config) {
                config->mutable_objective()->set_advantage_norm("max");
              }),
              HasSubstr("advantage_norm \"max\" is none of none | std"));
  EXPECT_THAT(refusal([](RunConfig* config) {
                config->mutable_objective()->set_loss_aggregation("sum");
              }),
              HasSubstr("loss_aggregation \"sum\""));
  EXPECT_THAT(refusal([](RunConfig* config) {
                config->mutable_objective()->set_minibatches(0);
              }),
              HasSubstr("minibatches 0"));
  for (const double temperature : {0.0, -1.0, std::nan("")}) {
    EXPECT_THAT(refusal([&](RunConfig* config) {
                  config->mutable_sampling()->set_temperature(temperature);
                }),
                HasSubstr("temperature"));
  }
}

TEST(TrainStepOptionsTest, TheLearningRateRisesOverTheWarmUpAndStays) {
  EXPECT_EQ(WarmedUp(0.5, /*warmup_updates=*/0, 1), 0.5);
  EXPECT_EQ(WarmedUp(0.5, 4, 1), 0.125);
  EXPECT_EQ(WarmedUp(0.5, 4, 3), 0.375);
  EXPECT_EQ(WarmedUp(0.5, 4, 4), 0.5);
  EXPECT_EQ(WarmedUp(0.5, 4, 1000), 0.5);
}

}  // namespace
}  // namespace temper
