#include "tools/config/config.h"

#include <map>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "learner/train/objective.h"
#include "learner/train/optimizer.h"
#include "tools/config/config_keys.h"
#include "tools/config/config_leaf.h"
#include "tools/config/key_names.h"
#include "tools/config/key_view.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

constexpr char kMinimal[] = R"(
  model: "base" tasks: "quickstart" steps: 60
)";

RunConfig Minimal() {
  auto config = ParseConfig(kMinimal, "test");
  EXPECT_TRUE(config.ok()) << config.status();
  return *config;
}

TEST(ConfigTest, TableAndProtoHoldTheSameKeysAndNamesAreUnique) {
  std::set<std::string> leaves;
  for (const ConfigLeaf& leaf : ConfigLeaves(RunConfig::descriptor())) {
    EXPECT_TRUE(leaves.insert(leaf.field->name()).second) << leaf.field->name();
    EXPECT_NE(FindConfigKey(RunConfig::descriptor(), leaf.name()), nullptr)
        << leaf.field->name() << " is missing in tools/config/config_keys.cc";
  }
  std::set<std::string> keys;
  for (const ConfigKey& key : ConfigKeys()) {
    if (key.of == KeyOf::kSft) continue;
    EXPECT_TRUE(keys.insert(key.name).second) << key.name;
    EXPECT_EQ(leaves.count(key.name), 1u) << key.name;
  }
}

TEST(ConfigTest, EveryDefaultIsWithinItsOwnLimits) {
  RunConfig config = Minimal();
  EXPECT_TRUE(ResolveConfig(&config).ok()) << ResolveConfig(&config);
  for (const ConfigLeaf& leaf : ConfigLeaves(RunConfig::descriptor())) {
    if (leaf.InRepeated() || leaf.field->is_repeated()) continue;
    const auto& parent = Parent(leaf, config);
    EXPECT_TRUE(parent.GetReflection()->HasField(parent, leaf.field))
        << leaf.field->name();
  }
}

// learner/train has them once more, for what has no run's configuration.
TEST(ConfigTest, DefaultsAreThoseOfTheLearnerWithoutAConfiguration) {
  RunConfig config = Minimal();
  ASSERT_TRUE(ResolveConfig(&config).ok());
  EXPECT_EQ(UsualOptimizer().DebugString(), config.optimizer().DebugString());
  ObjectiveConfig objective = config.objective();
  objective.MergeFrom(PaperObjective());
  objective.set_kl_coef(config.objective().kl_coef());
  EXPECT_EQ(objective.DebugString(), config.objective().DebugString());
}

TEST(ConfigTest, DefaultsAreTheDesigns) {
  RunConfig config = Minimal();
  ASSERT_TRUE(ResolveConfig(&config).ok());
  EXPECT_EQ(config.objective().clip_ratio_low(), 0.2);
  EXPECT_EQ(config.objective().clip_ratio_high(), 0.28);
  EXPECT_EQ(config.objective().kl_coef(), 0.001);
  EXPECT_EQ(config.objective().off_policy_mask_threshold(), 0.1);
  EXPECT_EQ(config.objective().group_size(), 8u);
  EXPECT_EQ(config.objective().kl_estimator(), ObjectiveConfig::unbiased_k3);
  EXPECT_EQ(config.objective().advantage_norm(), ObjectiveConfig::none);
  EXPECT_EQ(config.objective().loss_aggregation(),
            ObjectiveConfig::seq_mean_token_mean);
  EXPECT_EQ(config.sampling().temperature(), 1.0);
  EXPECT_EQ(config.sampling().top_p(), 0.95);
  EXPECT_EQ(config.optimizer().learning_rate(), 1e-6);
  EXPECT_EQ(config.optimizer().grad_clip(), 1.0);
}

TEST(ConfigTest, ResolvedTextReadsBackAndResolvesToItself) {
  RunConfig config = Minimal();
  ASSERT_TRUE(SetConfigValue("learning_rate=3.3e-4", &config).ok());
  ASSERT_TRUE(SetConfigValue("domain=math:0.01", &config).ok());
  ASSERT_TRUE(SetConfigValue("minibatches=2", &config).ok());
  ASSERT_TRUE(SetConfigValue("tasks=quickstart,a.jsonl", &config).ok());
  ASSERT_TRUE(SetConfigValue("off_policy_mask_threshold=inf", &config).ok());
  ASSERT_TRUE(ResolveConfig(&config).ok());
  const std::string text = FormatConfig(config);
  EXPECT_THAT(text, HasSubstr("tasks: \"quickstart\"\ntasks: \"a.jsonl\"\n"));
  auto again = ParseConfig(text, "again");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->SerializeAsString(), config.SerializeAsString());
  ASSERT_TRUE(ResolveConfig(&*again).ok());
  EXPECT_EQ(FormatConfig(*again), text);
}

