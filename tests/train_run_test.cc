// `temper train` as a whole: real processes, the shipped base model, both
// environments, real tool calls. What a run shows and keeps, and what two runs
// of one seed have in common: every byte.

#include <fnmatch.h>
#include <sys/stat.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "kernels/find_backend.h"
#include "learner/store/run_db.h"
#include "tests/trial_run.h"
#include "tools/view/run_view.h"

namespace temper {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr int64_t kDeadlineMs = 240'000;
constexpr int64_t kSteps = 4;
constexpr int64_t kGroups = kSmallGroups, kSamples = kSmallSamples;

// Adds what `text` lists to `names`, as patterns of fnmatch: a/{b,c} is two
// names, {env} any one.
void AddListed(std::string text, std::set<std::string>* names) {
  const size_t open = text.find('{'), close = text.find('}');
  if (open == std::string::npos) {
    names->insert(text);
    return;
  }
  const std::string inner = text.substr(open + 1, close - open - 1);
  const std::string rest = text.substr(close + 1);
  text.resize(open);
  if (!absl::StrContains(inner, ',')) {
    AddListed(absl::StrCat(text, "*", rest), names);
    return;
  }
  for (const auto one : absl::StrSplit(inner, ',')) {
    AddListed(absl::StrCat(text, one, rest), names);
  }
}

// The metrics of DESIGN.md, section 8.
std::set<std::string> ListedMetrics() {
  constexpr char kTitle[] = "\nMetrics: ";
  const std::string design = ReadAll("DESIGN.md");
  const size_t begin = design.find(kTitle);
  const size_t end = design.find(". (", begin);
  std::set<std::string> names;
  if (end == std::string::npos) return names;
  const std::string list = absl::StrReplaceAll(
      design.substr(begin + strlen(kTitle), end - begin - strlen(kTitle)),
      {{"\n", " "}, {"; of an evaluation", ","}});
  for (const auto part : absl::StrSplit(list, ", ")) {
    AddListed(std::string(part), &names);
  }
  return names;
}

class TrainRunTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    WriteSmallConfig(kSteps, /*save_interval=*/2);
  }

  static std::unique_ptr<TemperProcess> Start(
      const std::string& run, const std::vector<std::string>& more = {},
      const std::vector<std::string>& environment = {}) {
    return StartTrain(TrialPath("small.textproto"), run, more, environment);
  }
  static RunFacts RunToTheEnd(
      const std::string& run, const std::vector<std::string>& more = {},
      const std::vector<std::string>& environment = {}) {
    const auto train = Start(run, more, environment);
    const auto code = train->Wait(kDeadlineMs);
    EXPECT_EQ(code.value_or(-1), 0) << train->err() << train->out();
    auto facts = ReadFacts(run);
    EXPECT_TRUE(facts.ok()) << facts.status();
    const absl::Status audit = AuditRun(run);
    EXPECT_TRUE(audit.ok()) << audit;
    return facts.ok() ? *std::move(facts) : RunFacts();
  }

  // The run that all others must agree with.
  static const RunFacts& First() {
    static const RunFacts* facts = new RunFacts(RunToTheEnd("first"));
    return *facts;
  }
  static void ExpectAsFirst(const RunFacts& got) {
    const RunFacts& expected = First();
    ASSERT_THAT(expected.samples, SizeIs(kSteps * kGroups * kSamples));
    EXPECT_TRUE(got.samples == expected.samples) << "other samples trained";
    EXPECT_FALSE(got.weights.empty());
    EXPECT_TRUE(got.weights == expected.weights) << "other weights";
  }
};

