// Every refusal of tools/config/config.h, in tables.

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/wire/episode_limit.h"
#include "tools/config/config.h"
#include "tools/config/config_leaf.h"
#include "tools/config/key_view.h"

namespace temper {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

RunConfig Minimal() {
  RunConfig config;
  config.set_model("base");
  config.add_tasks("quickstart");
  config.set_steps(60);
  return config;
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

// The same of a file, over which a minimal run's keys are set.
std::string FileRefusal(const std::string& text) {
  auto config = ParseConfig(text, "f");
  absl::Status status = config.status();
  if (status.ok()) {
    config->MergeFrom(Minimal());
    status = ResolveConfig(&*config);
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(status.message());
}

// What is written, and parts of what is said of it: the key, the value, what is
// allowed, the next step.
struct Refused {
  std::string written;
  std::vector<std::string> parts;
};

std::vector<Refused> RefusedNames() {
  return {
      {"learning_rte=1",
       {"unknown key learning_rte; did you mean "
        "learning_rate?"}},
      {"gruop_size=4", {"group_size?"}},
      {"Top-P=1", {"top_p?"}},
      {"lr=1", {"unknown key lr; here it is called learning_rate"}},
      {"num_generations=4", {"called group_size"}},
      {"beta=0", {"called kl_coef"}},
      {"max_completion_length=9", {"called max_tokens"}},
      {"zzzzqqqq=1",
       {"unknown key zzzzqqqq; `temper config explain` lists "
        "every key"}},
      {"lora_rank=8",
       {"unknown key lora_rank; LoRA is not in this version:"
        " remove it"}},
      {"rubric=x", {"rubric rewards is not in this"}},
      {"async=true", {"asynchronous mode is not in"}},
      {"train_indexer=true", {"not in this version"}},
      {"demonstrations=x", {"unknown key demonstrations"}},  // sft's
      {"objective.group_size=4",
       {"unknown key objective.group_size; write "
        "group_size: a key is named without its "
        "section"}},
      {"schedule=1",
       {"schedule is a section; set its keys by their own "
        "names: save_interval, eval_interval, eval_tasks"}},
      {"domain_kl_coef=1",
       {"domain_kl_coef is one domain's; write --set "
        "domain=NAME:KL_COEF, or domain { } in the file"}},
      {"domain_weight=1",
       {"domain_weight is one domain's; write domain { } in the file"}},
      {"steps", {"--set steps: write it as key=value"}},
      {"=5", {"--set =5: write it as key=value"}},
      {"domain=math",
       {"domain: \"math\" is not NAME:KL_COEF; write it as "
        "--set domain=math:0.001"}},
  };
}

std::vector<Refused> RefusedValues() {
  const std::string many = absl::StrCat("max_tokens=", kEpisodeTokensMax + 1);
  return {
      {"steps=many",
       {"steps: \"many\" is not a whole number; give it as a "
        "whole number, 1 to 1000000"}},
      {"steps=0", {"steps 0 is outside its limits"}},
      {"seed=-1", {"seed: \"-1\"", "0 to 18446744073709551615"}},
      {"top_p=high",
       {"top_p: \"high\" is not a number; give it as a number, "
        "1e-06 to 1"}},
      {"temperature=nan", {"temperature nan is outside its limits"}},
      {"keep_routing=maybe",
       {"keep_routing: \"maybe\" is not true or false; "
        "give it as true or false"}},
      {"top_p=1.5",
       {"top_p 1.5 is outside its limits 1e-06 to 1; set it "
        "within them (`temper config explain top_p` says what "
        "it does)"}},
      {"eval_tasks=2000000",
       {"eval_tasks 2000000 is outside its limits 0 to "
        "1000000; set it within them"}},
      // No episode may be longer than a batch of the learner.
      {many, {"max_tokens", " is outside its limits"}},
      {"top_k=513", {"0 to 512"}},
      {"max_staleness=4",
       {"max_staleness 4 is not in this version; set it "
        "to 0. "}},
      {"numerics=int4",
       {"numerics \"int4\" is none of fp32, bf16, fp8; set it to one of them"}},
      {"kl_estimator=k4",
       {"kl_estimator \"k4\" is none of unbiased_k3, k3, "
        "k2, k1; set it to one of them"}},
      {"kl_estimator=1", {"kl_estimator \"1\" is none of unbiased_k3, k3, "}},
      {"name=../up", {"name \"../up\"", "use at most 100 letters"}},
      {"domain=math:-1",
       {"domain 1 (\"math\"): domain_kl_coef -1 is outside "
        "its limits 0 to 100; set it within them"}},
      // Beside the others.
      {"minibatches=3",
       {"minibatches 3 does not divide prompts_per_step 16",
        "; set it to one of 1, 2, 4, 8, 16"}},
      {"workers=17",
       {"workers 17 exceeds prompts_per_step 16", "; lower workers"}},
      {"length_weight=1",
       {"length_target_tokens 0 with length_weight 1: set "
        "it from 1 to max_tokens - 1 (1023)"}},
      {"length_target_tokens=9",
       {"length_target_tokens 9 has no effect: "
        "length_weight is 0; raise it or remove "
        "this"}},
      {"clip_ratio_high=0.3",
       {"clip_ratio_high 0.3 has no effect: ",
        "; raise minibatches or remove it"}},
      {"off_policy_mask_threshold=inf",
       {"off_policy_mask_threshold inf has no "
        "effect"}},
  };
}

std::vector<Refused> RefusedFileNames() {
  const std::string form =
      "; write each key once, as key: value, text in quotes, and a section as "
      "name { }";
  return {
      {"seed: 1\nobjectve { }",
       {"f:2:",
        "unknown key objectve; did you mean "
        "objective?"}},
      {"optimizer { lr: 1 }",
       {"f:1:",
        "unknown key lr; here it is called "
        "learning_rate"}},
      {"seed: 1\nlearning_rate: 1",
       {"f:2:",
        "learning_rate belongs in "
        "optimizer { }; move it there"}},
      {"optimizer { seed: 1 }",
       {"f:1:",
        "seed belongs outside every "
        "section; move it there"}},
      {"domain { name: \"m\" }",
       {"f:1:",
        "name is called domain_name in "
        "domain { }; rename it"}},
      {"domain {\n kl_coef: 0.1 }",
       {"f:2:",
        "kl_coef is called "
        "domain_kl_coef in domain { }"}},
      {"optimizer { name: \"m\" }", {"name belongs outside every section"}},
      {"seed: 1 seed: 2", {"f:1:", form}},
      {"objective { group_size: 8", {"f:1:", form}},
      {"\xEF\xBB\xBFseed: 1",
       {"f begins with a byte-order mark", "; save it as UTF-8 without one"}},
  };
}

std::vector<Refused> RefusedFileValues() {
  const std::string choices =
      "\" is none of unbiased_k3, k3, k2, k1; set it to one of them";
  return {
      {"objective {\n  group_size: \"eight\"\n}",
       {"f:2:15: group_size: ", "; give it as a whole number, 2 to 1024"}},
      {"steps: -1",
       {"f:1:8: steps: ",
        "; give it as a whole number, 1 to "
        "1000000"}},
      {"seed: 1\n\tsteps:\tmany", {"steps: ", "; give it as"}},
      {"seed: 1\n\tsteps:\t-12 # no",
       {"f:2:17: steps: -12 is outside its limits; give it as a whole "
        "number, 1 to "}},
      {"optimizer { learning_rate: x }", {"learning_rate: ", "; give it as"}},
      {"model: m", {"f:1:8: model: ", "; give it as text in quotes"}},
      {"objective: 3",
       {"objective: ",
        "; give it as a section: objective { "
        "group_size: ... }"}},
      {"objective { keep_routing: 2 }", {"; give it as true or false"}},
      // Only a number has limits.
      {"objective { keep_routing: -1 }",
       {"keep_routing: ", "; give it as true or false"}},
      {"model: -1", {"model: ", "; give it as text in quotes"}},
      {"objective { kl_coef: -x }",
       {"f:1:23: kl_coef: ", "; give it as a number, 0 to"}},
      // Choices, at their place; what stands behind one stays at its own. An
      // enum's numbers are nobody's words.
      {"numerics: fp4", {"f:1:11: numerics \"fp4\" is none of fp32"}},
      {"numerics: \"fp32\" steps: x", {"f:1:25: steps: "}},
      {"objective {\n\tkl_estimator: k4 }",
       {"f:2:23: kl_estimator \"k4" + choices}},
      {"objective { kl_estimator: \"k4\" }", {"kl_estimator \"k4" + choices}},
      {"objective { kl_estimator: \"\" }", {"kl_estimator \"" + choices}},
      {"objective { kl_estimator: 1 }", {"kl_estimator \"1" + choices}},
      {"objective { kl_estimator: -1 }", {"kl_estimator \"-" + choices}},
      {"objective { kl_estimator: \"k3\" \"k2\" }", {"f:1:"}},
      // Beside the others.
      {"domain { domain_kl_coef: 1 }",
       {"domain without domain_name; name the"
        " domain of the tasks"}},
      {"domain { domain_name: \"m\" } domain { domain_name: \"m\" }",
       {"domain m is given twice; keep one"}},
      {"domain { domain_name: \"m\" domain_weight: 2 } "
       "domain { domain_name: \"n\" }",
       {"domain n has no domain_weight, and domain m has one; give it to each, "
        "or to none"}},
      {"objective { kl_coef: 0 kl_estimator: k1 }",
       {"kl_estimator k1 has no effect: every kl_coef is 0; raise one or "
        "remove it"}},
      {"sampling { top_p: 1 } objective { keep_sampling_mask: false }",
       {"keep_sampling_mask false has no effect: top_p, top_k and min_p are "
        "all off; remove it"}},
      {"rewards { length_weight: 1 } sampling { max_tokens: 1 }",
       {"length_weight 1 with max_tokens 1: no length_target_tokens lies below "
        "it; raise max_tokens or set length_weight to 0"}},
      {"schedule { eval_tasks: 0 eval_interval: 3 }",
       {"eval_interval 3 has no effect: eval_tasks is 0; raise it or remove "
        "this"}},
  };
}

TEST(ConfigRefusalsTest, EveryRefusalNamesKeyValueWhatIsAllowedAndTheNextStep) {
  const auto expect = [](const std::vector<Refused>& all, auto refusal) {
    for (const Refused& refused : all) {
      const std::string said = refusal(refused.written);
      for (const std::string& part : refused.parts) {
        EXPECT_THAT(said, HasSubstr(part));
      }
    }
  };
  expect(RefusedNames(), Refusal);
  expect(RefusedValues(), Refusal);
  expect(RefusedFileNames(), FileRefusal);
  expect(RefusedFileValues(), FileRefusal);
  EXPECT_THAT(FileRefusal("objective { group_size: 8"),
              Not(HasSubstr("group_size:")));
}

TEST(ConfigRefusalsTest, AKeyThatMustBeGivenIsNamed) {
  RunConfig config;
  EXPECT_THAT(std::string(ResolveConfig(&config).message()),
              HasSubstr("model is not set and has no default. "));
  EXPECT_THAT(std::string(ResolveConfig(&config).message()),
              HasSubstr(" Set it in the file or by --set model=..."));
  // A list that is empty is not given.
  EXPECT_THAT(Refusal("tasks="), HasSubstr("tasks is not set and has no "));
}

// The same of every key there is, by the table.
TEST(ConfigRefusalsTest, EveryNumberIsRefusedOutsideItsLimitsWithThem) {
  for (const ConfigLeaf& leaf : ConfigLeaves(RunConfig::descriptor())) {
    if (!leaf.IsNumber() || leaf.InRepeated()) continue;
    const std::string name = leaf.name();
    const std::string limits = ExplainKey(name)->front().limits;
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
