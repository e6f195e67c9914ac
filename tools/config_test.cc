#include "tools/config.h"

#include <map>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/wire/episode_limit.h"
#include "tools/config_keys.h"
#include "tools/config_leaf.h"

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
        << leaf.field->name() << " is missing in tools/config_keys.cc";
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

// Everything that a configuration can be refused for: how it is written, and
// that the refusal names the key, the value, what is allowed, the next step.
struct Refused {
  std::string set;                 // for --set, or
  std::string file;                // the whole file
  std::vector<std::string> parts;  // of the message
};

std::vector<Refused> RefusedKeysAndForms() {
  const std::string form =
      "; write each key once, as key: value, text in quotes, and a section as "
      "name { }";
  return {
      {"learning_rte=1",
       "",
       {"unknown key learning_rte; did you mean "
        "learning_rate?"}},
      {"lr=1", "", {"unknown key lr; here it is called learning_rate"}},
      {"zzzzqqqq=1",
       "",
       {"unknown key zzzzqqqq; `temper config explain` lists "
        "every key"}},
      {"lora_rank=8",
       "",
       {"unknown key lora_rank; LoRA is not in this version:"
        " remove it"}},
      {"objective.group_size=4",
       "",
       {"unknown key objective.group_size; write "
        "group_size: a key is named without its "
        "section"}},
      {"schedule=1",
       "",
       {"schedule is a section; set its keys by their own "
        "names: save_interval, eval_interval, eval_tasks"}},
      {"domain_kl_coef=1",
       "",
       {"domain_kl_coef is one domain's; write --set "
        "domain=NAME:KL_COEF"}},
      {"steps", "", {"--set steps: write it as key=value"}},
      {"=5", "", {"--set =5: write it as key=value"}},
      {"domain=math",
       "",
       {"domain: \"math\" is not NAME:KL_COEF; write it as "
        "--set domain=math:0.001"}},
      {"",
       "objectve { }",
       {"f:1:",
        "unknown key objectve; did you mean "
        "objective?"}},
      {"",
       "optimizer { lr: 1 }",
       {"f:1:",
        "unknown key lr; here it is called "
        "learning_rate"}},
      {"",
       "seed: 1\nlearning_rate: 1",
       {"f:2:",
        "learning_rate belongs in "
        "optimizer { }; move it there"}},
      {"",
       "optimizer { seed: 1 }",
       {"f:1:",
        "seed belongs outside every "
        "section; move it there"}},
      {"",
       "domain { name: \"m\" }",
       {"f:1:",
        "name is called domain_name in "
        "domain { }; rename it"}},
      {"", "seed: 1 seed: 2", {"f:1:", form}},
      {"", "objective { group_size: 8", {"f:1:", form}},
      {"",
       "\xEF\xBB\xBFseed: 1",
       {"f begins with a byte-order mark", "; save it as UTF-8 without one"}},
  };
}

std::vector<Refused> RefusedValues() {
  return {
      {"steps=many",
       "",
       {"steps: \"many\" is not a whole number; give it as a "
        "whole number, 1 to 1000000"}},
      {"seed=-1", "", {"seed: \"-1\"", "0 to 18446744073709551615"}},
      {"top_p=high",
       "",
       {"top_p: \"high\" is not a number; give it as a number, "
        "1e-06 to 1"}},
      {"keep_routing=maybe",
       "",
       {"keep_routing: \"maybe\" is not true or false; "
        "give it as true or false"}},
      {"",
       "steps: -1",
       {"f:1:8: steps: ",
        "; give it as a whole number, 1 to "
        "1000000"}},
      {"",
       "numerics: fp32",
       {"f:1:11: numerics: ",
        "; give it as text in quotes,"
        " fp32"}},
      {"", "model: m", {"f:1:8: model: ", "; give it as text in quotes"}},
      {"",
       "objective: 3",
       {"objective: ",
        "; give it as a section: objective { "
        "group_size: ... }"}},
      {"", "objective { keep_routing: 2 }", {"; give it as true or false"}},
      {"top_p=1.5",
       "",
       {"top_p 1.5 is outside its limits 1e-06 to 1; set it "
        "within them (`temper config explain top_p` says what "
        "it does)"}},
      {"eval_tasks=2000000",
       "",
       {"eval_tasks 2000000 is outside its limits 0 to "
        "1000000; set it within them"}},
      {"max_staleness=4",
       "",
       {"max_staleness 4 is not in this version; set it "
        "to 0. "}},
      {"numerics=fp8",
       "",
       {"numerics fp8 is not in this version; set numerics "
        "to fp32"}},
      {"kl_estimator=k4",
       "",
       {"kl_estimator \"k4\" is none of unbiased_k3, k3, "
        "k2, k1; set it to one of them"}},
      {"name=../up", "", {"name \"../up\"", "use at most 100 letters"}},
      {"domain=math:-1",
       "",
       {"domain math: domain_kl_coef -1 is outside its "
        "limits 0 to 100; set it within them"}},
      {"",
       "domain { domain_kl_coef: 1 }",
       {"domain without domain_name; name the"
        " domain of the tasks"}},
      {"",
       "domain { domain_name: \"m\" } domain { domain_name: \"m\" }",
       {"domain m is given twice; keep one"}},
  };
}

