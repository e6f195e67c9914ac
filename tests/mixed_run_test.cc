// tools/configs/mixed.textproto in short: one run of four environments, whose
// tasks come from four sources. Every episode is scored, none is dropped, the
// prompts are shared out by the domains' weights, and a resume needs none of
// the sources.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "tests/trial_run.h"

namespace temper {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

constexpr int64_t kDeadlineMs = 240'000;
constexpr int64_t kSteps = 2, kPrompts = 8, kSamples = 4, kEvalTasks = 4;
constexpr char kPrograms[] = "environments/code/program_tasks.jsonl";
constexpr char kHumanEval[] = "environments/code/humaneval/tasks.jsonl";

void Run(const std::string& command) {
  const auto process = RunCommandLine(command, TrialPath("command"));
  ASSERT_EQ(process->Wait(kDeadlineMs).value_or(-1), 0)
      << command << ": " << process->err();
}

// Tasks as the configuration says how to make them, fewer. Programs in Python
// alone: not every machine can hold a compiler's memory.
std::string MakeSources() {
  const std::string programs = TrialPath("programs.jsonl");
  Run(absl::StrCat(kTemper, " env search-tasks --output ", TrialPath("search"),
                   " --entities 128 --train 30 --heldout ", kEvalTasks));
  std::string python;
  for (const auto line : absl::StrSplit(ReadAll(kPrograms), '\n')) {
    if (!absl::StrContains(line, R"(\"language\": \"python\")")) continue;
    absl::StrAppend(&python, line, "\n");
  }
  EXPECT_TRUE(WriteFileDurably(programs, python).ok());
  return absl::StrCat("tasks=quickstart,", TrialPath("search/tasks.jsonl"), ",",
                      programs, ",", kHumanEval);
}

std::vector<std::string> ShortRun(const std::string& sources) {
  std::vector<std::string> args;
  for (const std::string& setting :
       {absl::StrCat("runs_dir=", TrialPath("runs")), sources,
        absl::StrCat("steps=", kSteps),
        absl::StrCat("prompts_per_step=", kPrompts),
        absl::StrCat("group_size=", kSamples),
        absl::StrCat("eval_tasks=", kEvalTasks), std::string("threads=1")}) {
    args.insert(args.end(), {"--set", setting});
  }
  return args;
}

// Episodes of training that count, by domain.
std::map<std::string, int64_t> TrainedByDomain() {
  std::map<std::string, int64_t> counts;
  const auto rows =
      Query("mixed",
            "SELECT domain, count(*) FROM lineage_episode JOIN lineage_trained "
            "USING (grp, sample) WHERE domain = environment GROUP BY domain");
  EXPECT_TRUE(rows.ok()) << rows.status();
  for (const SqlRow& row : *rows) counts[row[0].AsString()] = row[1].AsInt();
  return counts;
}

void ExpectAllScored(int64_t steps) {
  EXPECT_EQ(LastStep("mixed"), steps);
  // Of each eight prompts three, three, one and one.
  const int64_t share = steps * kSamples;
  EXPECT_THAT(TrainedByDomain(),
              ElementsAre(Pair("code", share), Pair("interpreter", 3 * share),
                          Pair("math", 3 * share), Pair("search", share)));
  EXPECT_EQ(
      QueryNumber("mixed", "SELECT count(*) FROM episode WHERE reward IS NULL"),
      0);
  EXPECT_EQ(QueryNumber("mixed", "SELECT count(*) FROM task_failure"), 0);
  EXPECT_EQ(QueryNumber("mixed",
                        "SELECT count(*) FROM lineage_metric WHERE value > 0 "
                        "AND (name LIKE 'dropped_%' OR name = 'eval/dropped' "
                        "OR name = 'train_rollout_logprob_abs_diff/max')"),
            0);
  EXPECT_EQ(QueryNumber("mixed",
                        "SELECT count(*) FROM lineage_metric WHERE value > 0 "
                        "AND name = 'train_rollout_logprob_abs_diff/tokens'"),
            steps);
  // Prompts, what is sampled and two pages of results fit the positions.
  EXPECT_LT(QueryNumber("mixed", "SELECT max(length(tokens) / 4) FROM branch"),
            4096);
}

TEST(MixedRunTest, EveryEpisodeOfFourEnvironmentsIsScoredByWeight) {
  const std::string sources = MakeSources();
  const auto train =
      StartTrain("tools/configs/mixed.textproto", "mixed", ShortRun(sources));
  ASSERT_EQ(train->Wait(kDeadlineMs).value_or(-1), 0)
      << train->err() << train->out();
  ExpectAllScored(kSteps);
  EXPECT_EQ(QueryNumber("mixed",
                        "SELECT count(*) FROM lineage_episode WHERE "
                        "purpose_name = 'EVAL'"),
            2 * 4 * kEvalTasks);

  // The run has its own copy of all of them.
  for (const char* source : {"programs.jsonl", "search/tasks.jsonl"}) {
    ASSERT_TRUE(RemoveAll(TrialPath(source)).ok());
  }
  const auto resumed =
      RunCommandLine(absl::StrCat(kTemper, " train --resume ", RunDir("mixed"),
                                  " --set steps=", kSteps + 1),
                     TrialPath("resumed"));
  ASSERT_EQ(resumed->Wait(kDeadlineMs).value_or(-1), 0)
      << resumed->err() << resumed->out();
  ExpectAllScored(kSteps + 1);
  EXPECT_TRUE(AuditRun("mixed").ok());
}

}  // namespace
}  // namespace temper
