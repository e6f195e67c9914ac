#include "tools/run/run_watcher.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "learner/intake/trajectory_fixture.h"
#include "learner/store/run_db_fixture.h"

namespace temper {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// A run of which this test is the learner.
class RunWatcherTest : public RunDbFixture {
 protected:
  // Not begun: a watcher is there before the learner's run.db is.
  void SetUp() override {
    FreshDirectory();
    ASSERT_TRUE(MakeDirectories(directory_ + "/logs").ok());
  }

  void StartRun() {
    OpenRun();
    RecordVersion(1, 0);
  }

  // On the one sample of `group`.
  void Train(int64_t step, uint64_t group) {
    ASSERT_TRUE(
        ledger_
            ->IssueGroups({{group, PURPOSE_TRAIN, "task",
                            static_cast<int64_t>(group), 1, std::nullopt}})
            .ok());
    ASSERT_EQ(*ledger_->Commit(FixtureTrajectory(group, 0)),
              CommitResult::kCommitted);
    ASSERT_TRUE(ledger_->Reserve(step, {group}).ok());
    StepRecord record;
    record.step = step;
    record.weight_version = 1;
    record.samples = {{group, 0}};
    record.metrics = {{"reward/mean", 0.25 * static_cast<double>(step)}};
    record.records = {{{group, 0}, 1, false, {-0.5f, -0.25f}}};
    ASSERT_TRUE(ledger_->CommitStep(record).ok());
  }

  // Leaves what PrintNew printed in out_ and err_.
  void Print(RunWatcher* watcher) {
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    watcher->PrintNew();
    out_ = ::testing::internal::GetCapturedStdout();
    err_ = ::testing::internal::GetCapturedStderr();
  }
  void PrintAfter(int64_t us, RunWatcher* watcher) {
    clock_.AdvanceMicros(us);
    Print(watcher);
  }

