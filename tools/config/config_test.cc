#include "tools/config/config.h"

#include <map>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/wire/episode_limit.h"
#include "tools/config/config_keys.h"
#include "tools/config/config_leaf.h"

namespace temper {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kMinimal[] = R"(
  model: "base" tasks: "quickstart" steps: 60
)";

RunConfig Minimal() {
  auto config = ParseConfig(kMinimal, "test");
  EXPECT_TRUE(config.ok()) << config.status();
  return *config;
}

// The message with which `--set assignment` on a minimal run is refused, by
// itself or in resolution.
std::string Refusal(const std::string& assignment) {
  RunConfig config = Minimal();
  absl::Status status = SetConfigValue(assignment, &config);
  if (status.ok()) status = ResolveConfig(&config);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << assignment;
  return std::string(status.message());
}

TEST(ConfigTest, TableAndProtoHoldTheSameKeysAndNamesAreUnique) {
  std::set<std::string> leaves;
  for (const ConfigLeaf& leaf : ConfigLeaves()) {
    EXPECT_TRUE(leaves.insert(leaf.field->name()).second) << leaf.field->name();
    EXPECT_NE(FindConfigKey(leaf.field->name()), nullptr)
        << leaf.field->name() << " is missing in tools/config/config_keys.cc";
  }
  std::set<std::string> keys;
  for (const ConfigKey& key : ConfigKeys()) {
    EXPECT_TRUE(keys.insert(key.name).second) << key.name;
    EXPECT_EQ(leaves.count(key.name), 1u) << key.name;
  }
}

TEST(ConfigTest, EveryDefaultIsWithinItsOwnLimits) {
  RunConfig config = Minimal();
  EXPECT_TRUE(ResolveConfig(&config).ok()) << ResolveConfig(&config);
  for (const ConfigLeaf& leaf : ConfigLeaves()) {
    if (leaf.InRepeated() || leaf.field->is_repeated()) continue;
    const auto& parent = Parent(leaf, config);
    EXPECT_TRUE(parent.GetReflection()->HasField(parent, leaf.field))
        << leaf.field->name();
  }
}

TEST(ConfigTest, DefaultsAreTheDesigns) {
  RunConfig config = Minimal();
  ASSERT_TRUE(ResolveConfig(&config).ok());
  EXPECT_EQ(config.objective().clip_ratio_low(), 0.2);
  EXPECT_EQ(config.objective().clip_ratio_high(), 0.28);
  EXPECT_EQ(config.objective().kl_coef(), 0.001);
  EXPECT_EQ(config.objective().off_policy_mask_threshold(), 0.1);
  EXPECT_EQ(config.objective().group_size(), 8u);
  EXPECT_EQ(config.objective().kl_estimator(), "unbiased_k3");
  EXPECT_EQ(config.objective().advantage_norm(), "none");
  EXPECT_EQ(config.objective().loss_aggregation(), "seq_mean_token_mean");
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
  ASSERT_TRUE(SetConfigValue("off_policy_mask_threshold=inf", &config).ok());
  ASSERT_TRUE(ResolveConfig(&config).ok());
  const std::string text = FormatConfig(config);
  auto again = ParseConfig(text, "again");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->SerializeAsString(), config.SerializeAsString());
  ASSERT_TRUE(ResolveConfig(&*again).ok());
  EXPECT_EQ(FormatConfig(*again), text);
}

TEST(ConfigTest, MisspeltKeyIsRefusedNamingItAndTheNearest) {
  EXPECT_THAT(Refusal("learning_rte=1"), HasSubstr("unknown key learning_rte"));
  EXPECT_THAT(Refusal("learning_rte=1"), HasSubstr("learning_rate?"));
  EXPECT_THAT(Refusal("gruop_size=4"), HasSubstr("group_size?"));
  EXPECT_THAT(Refusal("Top-P=1"), HasSubstr("top_p?"));
  EXPECT_THAT(Refusal("zzzzqqqq=1"), HasSubstr("config explain"));
}

TEST(ConfigTest, NoEpisodeMayBeLongerThanABatchOfTheLearner) {
  EXPECT_THAT(Refusal(absl::StrCat("max_tokens=", kEpisodeTokensMax + 1)),
              HasSubstr("max_tokens"));
}

