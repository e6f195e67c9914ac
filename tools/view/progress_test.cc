#include "tools/view/progress.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

StepView Step(int64_t number, double reward) {
  StepView step;
  step.step = number;
  step.metrics["reward/mean"] = reward;
  step.seconds = 2;
  return step;
}

TEST(ProgressTest, StepLineShowsWhatWasMeasured) {
  StepView step = Step(7, 0.625);
  step.metrics.insert({{"reward/interpreter/mean", 0.5},
                       {"reward/math/mean", 0.75},
                       {"reward/std", 0.25},
                       {"kl", 0.00123},
                       {"train_rollout_logprob_abs_diff/max", 0},
                       {"tokens_per_second", 1234.4},
                       {"staleness/mean", 0}});
  EXPECT_EQ(FormatStep(step, 60, 125),
            "step   7/60  reward 0.625 (interpreter 0.50, math 0.75)  kl "
            "0.00123  mismatch 0  1234 tokens/s  staleness 0  eta 2m05s\n");
}

TEST(ProgressTest, WhatWasNotMeasuredIsADashAndNeverZero) {
  const std::string line = FormatStep(StepView(), 60, std::nullopt);
  EXPECT_THAT(line, HasSubstr("mismatch -"));
  EXPECT_THAT(line, HasSubstr("kl -"));
  StepView null_kl;
  null_kl.metrics["kl"] = std::nullopt;
  EXPECT_EQ(FormatStep(null_kl, 60, std::nullopt), line);
  EXPECT_THAT(line, HasSubstr("eta -"));
}

TEST(ProgressTest, RemainingTimeIsTheRecentMeanTimesTheStepsLeft) {
  EXPECT_FALSE(RemainingSeconds({}, 60).has_value());
  std::vector<StepView> steps;
  for (int i = 1; i <= 20; ++i) {
    steps.push_back(Step(i, 0));
    steps.back().seconds = i <= 12 ? 100 : 3;
  }
  EXPECT_EQ(*RemainingSeconds(steps, 60), 3.0 * 40);
  EXPECT_EQ(*RemainingSeconds(steps, 20), 0);
}

TEST(ProgressTest, CurveRisesWithTheRewardOnTheScaleOfZeroToOne) {
  EXPECT_EQ(DrawRewardCurve({Step(1, 0), Step(2, 0.5), Step(3, 1)}, 60, 3),
            "reward\n"
            "   1.00 |  *\n"
            "   0.50 | *\n"
            "   0.00 |*\n"
            "        +---\n"
            "         step 1 to 3\n");
}

TEST(ProgressTest, CurveAveragesWhereStepsExceedColumns) {
  std::vector<StepView> steps;
  for (int i = 0; i < 100; ++i) steps.push_back(Step(i + 1, i % 2));
  EXPECT_THAT(DrawRewardCurve(steps, 10, 3),
              HasSubstr("   0.50 |**********\n"));
}

TEST(ProgressTest, CurveTakesNegativeRewardsAndNone) {
  EXPECT_THAT(DrawRewardCurve({Step(1, -1)}, 10, 3), HasSubstr("-1.00 |*"));
  EXPECT_THAT(DrawRewardCurve({StepView()}, 10, 3), HasSubstr("no step"));
}

TEST(ProgressTest, TableComparesFirstAndLastEvaluation) {
  const std::vector<EvalView> evaluations = {
      {20, "math", 256, 200, 256},
      {0, "math", 256, 64, 250},
      {40, "math", 256, 240, 256},
  };
  const std::string table = FormatBeforeAfter(evaluations);
  EXPECT_THAT(table, HasSubstr("0.250 +- 0.027"));
  EXPECT_THAT(table, HasSubstr("0.938 +- 0.015"));
  EXPECT_THAT(table, HasSubstr("+22.2"));
  EXPECT_THAT(table, HasSubstr(" 250/256 to 256/256\n"));
  EXPECT_THAT(table, Not(HasSubstr("0.781")));
}

TEST(ProgressTest, TableWithoutALaterEvaluationClaimsNoRise) {
  const std::string table = FormatBeforeAfter({{0, "math", 10, 5, 10}});
  EXPECT_THAT(table, HasSubstr("0.500 +- 0.158"));
  EXPECT_THAT(table, HasSubstr(" 10/10\n"));
  EXPECT_THAT(table, Not(HasSubstr("+0.0")));
  EXPECT_EQ(FormatBeforeAfter({}), "");
}

TEST(ProgressTest, EpisodeIsCutInTheMiddleBetweenCharacters) {
  EpisodeView episode;
  episode.task_id = "t1";
  episode.environment = "math";
  episode.outcome = "OK";
  episode.correct = true;
  episode.reward = 1;
  episode.turns = {{"user", "add 1\nand 2"}, {"assistant", "aéééééb"}};
  EXPECT_EQ(FormatEpisode("after", episode, 20),
            "--- after: t1 in math, after 0 steps: OK, correct, reward 1\n"
            "      user| add 1\n"
            "          | and 2\n"
            " assistant| aéééééb\n");
  EXPECT_THAT(FormatEpisode("after", episode, 5),
              HasSubstr("a [... 8 bytes ...] éb"));
}

TEST(ProgressTest, CallsStandInATableOfMilliseconds) {
  EXPECT_EQ(FormatCalls({}), "");
  EXPECT_THAT(
      FormatCalls({{"slow", "STEP", 12, {0, 40, 1500}, {5'000'000, 1, 2}}}),
      HasSubstr("slow             STEP          12         0.0        0.0"
                "        1.5      5000.0        0.0        0.0\n"));
}

TEST(ProgressTest, AWaitTellsWhatForSinceWhenAndItsLimit) {
  WaitView wait = {"worker-0", "interpreter Step, 3 episodes", 125'000, 600'000,
                   1'000'000};
  EXPECT_EQ(FormatWait(wait, 3'000'000),
            "  worker-0     interpreter Step, 3 episodes 2m05s of 10m00s, "
            "reported 2s ago\n");
  wait.name = "lease";
  wait.deadline_ms = 0;
  EXPECT_THAT(FormatWait(wait, 3'000'000),
              HasSubstr(" 2m05s, without a limit of its own, reported"));
}

TEST(ProgressTest, PlanLinesUpItsLabels) {
  EXPECT_EQ(FormatPlan({{"model", "1 M"}, {"processes", "3"}}),
            "model      1 M\nprocesses  3\n");
}

TEST(ProgressTest, DurationsReadShort) {
  EXPECT_EQ(FormatDuration(59.4), "59s");
  EXPECT_EQ(FormatDuration(3725.0), "1h02m");
}

TEST(ProgressTest, TasksWithoutARewardAreListedUpToTenThenCounted) {
  EXPECT_EQ(FormatFailedTasks({}), "");
  EXPECT_EQ(FormatFailedTasks({{1, "a", "math", "it\nbroke"}}),
            "tasks that got no reward: 1\n  task a of math: it\\nbroke\n");
  const std::string many = FormatFailedTasks(
      std::vector<FailedTaskView>(12, {1, "b", "math", "no"}));
  EXPECT_EQ(std::count(many.begin(), many.end(), '\n'), 12);
  EXPECT_THAT(many, HasSubstr("tasks that got no reward: 12\n"));
  EXPECT_THAT(many, HasSubstr("\n  and 2 more\n"));
}

}  // namespace
}  // namespace temper
