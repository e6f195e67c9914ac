// Every refusal of tools/config/config.h, in a table.

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/config/config.h"
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

TEST(ConfigRefusalsTest, EveryRefusalNamesKeyValueWhatIsAllowedAndTheNextStep) {
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
TEST(ConfigRefusalsTest, EveryNumberIsRefusedOutsideItsLimitsWithThem) {
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

}  // namespace
}  // namespace temper