TEST(ConfigTest, NameOfAnotherSystemIsAnsweredWithOurs) {
  EXPECT_THAT(Refusal("lr=1e-4"), HasSubstr("called learning_rate"));
  EXPECT_THAT(Refusal("num_generations=4"), HasSubstr("called group_size"));
  EXPECT_THAT(Refusal("beta=0"), HasSubstr("called kl_coef"));
  EXPECT_THAT(Refusal("max_completion_length=9"), HasSubstr("max_tokens"));
}

TEST(ConfigTest, EveryAliasLeadsToAKeyAndIsNoneItself) {
  for (const char* alias :
       {"lr", "beta", "num_generations", "eps_clip", "dtype", "kl_ctl"}) {
    EXPECT_NE(FindConfigKey(KeyOfAlias(alias)), nullptr) << alias;
  }
  for (const ConfigKey& key : ConfigKeys()) {
    EXPECT_EQ(KeyOfAlias(key.name), "") << key.name;
    EXPECT_EQ(LaterFeature(key.name), "") << key.name;
  }
}

TEST(ConfigTest, FileNamesKeyLineAndSection) {
  auto config = ParseConfig("model: \"m\"\nobjectve { }", "run.textproto");
  EXPECT_THAT(std::string(config.status().message()),
              HasSubstr("run.textproto:2:"));
  config = ParseConfig("optimizer { lr: 1 }", "f");
  EXPECT_THAT(std::string(config.status().message()),
              HasSubstr("unknown key lr; here it is called learning_rate"));
  config = ParseConfig("learning_rate: 1", "f");
  EXPECT_THAT(std::string(config.status().message()),
              HasSubstr("learning_rate belongs in optimizer { }"));
  config = ParseConfig("domain { name: \"math\" }", "f");
  EXPECT_THAT(std::string(config.status().message()),
              HasSubstr("name is called domain_name in domain { }"));
  config = ParseConfig("domain {\n kl_coef: 0.1 }", "f");
  EXPECT_THAT(std::string(config.status().message()),
              HasSubstr("kl_coef is called domain_kl_coef in domain { }"));
  config = ParseConfig("seed: 1 seed: 2", "f");
  EXPECT_FALSE(config.ok());
}

TEST(ConfigTest, ValueOfAnotherTypeNamesItsKeyAndPlace) {
  for (const auto& [text, said] : std::map<std::string, std::string>{
           {"objective {\n  group_size: \"eight\"\n}", "f:2:15: group_size: "},
           {"steps :-1", "f:1:8: steps: "},
           {"seed: 1\n\tsteps:\tmany", "steps: "},
           {"model: m", "f:1:8: model: "},
           {"optimizer { learning_rate: x }", "learning_rate: "}}) {
    const auto config = ParseConfig(text, "f");
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(said))
        << text;
  }
  const auto config = ParseConfig("objective { group_size: 8", "f");
  EXPECT_THAT(std::string(config.status().message()),
              Not(HasSubstr("group_size")));
}

TEST(ConfigTest, OutOfRangeNamesKeyValueAndLimits) {
  EXPECT_THAT(Refusal("top_p=1.5"), HasSubstr("top_p 1.5 is outside"));
  EXPECT_THAT(Refusal("top_p=0"), HasSubstr("top_p"));
  EXPECT_THAT(Refusal("temperature=nan"), HasSubstr("temperature nan"));
  EXPECT_THAT(Refusal("group_size=1"), HasSubstr("2 to 1024"));
  EXPECT_THAT(Refusal("learning_rate=-1"), HasSubstr("learning_rate -1"));
  EXPECT_THAT(Refusal("top_k=513"), HasSubstr("0 to 512"));
  EXPECT_THAT(Refusal("steps=0"), HasSubstr("steps 0"));
  EXPECT_THAT(Refusal("kl_estimator=k4"), HasSubstr("k2"));
  EXPECT_THAT(Refusal("name=../up"), HasSubstr("name \"../up\""));
}

TEST(ConfigTest, WrongTypeNamesKeyAndText) {
  EXPECT_THAT(Refusal("steps=many"), HasSubstr("steps: \"many\""));
  EXPECT_THAT(Refusal("steps=-1"), HasSubstr("whole number"));
  EXPECT_THAT(Refusal("keep_routing=maybe"), HasSubstr("true or false"));
  EXPECT_THAT(Refusal("steps"), HasSubstr("key=value"));
}

