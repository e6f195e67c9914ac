#include "tools/config/sft_config.h"

#include <map>
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "tools/config/config_keys.h"
#include "tools/config/config_leaf.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

constexpr char kStage[] =
    "stage { name: \"s\" steps: 8 attention: dense train_model: true "
    "learning_rate: 1e-3";
constexpr char kRest[] = " } model: \"m\" demonstrations: \"d\" output: \"o\" ";

SftConfig Minimal() {
  const auto config = ParseSftConfig(std::string(kStage) + kRest, "test");
  EXPECT_TRUE(config.ok()) << config.status();
  return *config;
}

// Of a minimal configuration with `in_stage` and `outside` added.
std::string Refusal(const std::string& in_stage, const std::string& outside) {
  auto config =
      ParseSftConfig(kStage + (" " + in_stage) + kRest + outside, "f");
  absl::Status status = config.status();
  if (status.ok()) status = ResolveSftConfig(&*config);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument)
      << in_stage << outside;
  return std::string(status.message());
}

TEST(SftConfigTest, TableAndProtoHoldTheSameKeysAndNamesAreUnique) {
  std::set<std::string> leaves;
  for (const ConfigLeaf& leaf : ConfigLeaves(SftConfig::descriptor())) {
    EXPECT_TRUE(leaves.insert(leaf.name()).second) << leaf.name();
    EXPECT_NE(FindConfigKey(SftConfig::descriptor(), leaf.name()), nullptr)
        << leaf.name() << " is missing in tools/config/config_keys.cc";
  }
  std::set<std::string> keys;
  for (const ConfigKey& key : ConfigKeys()) {
    if (key.of == KeyOf::kTrain) continue;
    EXPECT_TRUE(keys.insert(key.name).second) << key.name;
    EXPECT_EQ(leaves.count(key.name), 1u) << key.name;
  }
}

TEST(SftConfigTest, EveryKeyHasItsDefaultAndResolvesToItself) {
  SftConfig config = Minimal();
  ASSERT_TRUE(ResolveSftConfig(&config).ok()) << ResolveSftConfig(&config);
  EXPECT_EQ(config.output_dtype(), SftConfig::BF16);
  EXPECT_EQ(config.seed(), 1u);
  EXPECT_EQ(config.demonstrations_per_step(), 32u);
  EXPECT_EQ(config.weight_decay(), 0.05);
  EXPECT_EQ(config.grad_clip(), 1);
  EXPECT_EQ(config.initializer_range(), 0.02);
  EXPECT_EQ(config.bias_update_speed(), 0.001);
  EXPECT_EQ(config.save_interval(), 20u);
  EXPECT_TRUE(config.stage(0).preamble());
  EXPECT_EQ(config.stage(0).final_fraction(), 0);
  std::string text;
  ASSERT_TRUE(google::protobuf::TextFormat::PrintToString(config, &text));
  auto again = ParseSftConfig(text, "again");
  ASSERT_TRUE(again.ok()) << again.status();
  ASSERT_TRUE(ResolveSftConfig(&*again).ok());
  EXPECT_EQ(again->SerializeAsString(), config.SerializeAsString());
}

TEST(SftConfigTest, TheShippedRecipeIsGood) {
  constexpr char kPath[] = "tools/configs/quickstart_sft.textproto";
  const auto text = ReadFile(kPath, 1 << 20);
  ASSERT_TRUE(text.ok()) << text.status();
  auto config = ParseSftConfig(*text, kPath);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(ResolveSftConfig(&*config).ok());
}