TEST_F(TrainRunTest, OneCommandTrainsInBothEnvironmentsWithZeroMismatch) {
  const RunFacts& facts = First();
  EXPECT_EQ(facts.last_step, kSteps);
  EXPECT_FALSE(facts.weights.empty());
  // In BF16 as the first model, of which it would have the bytes.
  const std::string trained =
      absl::StrCat(RunDir("first"), "/checkpoints/step_", kSteps, "/model");
  EXPECT_TRUE(ReadAll(trained + "/model.safetensors") !=
              ReadAll(std::string(kQuickstartModel) + "/model.safetensors"))
      << "nothing was trained";

  const auto metrics =
      Query("first", "SELECT step, name, value FROM lineage_metric");
  ASSERT_TRUE(metrics.ok()) << metrics.status();
  std::map<std::pair<int64_t, std::string>, const SqlValue*> values;
  for (const SqlRow& row : *metrics) {
    values[{row[0].AsInt(), row[1].AsString()}] = &row[2];
  }
  const std::string diff = "train_rollout_logprob_abs_diff/";
  for (int64_t step = 1; step <= kSteps; ++step) {
    SCOPED_TRACE(absl::StrCat("step ", step));
    ASSERT_EQ(values.count({step, diff + "max"}), 1u);
    EXPECT_FALSE((values[{step, diff + "max"}])->is_null());
    EXPECT_EQ((values[{step, diff + "max"}])->AsDouble(), 0.0);
    ASSERT_EQ(values.count({step, diff + "tokens"}), 1u);
    EXPECT_GT((values[{step, diff + "tokens"}])->AsDouble(), 0.0);
    // On policy, so every ratio is 1 to the bit.
    for (const char* ratio : {"ratio/mean", "ratio/max"}) {
      ASSERT_EQ(values.count({step, ratio}), 1u);
      EXPECT_EQ((values[{step, ratio}])->AsDouble(), 1.0);
    }
    // The router that learns chooses what the one that sampled chose.
    ASSERT_EQ(values.count({step, "routing/agreement"}), 1u);
    EXPECT_EQ((values[{step, "routing/agreement"}])->AsDouble(), 1.0);
    ASSERT_EQ(values.count({step, "grad_norm"}), 1u);
    EXPECT_GT((values[{step, "grad_norm"}])->AsDouble(), 0.0);
    ASSERT_EQ(values.count({step, "num_turns/mean"}), 1u);
    EXPECT_GT((values[{step, "num_turns/mean"}])->AsDouble(), 1.0);
  }
}

TEST_F(TrainRunTest, EpisodesOfBothEnvironmentsAreTrainedToolResultsInside) {
  First();
  // What was trained, with its tool results that are followed by another turn.
  const auto rows = Query(
      "first",
      "SELECT e.environment, count(DISTINCT e.id), count(c.call) "
      "FROM lineage_trained t JOIN ledger l USING(grp, sample) "
      "JOIN episode e ON e.id = l.episode "
      "LEFT JOIN tool_call c ON c.episode = e.id AND length(c.content) > 0 "
      "AND EXISTS (SELECT 1 FROM turn WHERE turn.episode = e.id AND "
      "turn.turn > c.turn AND turn.role = 'assistant') "
      "GROUP BY 1 ORDER BY 1");
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_THAT(*rows, SizeIs(2));
  EXPECT_EQ((*rows)[0][0].AsString(), "interpreter");
  EXPECT_EQ((*rows)[1][0].AsString(), "math");
  // Most episodes call: the base model writes well-formed calls.
  EXPECT_GT((*rows)[0][2].AsInt(), (*rows)[0][1].AsInt() / 2);
  EXPECT_EQ((*rows)[1][2].AsInt(), 0);
  EXPECT_EQ((*rows)[0][1].AsInt() + (*rows)[1][1].AsInt(),
            kSteps * kGroups * kSamples);
}

TEST_F(TrainRunTest, ThePreambleOfAStepsBatchIsComputedOnce) {
  First();
  const auto rows = Query(
      "first",
      "SELECT s.value - u.value FROM lineage_metric u JOIN lineage_metric s "
      "USING(step) WHERE u.name = 'rows' AND s.name = 'rows_unshared'");
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_THAT(*rows, SizeIs(kSteps));
  // The tools' descriptions alone have more than 500 tokens.
  for (const SqlRow& row : *rows) {
    EXPECT_GT(row[0].AsDouble(), 500 * (kGroups * kSamples - 1));
  }
}

TEST_F(TrainRunTest, EvaluatesEachEnvironmentBeforeAndAfter) {
  First();
  const auto db = RunDb::OpenReader(RunDir("first") + "/run.db");
  ASSERT_TRUE(db.ok()) << db.status();
  const auto evaluations = ReadEvaluations(db->get());
  ASSERT_TRUE(evaluations.ok()) << evaluations.status();
  std::vector<std::string> found;
  for (const EvalView& view : *evaluations) {
    found.push_back(
        absl::StrCat(view.step, " ", view.environment, " ", view.episodes));
  }
  EXPECT_THAT(found, ElementsAre("0 interpreter 2", "0 math 2",
                                 "4 interpreter 2", "4 math 2"));
}

TEST_F(TrainRunTest, MetricsAreThoseThatTheDesignLists) {
  First();
  const auto rows = Query("first", "SELECT DISTINCT name FROM lineage_metric");
  ASSERT_TRUE(rows.ok()) << rows.status();
  const std::set<std::string> listed = ListedMetrics();
  std::set<std::string> unwritten = listed;
  for (const SqlRow& row : *rows) {
    const std::string name = row[0].AsString();
    bool known = false;
    for (const std::string& pattern : listed) {
      if (fnmatch(pattern.c_str(), name.c_str(), FNM_PATHNAME) != 0) continue;
      known = true;
      unwritten.erase(pattern);
    }
    EXPECT_TRUE(known) << name << " is not in section 8";
  }
  EXPECT_THAT(unwritten, IsEmpty()) << "listed, and of no run";
}