TEST(ConfigTest, FeaturesLeftForLaterAreRefusedByName) {
  EXPECT_THAT(Refusal("max_staleness=4"), HasSubstr("max_staleness 4"));
  EXPECT_THAT(Refusal("numerics=bf16"), HasSubstr("numerics bf16 is not in"));
  EXPECT_THAT(Refusal("numerics=fp8"), HasSubstr("numerics fp8 is not in"));
  EXPECT_THAT(Refusal("lora_rank=8"), HasSubstr("LoRA is not in this"));
  EXPECT_THAT(Refusal("rubric=x"), HasSubstr("rubric rewards is not in this"));
  EXPECT_THAT(Refusal("async=true"), HasSubstr("asynchronous mode is not in"));
  EXPECT_THAT(Refusal("train_indexer=true"), HasSubstr("not in this version"));
}

TEST(ConfigTest, TheSamplingMaskMayBeDroppedWhereSamplingIsTruncated) {
  RunConfig config = Minimal();
  ASSERT_TRUE(SetConfigValue("keep_sampling_mask=false", &config).ok());
  RunConfig whole = config;
  EXPECT_TRUE(ResolveConfig(&config).ok());
  ASSERT_TRUE(SetConfigValue("top_p=1", &whole).ok());
  EXPECT_THAT(std::string(ResolveConfig(&whole).message()),
              HasSubstr("keep_sampling_mask false has no effect"));
}

TEST(ConfigTest, KeyWithoutEffectIsRefused) {
  RunConfig config = Minimal();
  ASSERT_TRUE(SetConfigValue("kl_coef=0", &config).ok());
  ASSERT_TRUE(SetConfigValue("kl_estimator=k1", &config).ok());
  RunConfig with_domain = config;
  EXPECT_THAT(std::string(ResolveConfig(&config).message()),
              HasSubstr("kl_estimator k1 has no effect"));
  ASSERT_TRUE(SetConfigValue("domain=math:0.1", &with_domain).ok());
  EXPECT_TRUE(ResolveConfig(&with_domain).ok());
  EXPECT_THAT(Refusal("length_target_tokens=9"), HasSubstr("no effect"));
  EXPECT_THAT(Refusal("clip_ratio_high=0.3"), HasSubstr("raise minibatches"));
  EXPECT_THAT(Refusal("off_policy_mask_threshold=inf"), HasSubstr("no effect"));
  EXPECT_THAT(Refusal("length_weight=1"), HasSubstr("length_target_tokens 0"));
  EXPECT_THAT(Refusal("workers=17"), HasSubstr("prompts_per_step 16"));
  EXPECT_THAT(Refusal("minibatches=3"), HasSubstr("does not divide"));
}

TEST(ConfigTest, MissingRequiredKeyIsNamed) {
  RunConfig config;
  EXPECT_THAT(std::string(ResolveConfig(&config).message()),
              HasSubstr("model is not set"));
}

TEST(ConfigTest, DomainIsSetByNameAndNotTwice) {
  RunConfig config = Minimal();
  ASSERT_TRUE(SetConfigValue("domain=math:0.01", &config).ok());
  ASSERT_TRUE(SetConfigValue("domain=math:0.02", &config).ok());
  ASSERT_EQ(config.domain_size(), 1);
  EXPECT_EQ(config.domain(0).domain_kl_coef(), 0.02);
  EXPECT_THAT(Refusal("domain=math"), HasSubstr("NAME:KL_COEF"));
  EXPECT_THAT(Refusal("domain=math:-1"), HasSubstr("domain_kl_coef -1"));
  EXPECT_THAT(Refusal("domain_kl_coef=1"), HasSubstr("domain=NAME:KL_COEF"));
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
  EXPECT_TRUE(CheckResume(was, now).ok());
  ASSERT_TRUE(SetConfigValue("learning_rate=1.00000001e-6", &now).ok());
  EXPECT_THAT(std::string(CheckResume(was, now).message()),
              HasSubstr("learning_rate 1.00000001e-06 differs"));
  RunConfig domain = was;
  ASSERT_TRUE(SetConfigValue("domain=math:1", &domain).ok());
  EXPECT_FALSE(CheckResume(was, domain).ok());
}

TEST(ConfigTest, ExplainTellsDefaultLimitsAndMeaning) {
  const auto key = ExplainKey("clip_ratio_high");
  ASSERT_TRUE(key.ok());
  const std::string text = FormatKey(*key);
  EXPECT_THAT(text, HasSubstr("in objective"));
  EXPECT_THAT(text, HasSubstr("0.28"));
  EXPECT_THAT(text, HasSubstr("0 to 100"));
  EXPECT_FALSE(ExplainKey("clip_ratio").ok());
}

}  // namespace
}  // namespace temper