std::vector<Refused> RefusedTogether() {
  return {
      {"minibatches=3",
       "",
       {"minibatches 3 does not divide prompts_per_step 16",
        "; set it to one of 1, 2, 4, 8, 16"}},
      {"workers=17",
       "",
       {"workers 17 exceeds prompts_per_step 16",
        "; lower "
        "workers"}},
      {"length_weight=1",
       "",
       {"length_target_tokens 0 with length_weight 1: set "
        "it from 1 to max_tokens - 1 (1023)"}},
      {"length_target_tokens=9",
       "",
       {"length_target_tokens 9 has no effect: "
        "length_weight is 0; raise it or remove "
        "this"}},
      {"clip_ratio_high=0.3",
       "",
       {"clip_ratio_high 0.3 has no effect: ",
        "; raise minibatches or remove it"}},
      {"",
       "objective { kl_coef: 0 kl_estimator: \"k1\" }",
       {"kl_estimator k1 has no effect: every kl_coef is 0; raise one or "
        "remove "
        "it"}},
      {"",
       "sampling { top_p: 1 } objective { keep_sampling_mask: false }",
       {"keep_sampling_mask false has no effect: top_p, top_k and min_p are "
        "all "
        "off; remove it"}},
      {"",
       "schedule { eval_tasks: 0 eval_interval: 3 }",
       {"eval_interval 3 has no effect: eval_tasks is 0; raise it or remove "
        "this"}},
  };
}

TEST(ConfigTest, EveryRefusalNamesKeyValueWhatIsAllowedAndTheNextStep) {
  std::vector<Refused> all = RefusedKeysAndForms();
  for (const auto& more : {RefusedValues(), RefusedTogether()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  for (const Refused& refused : all) {
    absl::StatusOr<RunConfig> config = Minimal();
    absl::Status status;
    if (!refused.set.empty()) {
      status = SetConfigValue(refused.set, &*config);
    } else {
      config = ParseConfig(refused.file, "f");
      status = config.status();
      if (status.ok()) config->MergeFrom(Minimal());
    }
    if (status.ok()) status = ResolveConfig(&*config);
    for (const std::string& part : refused.parts) {
      EXPECT_THAT(std::string(status.message()), HasSubstr(part));
    }
  }
}

// The same of every key there is, by the table.
TEST(ConfigTest, EveryNumberIsRefusedOutsideItsLimitsWithThem) {
  for (const ConfigLeaf& leaf : ConfigLeaves()) {
    if (!leaf.IsNumber() || leaf.InRepeated()) continue;
    const std::string name = leaf.field->name();
    const std::string limits = ExplainKey(name)->limits;
    EXPECT_THAT(limits, Not(HasSubstr("e+")));
    EXPECT_THAT(Refusal(name + "=many"), HasSubstr(limits));
    const std::string below = Refusal(name + "=-1000");
    EXPECT_THAT(below, HasSubstr(name));
    EXPECT_THAT(below, HasSubstr("-1000"));
    EXPECT_THAT(below, HasSubstr(limits)) << name;
  }
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