TEST_F(TrainRunTest, TheRecordSaysWhatItWasComputedInAndOn) {
  First();
  EXPECT_EQ(QueryNumber("first",
                        "SELECT count(*) FROM run WHERE numerics = 'fp32' AND "
                        "device = 'cpu'"),
            1);
  EXPECT_EQ(QueryNumber("first",
                        "SELECT count(*) FROM event WHERE "
                        "kind = 'worker_joined' AND detail != 'fp32 on cpu'"),
            0);
}

TEST_F(TrainRunTest, TheTerminalShowsPlanStepsAndTheRunDirectory) {
  First();
  const std::string out = ReadAll(TrialPath("first.out"));
  EXPECT_THAT(out, HasSubstr("fp32 on CPU tier"));
  EXPECT_THAT(out, HasSubstr("env-host, learner, worker-0"));
  size_t at = 0;
  for (int64_t step = 1; step <= kSteps; ++step) {
    at = out.find(absl::StrCat("step   ", step, "/", kSteps), at);
    ASSERT_NE(at, std::string::npos) << step << out;
  }
  EXPECT_THAT(out.substr(at), HasSubstr("mismatch 0 "));
  const size_t end = out.rfind("the run is in " + RunDir("first"));
  ASSERT_NE(end, std::string::npos) << out;
  EXPECT_THAT(
      out.substr(end),
      HasSubstr(absl::StrCat(kTemper, " inspect steps ", RunDir("first"))));
}

TEST_F(TrainRunTest, TheCommandsThatItNamesWork) {
  First();
  const auto commands = NextCommandsIn(ReadAll(TrialPath("first.out")));
  EXPECT_THAT(commands, SizeIs(3));
  for (const std::string& command : commands) {
    const auto process = RunCommandLine(command, TrialPath("next"));
    EXPECT_EQ(process->Wait(kDeadlineMs).value_or(-1), 0) << command << "\n"
                                                          << process->err();
    EXPECT_NE(process->out(), "") << command;
  }
}

// eval takes it in the test above, sft in //tools:model_verbs_test.
TEST_F(TrainRunTest, GenerateAndTrainTakeACheckpointsModelAsItIs) {
  First();
  const std::string model =
      absl::StrCat(RunDir("first"), "/checkpoints/step_", kSteps, "/model");
  TemperProcess generate(
      kTemper, {"generate", model, "--prompt", "hello", "--samples", "4"},
      TrialPath("generate"));
  EXPECT_EQ(generate.Wait(kDeadlineMs).value_or(-1), 0) << generate.err();
  EXPECT_NE(generate.out(), "");
  RunToTheEnd("further", {"--set", "model=" + model, "--set", "steps=1",
                          "--set", "eval_tasks=0"});
  EXPECT_EQ(LastStep("further"), 1);
}

TEST_F(TrainRunTest, TheSameSeedGivesTheSameBytesWhateverProxyIsNamed) {
  // Nobody listens there, and nothing of a run goes there.
  std::vector<std::string> proxies;
  for (const char* name :
       {"grpc_proxy", "https_proxy", "http_proxy", "HTTPS_PROXY"}) {
    proxies.push_back(absl::StrCat(name, "=http://127.0.0.1:1"));
  }
  ExpectAsFirst(RunToTheEnd("again", {}, proxies));
}

TEST_F(TrainRunTest, TwoWorkersAndThreadsGiveTheBytesOfOne) {
  ExpectAsFirst(
      RunToTheEnd("two", {"--set", "workers=2", "--set", "threads=2"}));
  // Both had a part in it.
  const auto workers =
      Query("two", "SELECT DISTINCT worker FROM episode ORDER BY 1");
  ASSERT_TRUE(workers.ok()) << workers.status();
  EXPECT_THAT(*workers, SizeIs(2));
}

TEST_F(TrainRunTest, TheScalarTierGivesTheSameBytes) {
  if (BackendNames().size() == 1) GTEST_SKIP() << "this CPU has no other";
  ExpectAsFirst(RunToTheEnd("scalar", {}, {"TEMPER_ISA=scalar"}));
  EXPECT_THAT(ReadAll(TrialPath("scalar.out")),
              HasSubstr("fp32 on CPU tier scalar"));
}

class NarrowTrainRunTest : public TrainRunTest,
                           public ::testing::WithParamInterface<const char*> {};

