#include "learner/train/train_step_options.h"

#include <cmath>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using testing::HasSubstr;

// Values that no option has by itself.
RunConfig Config() {
  RunConfig config;
  ObjectiveConfig* objective = config.mutable_objective();
  objective->set_minibatches(3);
  objective->set_clip_ratio_low(0.11);
  objective->set_clip_ratio_high(0.12);
  objective->set_kl_coef(0.13);
  objective->set_kl_estimator(ObjectiveConfig::k1);
  objective->set_off_policy_mask_threshold(0.14);
  objective->set_keep_routing(false);
  objective->set_keep_sampling_mask(false);
  objective->set_advantage_norm(ObjectiveConfig::std);
  objective->set_loss_aggregation(ObjectiveConfig::token_mean);
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

// What heeds a section has it whole, so that no key of it is lost here.
TEST(TrainStepOptionsTest, SectionsAndTemperatureAreTheConfigurationsOwn) {
  const RunConfig config = Config();
  const TrainStepOptions options = Make(config);
  EXPECT_EQ(options.temperature, 0.15);
  EXPECT_EQ(options.optimizer.SerializeAsString(),
            config.optimizer().SerializeAsString());
  EXPECT_EQ(options.objective.SerializeAsString(),
            config.objective().SerializeAsString());
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