TEST(ConfigTest, EveryAliasLeadsToAKeyAndIsNoneItself) {
  for (const char* alias : {"lr", "beta", "num_generations", "eps_clip",
                            "dtype", "bf16", "kl_ctl"}) {
    EXPECT_NE(FindConfigKey(RunConfig::descriptor(), KeyOfAlias(alias)),
              nullptr)
        << alias;
  }
  for (const ConfigKey& key : ConfigKeys()) {
    if (key.of == KeyOf::kSft) continue;
    EXPECT_EQ(KeyOfAlias(key.name), "") << key.name;
    EXPECT_EQ(LaterFeature(key.name), "") << key.name;
  }
}

// Files of runs have choices in quotes, as they were before they were enums.
TEST(ConfigTest, AChoiceIsReadWithQuotesAndWithout) {
  for (const std::string k2 : {"k2", "\"k2\"", "'k2'", "# k3\n \"\\x6b2\""}) {
    const auto config = ParseConfig(
        absl::StrCat(
            "name: \"kl_estimator: k4\" objective {\n\tkl_estimator\t:", k2,
            " minibatches: 3 } numerics: \"fp32\""),
        "f");
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->objective().kl_estimator(), ObjectiveConfig::k2);
    EXPECT_EQ(config->objective().minibatches(), 3u);
    EXPECT_EQ(config->name(), "kl_estimator: k4");
  }
}

TEST(ConfigTest, DomainIsSetByNameAndNotTwice) {
  RunConfig config = Minimal();
  ASSERT_TRUE(SetConfigValue("domain=math:0.01", &config).ok());
  ASSERT_TRUE(SetConfigValue("domain=math:0.02", &config).ok());
  ASSERT_EQ(config.domain_size(), 1);
  EXPECT_EQ(config.domain(0).domain_kl_coef(), 0.02);
}

TEST(ConfigTest, DomainWithoutACoefficientHasTheDefault) {
  auto config = ParseConfig(
      "model: \"base\" tasks: \"quickstart\" steps: 1 "
      "domain { domain_name: \"math\" }",
      "f");
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_TRUE(ResolveConfig(&*config).ok());
  EXPECT_EQ(config->domain(0).domain_kl_coef(), 0.001);
}

TEST(ConfigTest, WhatHasAnEffectBesideTheOthersMayBeSet) {
  RunConfig config = Minimal();
  ASSERT_TRUE(SetConfigValue("keep_sampling_mask=false", &config).ok());
  EXPECT_TRUE(ResolveConfig(&config).ok());  // top_p truncates
  config = Minimal();
  ASSERT_TRUE(SetConfigValue("kl_coef=0", &config).ok());
  ASSERT_TRUE(SetConfigValue("kl_estimator=k1", &config).ok());
  ASSERT_TRUE(SetConfigValue("domain=math:0.1", &config).ok());
  EXPECT_TRUE(ResolveConfig(&config).ok());
}

TEST(ConfigTest, FailedSetLeavesTheConfigurationUnchanged) {
  RunConfig config = Minimal();
  const std::string before = config.SerializeAsString();
  EXPECT_FALSE(SetConfigValue("top_p=high", &config).ok());
  EXPECT_EQ(config.SerializeAsString(), before);
}

TEST(ConfigTest, ResumeMayChangeOnlyWhatTheTableSays) {
  RunConfig was = Minimal();
  ASSERT_TRUE(ResolveConfig(&was).ok());
  RunConfig now = was;
  ASSERT_TRUE(SetConfigValue("steps=90", &now).ok());
  ASSERT_TRUE(SetConfigValue("workers=2", &now).ok());
  ASSERT_TRUE(SetConfigValue("checkpoint_dtype=F8_E4M3", &now).ok());
  EXPECT_TRUE(CheckResume(was, now).ok());
  ASSERT_TRUE(SetConfigValue("learning_rate=1.00000001e-6", &now).ok());
  EXPECT_THAT(std::string(CheckResume(was, now).message()),
              HasSubstr("learning_rate is 1.00000001e-06, and began as 1e-06; "
                        "a resume may change only "));
  EXPECT_THAT(
      std::string(CheckResume(was, now).message()),
      HasSubstr("steps, workers, threads, save_interval, eval_interval, "
                "checkpoint_dtype; leave it as it was, or start a new run"));
  RunConfig domain = was;
  ASSERT_TRUE(SetConfigValue("domain=math:1", &domain).ok());
  EXPECT_THAT(std::string(CheckResume(was, domain).message()),
              HasSubstr("there are 1 of domain, and it began with 0"));
  was = domain;
  ASSERT_TRUE(SetConfigValue("domain=math:0.5", &domain).ok());
  EXPECT_THAT(std::string(CheckResume(was, domain).message()),
              HasSubstr("domain 1 (\"math\"): domain_kl_coef is 0.5, and began "
                        "as 1"));
}

TEST(ConfigTest, ExplainTellsDefaultLimitsAndMeaning) {
  const auto key = ExplainKey("clip_ratio_high");
  ASSERT_TRUE(key.ok());
  ASSERT_EQ(key->size(), 1u);
  const std::string text = FormatKey(key->front());
  EXPECT_THAT(text, HasSubstr("in objective"));
  EXPECT_THAT(text, HasSubstr("0.28"));
  EXPECT_THAT(text, HasSubstr("0 to 100"));
  EXPECT_FALSE(ExplainKey("clip_ratio").ok());
}

}  // namespace
}  // namespace temper