TEST_P(NarrowTrainRunTest, NothingDiffersWhateverTheTier) {
  const std::string name = GetParam();
  const std::vector<std::string> numerics = {"--set", "numerics=" + name};
  const RunFacts best = RunToTheEnd(name, numerics);
  ASSERT_THAT(best.samples, SizeIs(kSteps * kGroups * kSamples));
  EXPECT_TRUE(best.weights != First().weights) << "it computed in fp32";
  EXPECT_THAT(ReadAll(TrialPath(name + ".out")),
              HasSubstr(name + " on CPU tier"));
  EXPECT_EQ(QueryNumber(name,
                        "SELECT COUNT(*) FROM lineage_metric WHERE name = "
                        "'train_rollout_logprob_abs_diff/max' AND value = 0"),
            kSteps);
  EXPECT_EQ(QueryNumber(name,
                        "SELECT count(*) FROM run, event WHERE numerics = ? "
                        "AND kind = 'worker_joined' AND detail = ?",
                        {name, name + " on cpu"}),
            1);
  if (BackendNames().size() == 1) return;  // this CPU has no other
  const RunFacts scalar =
      RunToTheEnd(name + "-scalar", numerics, {"TEMPER_ISA=scalar"});
  EXPECT_TRUE(scalar.samples == best.samples);
  EXPECT_TRUE(scalar.weights == best.weights);
}

INSTANTIATE_TEST_SUITE_P(, NarrowTrainRunTest, ::testing::Values("bf16", "fp8"),
                         [](const auto& tested) { return tested.param; });

// Its model/ is what the next run begins with, and is evaluated.
TEST_F(TrainRunTest, ARunTakesAModelInF8E4M3AndMakesOneWhereItIsAsked) {
  const std::vector<std::string> codes = {
      "--set", "numerics=fp8", "--set", "checkpoint_dtype=F8_E4M3",
      "--set", "steps=1",      "--set", "eval_tasks=0"};
  RunToTheEnd("codes", codes);
  const std::string model = RunDir("codes") + "/checkpoints/step_1/model";
  EXPECT_THAT(ReadAll(model + "/config.json"),
              HasSubstr("\"quant_method\": \"fp8\""));
  EXPECT_THAT(ReadAll(TrialPath("codes.out")), Not(HasSubstr("F8_E4M3")));
  std::vector<std::string> again = codes;
  again.insert(again.end(), {"--set", "model=" + model});
  RunToTheEnd("codes-again", again);
  EXPECT_THAT(ReadAll(TrialPath("codes-again.out")),
              HasSubstr("matrices stored in F8_E4M3, whose values are kept"));
  TemperProcess generate(kTemper, {"generate", model, "--prompt", "hello"},
                         TrialPath("of-codes"));
  EXPECT_TRUE(generate.Wait(kDeadlineMs).has_value());
  EXPECT_THAT(generate.err(),
              HasSubstr("matrices stored in F8_E4M3, dequantised"));
}

TEST_F(TrainRunTest, AnotherSeedGivesOtherBytes) {
  const RunFacts other = RunToTheEnd("other-seed", {"--seed", "6"});
  ASSERT_THAT(other.samples, SizeIs(First().samples.size()));
  for (size_t i = 0; i < other.samples.size(); ++i) {
    EXPECT_TRUE(other.samples[i] != First().samples[i]) << i;
  }
  EXPECT_TRUE(other.weights != First().weights);
}

TEST_F(TrainRunTest, MisuseExitsWithTwoAndNamesWhatIsWrong) {
  const auto misspelt = Start("misspelt", {"--set", "gruop_size=4"});
  EXPECT_EQ(misspelt->Wait(kDeadlineMs).value_or(-1), 2);
  EXPECT_THAT(misspelt->err(), HasSubstr("gruop_size"));
  EXPECT_THAT(misspelt->err(), HasSubstr("group_size"));

  const auto no_model = Start(
      "no-model", {"--set", absl::StrCat("model=", TrialPath("nowhere"))});
  EXPECT_EQ(no_model->Wait(kDeadlineMs).value_or(-1), 2);
  EXPECT_THAT(no_model->err(), HasSubstr(TrialPath("nowhere")));

  const auto no_kernels =
      Start("no-kernels", {"--set", "device=cuda", "--set", "numerics=bf16"});
  EXPECT_EQ(no_kernels->Wait(kDeadlineMs).value_or(-1), 2);
  EXPECT_THAT(no_kernels->err(), HasSubstr("cuda has no kernels of bf16 yet"));

  TemperProcess no_tier(kTemper, {"train", TrialPath("small.textproto")},
                        TrialPath("no-tier"), {"TEMPER_ISA=abacus"});
  EXPECT_EQ(no_tier.Wait(kDeadlineMs).value_or(-1), 2);
  EXPECT_THAT(no_tier.err(), HasSubstr("TEMPER_ISA=abacus"));

  // None of them began a run.
  for (const char* run : {"misspelt", "no-model", "no-kernels"}) {
    struct stat info;
    EXPECT_NE(stat(RunDir(run).c_str(), &info), 0) << run;
  }
}

}  // namespace
}  // namespace temper