  std::string out_, err_;
};

TEST_F(RunWatcherTest, EachStepIsPrintedOnce) {
  RunWatcher watcher(directory_, /*steps_total=*/3, &clock_);
  Print(&watcher);
  EXPECT_EQ(out_ + err_, "");
  StartRun();
  Train(1, 1);
  Print(&watcher);
  EXPECT_THAT(out_, HasSubstr("step   1/3  reward 0.250"));
  Print(&watcher);
  EXPECT_EQ(out_ + err_, "");
  Train(2, 2);
  Print(&watcher);
  EXPECT_THAT(out_, HasSubstr("step   2/3  reward 0.500"));
  EXPECT_THAT(out_, Not(HasSubstr("step   1/3")));
}

TEST_F(RunWatcherTest, StepsOfAnEarlierAttemptAreNotTheResumedOnes) {
  StartRun();
  Train(1, 1);
  Train(2, 2);
  RunWatcher watcher(directory_, /*steps_total=*/3, &clock_);
  Print(&watcher);
  EXPECT_EQ(out_, "") << "the learner has not begun";
  ASSERT_TRUE(ledger_->Resume(/*attempt=*/1, /*step=*/1).ok());
  Print(&watcher);
  EXPECT_EQ(out_, "going on after step 1\n");
  Train(2, 5);
  Print(&watcher);
  EXPECT_THAT(out_, HasSubstr("step   2/3"));
  EXPECT_THAT(out_, Not(HasSubstr("step   1/3")));
}

TEST_F(RunWatcherTest, QuietTimesHaveASignOfLife) {
  StartRun();
  RunWatcher watcher(directory_, /*steps_total=*/3, &clock_);
  ASSERT_TRUE(ledger_->Resume(1, 0).ok());
  Print(&watcher);
  ASSERT_TRUE(db_->RecordEvent("worker-0", EventKind::kWorkerJoined, "").ok());
  ASSERT_TRUE(
      ledger_->IssueGroups({{7, PURPOSE_TRAIN, "task", 6, 4, std::nullopt}})
          .ok());
  for (int i = 0; i < 3; ++i) {
    PrintAfter(RunWatcher::kQuietUs, &watcher);
    EXPECT_EQ(err_, "");
    PrintAfter(1, &watcher);
    EXPECT_EQ(err_, "after step 0: 0 episodes evaluated, 4 samples issued\n");
  }
}

// As when something between them stops every connection.
TEST_F(RunWatcherTest, AWaitForWorkersSaysSoWithTheirLastWordsAndDoesNotFlood) {
  StartRun();
  RunWatcher watcher(directory_, /*steps_total=*/3, &clock_);
  ASSERT_TRUE(ledger_->Resume(1, 0).ok());
  Print(&watcher);
  ASSERT_TRUE(WriteFileDurably(directory_ + "/logs/worker-0.log",
                               "begun\nconnection refused\n")
                  .ok());
  ASSERT_TRUE(WriteFileDurably(directory_ + "/logs/worker-1.log", "").ok());
  ASSERT_TRUE(WriteFileDurably(directory_ + "/logs/learner.log", "up\n").ok());
  int64_t now_us = 0, last_us = 0;
  int told = 0;
  while (now_us < 3'600'000'000) {
    PrintAfter(1'000'000, &watcher);
    now_us += 1'000'000;
    if (err_.empty()) continue;
    if (++told == 1) {
      EXPECT_LE(now_us, 30'000'000);
      EXPECT_EQ(err_,
                absl::StrCat("no worker is connected to the learner for 21 s; "
                             "the last lines of ",
                             directory_,
                             "/logs:\n  worker-0: connection refused\n"
                             "  worker-1: (nothing)\n"));
    }
    last_us = now_us;
  }
  EXPECT_GE(told, 5);
  EXPECT_LE(told, 20);
  EXPECT_GE(last_us, 3'000'000'000) << "it fell silent";

  ASSERT_TRUE(db_->RecordEvent("worker-0", EventKind::kWorkerJoined, "").ok());
  PrintAfter(RunWatcher::kQuietUsMax + 1, &watcher);
  EXPECT_THAT(err_, HasSubstr("episodes evaluated"));
  ASSERT_TRUE(db_->RecordEvent("worker-0", EventKind::kWorkerLeft, "").ok());
  PrintAfter(RunWatcher::kQuietUs + 1, &watcher);
  EXPECT_THAT(err_, HasSubstr("no worker is connected to the learner for 20 "));
}

TEST_F(RunWatcherTest, ALearnerThatDoesNotBeginIsNamed) {
  ASSERT_TRUE(
      WriteFileDurably(directory_ + "/logs/learner.log", "checking\n").ok());
  RunWatcher watcher(directory_, /*steps_total=*/3, &clock_);
  PrintAfter(RunWatcher::kQuietUs + 1, &watcher);
  EXPECT_THAT(err_, HasSubstr("the learner has not begun for 20 s; "));
  EXPECT_THAT(err_, HasSubstr("  learner: checking\n"));
}

TEST_F(RunWatcherTest, OfFailedTasksTenAreNamedThenTheyAreCounted) {
  RunWatcher watcher(directory_, /*steps_total=*/3, &clock_);
  StartRun();
  int failed = 0;
  const auto fail = [&] {
    ASSERT_TRUE(
        db_->RecordTaskFailure(absl::StrCat("t: ", failed++), "math", "no")
            .ok());
  };
  for (int i = 0; i < 10; ++i) fail();
  Print(&watcher);
  EXPECT_EQ(std::count(err_.begin(), err_.end(), '\n'), 10);
  EXPECT_THAT(err_, HasSubstr("warning: task t: 9 of math: no\n"));
  fail();
  Print(&watcher);
  EXPECT_EQ(err_, absl::StrCat("warning: 11 tasks got no reward so far; table "
                               "task_failure of ",
                               directory_, "/run.db has them all\n"));
  std::vector<std::string> told;
  for (int second = 0; second < 300; ++second) {
    fail();
    PrintAfter(1'000'000, &watcher);
    if (err_.find("warning: ") != std::string::npos) told.push_back(err_);
  }
  ASSERT_EQ(told.size(), 5u);
  EXPECT_THAT(told[0], HasSubstr("warning: 71 tasks got no reward so far; "));
  EXPECT_THAT(told[4], HasSubstr("warning: 311 tasks got no reward so far; "));
}

TEST_F(RunWatcherTest, WhatFailedInEarlierAttemptsIsNotWarnedOfAgain) {
  StartRun();
  ASSERT_TRUE(db_->RecordTaskFailure("a", "math", "first").ok());
  ASSERT_TRUE(ledger_->Resume(1, 0).ok());
  ASSERT_TRUE(db_->RecordTaskFailure("a", "math", "second").ok());
  RunWatcher watcher(directory_, /*steps_total=*/3, &clock_);
  ASSERT_TRUE(ledger_->Resume(1, 0).ok());
  Print(&watcher);
  EXPECT_EQ(err_, "");
  ASSERT_TRUE(db_->RecordTaskFailure("a", "math", "third").ok());
  Print(&watcher);
  EXPECT_EQ(err_, "warning: task a of math: third\n");
}

TEST_F(RunWatcherTest, TheSummaryIsOfTheWholeRun) {
  RunWatcher watcher(directory_, /*steps_total=*/2, &clock_);
  EXPECT_EQ(*watcher.CheckpointStep(), 0);
  EXPECT_TRUE(watcher.PrintSummary().ok()) << "there is no run.db";
  StartRun();
  Train(1, 1);
  Train(2, 2);
  ASSERT_TRUE(db_->RecordCheckpoint(2, "step_2").ok());
  ::testing::internal::CaptureStdout();
  const absl::Status shown = watcher.PrintSummary();
  const std::string out = ::testing::internal::GetCapturedStdout();
  EXPECT_TRUE(shown.ok()) << shown;
  EXPECT_THAT(out, HasSubstr("step 1 to 2"));
  EXPECT_EQ(*watcher.CheckpointStep(), 2);
}

}  // namespace
}  // namespace temper