TEST(SftConfigTest, EveryRefusalNamesKeyValueWhatIsAllowedAndTheNextStep) {
  const std::map<std::string, std::string> in_stage = {
      {"warmup_step: 1", "unknown key warmup_step; did you mean warmup_steps?"},
      {"seed: 1", "seed belongs outside every section; move it there"},
      {"attention: flash", "attention \"flash\" is none of dense, sparse; "},
      {"attention: dense", "write each key once"},
      {"decay_fraction: 2",
       "stage 1 (\"s\"): decay_fraction 2 is outside its limits 0 to 1"},
      {"warmup_steps: 9",
       "stage 1 (\"s\"): warmup_steps 9 exceeds steps 8; lower it"},
      {"indexer_learning_rate: 0.5",
       "indexer_learning_rate 0.5 has no effect: train_indexer is false"},
      {"train_indexer: true",
       "indexer_learning_rate 0 trains nothing; set it above 0, or "},
  };
  for (const auto& [text, said] : in_stage) {
    EXPECT_THAT(Refusal(text, ""), HasSubstr(said));
  }
  const std::map<std::string, std::string> outside = {
      {"warmup_steps: 1", "warmup_steps belongs in stage { }; move it there"},
      {"lr: 1", "unknown key lr; here it is called learning_rate"},
      {"tasks: \"t\"", "unknown key tasks"},
      // Another system's name of a key that only train has.
      {"kl_ctl: 1", "unknown key kl_ctl; `temper config explain` lists every"},
      {"output_dtype: \"F16\"",
       "output_dtype \"F16\" is none of BF16, F32, F8_E4M3"},
      {"save_interval: 0", "save_interval 0 is outside its limits 1 to "},
      {"grad_clip: nan", "grad_clip nan is outside its limits"},
      {"model_config: \"c\"", "give one of model"},
      {"stage { name: \"t\" steps: 1 train_model: true }",
       "stage 2 (\"t\"): attention is not set and has no default"},
      {"stage { steps: 1 attention: dense }",
       "stage 2 (\"\"): trains nothing; set train_model or train_indexer"},
  };
  for (const auto& [text, said] : outside) {
    EXPECT_THAT(Refusal("", text), HasSubstr(said));
  }
  SftConfig config = Minimal();
  config.clear_output();
  EXPECT_THAT(
      std::string(ResolveSftConfig(&config).message()),
      HasSubstr("output is not set and has no default. The directory "));
  config = Minimal();
  config.clear_stage();
  EXPECT_THAT(std::string(ResolveSftConfig(&config).message()),
              HasSubstr("no stage is given"));
}

TEST(SftConfigTest, AMakingGoesOnWithWhatChangesNoBit) {
  SftConfig was = Minimal();
  ASSERT_TRUE(ResolveSftConfig(&was).ok());
  SftConfig now = was;
  now.set_threads(3);
  now.set_save_interval(5);
  now.set_output("elsewhere");
  EXPECT_TRUE(CheckSameMaking(was, now).ok());
  const auto refusal = [&was](SftConfig changed) {
    return std::string(CheckSameMaking(was, changed).message());
  };
  now = was;
  now.mutable_stage(0)->set_steps(9);
  EXPECT_THAT(refusal(now),
              HasSubstr("stage 1 (\"s\"): steps is 9, and began as 8; a resume "
                        "may change only output, threads, save_interval"));
  now = was;
  now.set_output_dtype(SftConfig::F32);
  EXPECT_THAT(refusal(now),
              HasSubstr("output_dtype is F32, and began as BF16"));
  now = was;
  *now.add_stage() = was.stage(0);
  EXPECT_THAT(refusal(now),
              HasSubstr("there are 2 of stage, and it began with 1"));
}

TEST(SftConfigTest, PathsAreMadeAbsoluteAndWordsAreNot) {
  SftConfig config = Minimal();
  config.set_tokenizer("train");
  config.set_demonstrations("quickstart");
  ASSERT_TRUE(ResolveSftConfig(&config).ok());
  ASSERT_TRUE(MakePathsAbsolute(&config).ok());
  EXPECT_EQ(config.tokenizer(), "train");
  EXPECT_EQ(config.demonstrations(), "quickstart");
  EXPECT_EQ(config.model_config(), "");
  EXPECT_THAT(config.model(), testing::StartsWith("/"));
  EXPECT_THAT(config.output(), testing::StartsWith("/"));
}

}  // namespace
}  // namespace temper
