#include <cstdlib>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "learner/intake/trajectory_fixture.h"
#include "learner/store/ledger.h"
#include "tools/view/run_view.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

class RunViewTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = absl::StrCat(
        getenv("TEST_TMPDIR"), "/",
        ::testing::UnitTest::GetInstance()->current_test_info()->name());
    ASSERT_TRUE(MakeDirectories(directory_).ok());
    writer_ = *RunDb::OpenWriter(directory_ + "/run.db", &clock_);
    ASSERT_TRUE(writer_->StartRun({"trial", 1, "", "", ""}).ok());
    ledger_ = *Ledger::Create(writer_.get(), directory_ + "/segments");
    Publish(1, 0);
    db_ = *RunDb::OpenReader(directory_ + "/run.db");
  }

  void Publish(uint64_t version, int64_t step) {
    ASSERT_TRUE(writer_
                    ->RecordWeightVersion(
                        {version, 0, step, absl::StrCat("h", version), 1})
                    .ok());
  }

  // One evaluated episode of `task` in a group of its own.
  void Evaluate(uint64_t group, const std::string& task, bool correct,
                uint64_t version, Outcome outcome = OUTCOME_OK,
                int more_calls = 0) {
    group += kEvalGroupBase;
    ASSERT_TRUE(ledger_
                    ->IssueGroups({{group, PURPOSE_EVAL, task, std::nullopt, 1,
                                    std::nullopt}})
                    .ok());
    Trajectory trajectory = FixtureTrajectory(group, 0, 1, version);
    trajectory.set_purpose(PURPOSE_EVAL);
    trajectory.set_task_id(task);
    trajectory.mutable_verdict()->set_correct(correct);
    trajectory.set_outcome(outcome);
    for (int i = 0; i < more_calls; ++i) {
      *trajectory.add_tool_calls() = trajectory.tool_calls(0);
    }
    ASSERT_EQ(*ledger_->Commit(trajectory), CommitResult::kCommitted);
  }

  // Trains group `step` (two samples, rewards 0.75 and 0.25) as `step`, with
  // the advantages that advantage_norm std gives.
  void Train(int64_t step, std::vector<MetricValue> metrics) {
    const uint64_t group = static_cast<uint64_t>(step);
    ASSERT_TRUE(ledger_
                    ->IssueGroups({{group, PURPOSE_TRAIN, "task", step - 1, 2,
                                    std::nullopt}})
                    .ok());
    for (uint32_t sample : {0u, 1u}) {
      Trajectory trajectory = FixtureTrajectory(group, sample);
      if (sample == 1) {
        trajectory.set_reward(0.25);
        trajectory.mutable_reward_parts(0)->set_value(0.5);
      }
      ASSERT_EQ(*ledger_->Commit(trajectory), CommitResult::kCommitted);
    }
    ASSERT_TRUE(ledger_->Reserve(step, {group}).ok());
    StepRecord record;
    record.step = step;
    record.weight_version = 1;
    record.samples = {{group, 0}, {group, 1}};
    record.metrics = std::move(metrics);
    record.records = {{{group, 0}, 1, false, {-0.5f, -0.25f}},
                      {{group, 1}, -1, false, {-0.5f, -0.25f}}};
    ASSERT_TRUE(ledger_->CommitStep(record).ok());
  }

  FakeClock clock_;
  std::string directory_;
  std::unique_ptr<RunDb> writer_;
  std::unique_ptr<Ledger> ledger_;
  std::unique_ptr<RunDb> db_;
};

TEST_F(RunViewTest, WorkersAreThoseThatJoinedThisAttemptAndDidNotLeave) {
  const auto tell = [&](const char* worker, EventKind kind) {
    ASSERT_TRUE(writer_->RecordEvent(worker, kind, "").ok());
  };
  EXPECT_EQ(*CountWorkers(db_.get()), 0);
  tell("w0", EventKind::kWorkerJoined);
  tell("w1", EventKind::kWorkerJoined);
  tell("w1", EventKind::kWeightsLate);
  EXPECT_EQ(*CountWorkers(db_.get()), 2);
  tell("w0", EventKind::kWorkerLeft);
  EXPECT_EQ(*CountWorkers(db_.get()), 1);
  // The learner died and told of no more.
  ASSERT_TRUE(ledger_->Resume(1, 0).ok());
  EXPECT_EQ(*CountWorkers(db_.get()), 0);
}

TEST_F(RunViewTest, StepsShowTheirMetricsAndNullStaysUnmeasured) {
  Train(1, {{"reward/mean", 0.5},
            {"reward/std", 0.1},
            {"reward/math/mean", 0.75},
            {"kl", std::nullopt},
            {"time/step", 2.5}});
  Train(2, {});
  const auto steps = ReadSteps(db_.get(), 0);
  ASSERT_TRUE(steps.ok()) << steps.status();
  ASSERT_EQ(steps->size(), 2u);
  EXPECT_EQ((*steps)[0].Metric("reward/mean"), 0.5);
  EXPECT_EQ((*steps)[0].Metric("reward/math/mean"), 0.75);
  EXPECT_EQ((*steps)[0].metrics.count("kl"), 1u);
  EXPECT_FALSE((*steps)[0].Metric("kl").has_value());
  EXPECT_EQ((*steps)[0].seconds, 2.5);
  EXPECT_FALSE((*steps)[1].Metric("reward/mean").has_value());
  EXPECT_EQ(ReadSteps(db_.get(), 1)->size(), 1u);
}

TEST_F(RunViewTest, StepsThatAResumeUndidAreLeftOut) {
  Train(1, {});
  Train(2, {});
  ASSERT_TRUE(ledger_->Resume(1, 1).ok());
  const auto steps = ReadSteps(db_.get(), 0);
  ASSERT_EQ(steps->size(), 1u);
  EXPECT_EQ((*steps)[0].step, 1);
}

TEST_F(RunViewTest, EvaluationsAreCountedByTheWeightsThatSampledThem) {
  Evaluate(1, "a", false, 1);
  Evaluate(2, "b", true, 1);
  Publish(2, 10);
  Evaluate(3, "a", true, 2);
  Evaluate(4, "b", false, 2, OUTCOME_MODEL_ERROR);
  Evaluate(5, "c", false, 2, OUTCOME_TRUNCATED);
  const auto views = ReadEvaluations(db_.get());
  ASSERT_TRUE(views.ok()) << views.status();
  ASSERT_EQ(views->size(), 2u);
  EXPECT_EQ((*views)[0].step, 0);
  EXPECT_EQ((*views)[0].environment, "math");
  EXPECT_EQ((*views)[0].episodes, 2);
  EXPECT_EQ((*views)[0].correct, 1);
  EXPECT_EQ((*views)[0].well_formed, 2);
  EXPECT_EQ((*views)[1].step, 10);
  EXPECT_EQ((*views)[1].episodes, 3);
  EXPECT_EQ((*views)[1].correct, 1);
  EXPECT_EQ((*views)[1].well_formed, 1);
}

TEST_F(RunViewTest, BeforeAndAfterIsATaskThatWasLearnt) {
  EXPECT_FALSE(PickEpisodes(db_.get())->has_value());
  Evaluate(1, "always", true, 1);
  Evaluate(2, "learnt", false, 1);
  EXPECT_FALSE(PickEpisodes(db_.get())->has_value());
  Publish(2, 10);
  Evaluate(3, "always", true, 2);
  Evaluate(4, "learnt", true, 2);
  const auto picked = PickEpisodes(db_.get());
  ASSERT_TRUE(picked.ok() && picked->has_value()) << picked.status();
  const auto before = ReadEpisode(db_.get(), (*picked)->before);
  const auto after = ReadEpisode(db_.get(), (*picked)->after);
  ASSERT_TRUE(before.ok() && after.ok());
  EXPECT_EQ(before->task_id, "learnt");
  EXPECT_FALSE(before->correct);
  EXPECT_EQ(before->step, 0);
  EXPECT_EQ(after->task_id, "learnt");
  EXPECT_TRUE(after->correct);
  EXPECT_EQ(after->step, 10);
  EXPECT_EQ(after->outcome, "OK");
  ASSERT_EQ(after->turns.size(), 1u);
  EXPECT_EQ(after->turns[0].text, "answer");
}

TEST_F(RunViewTest, BeforeAndAfterHasTheMostToolCalls) {
  for (const char* task : {"a", "b", "c"}) {
    Evaluate(static_cast<uint64_t>(task[0]), task, false, 1);
  }
  Publish(2, 10);
  for (const char* task : {"a", "b", "c"}) {
    Evaluate(static_cast<uint64_t>(task[0]) + 10, task, true, 2, OUTCOME_OK,
             /*more_calls=*/task[0] == 'b');
  }
  const auto picked = PickEpisodes(db_.get());
  ASSERT_TRUE(picked.ok() && picked->has_value()) << picked.status();
  EXPECT_EQ(ReadEpisode(db_.get(), (*picked)->after)->task_id, "b");
}

TEST_F(RunViewTest, GroupShowsTheAdvantagesItWasTrainedWith) {
  Train(1, {});
  const auto group = ReadGroup(db_.get(), 1);
  ASSERT_TRUE(group.ok()) << group.status();
  ASSERT_EQ(group->samples.size(), 2u);
  EXPECT_EQ(group->samples[0].state, "trained");
  EXPECT_EQ(group->samples[0].step, 1);
  EXPECT_EQ(group->samples[0].advantage, 1);
  EXPECT_EQ(group->samples[1].advantage, -1);
  EXPECT_EQ(ReadGroup(db_.get(), 9).status(),
            absl::NotFoundError("no group 9; those that train are 1 to 1"));
}

TEST_F(RunViewTest, AGroupNotTrainedShowsNoAdvantage) {
  ASSERT_TRUE(
      ledger_->IssueGroups({{1, PURPOSE_TRAIN, "task", 0, 2, std::nullopt}})
          .ok());
  ASSERT_EQ(*ledger_->Commit(FixtureTrajectory(1, 0)),
            CommitResult::kCommitted);
  const auto group = ReadGroup(db_.get(), 1);
  ASSERT_TRUE(group.ok()) << group.status();
  EXPECT_EQ(group->samples[1].state, "issued");
  EXPECT_FALSE(group->samples[1].reward.has_value());
  EXPECT_FALSE(group->samples[0].advantage.has_value());
}

TEST_F(RunViewTest, WaitsEventsAndStatesAreReadBack) {
  ASSERT_TRUE(
      writer_->RecordWaits("w0", {{"lease", 10, 100}, {"weights", 50, 60}})
          .ok());
  ASSERT_TRUE(writer_->RecordEvent("learner", EventKind::kResumed, "1").ok());
  ASSERT_TRUE(
      writer_->RecordEvent("learner", EventKind::kWeightsLate, "2").ok());
  Train(1, {});
  const auto waits = ReadWaits(db_.get());
  ASSERT_EQ(waits->size(), 2u);
  EXPECT_EQ((*waits)[0].name, "weights");
  const auto events = ReadEvents(db_.get(), 1);
  ASSERT_EQ(events->size(), 1u);
  EXPECT_EQ((*events)[0].kind, "weights_late");
}

TEST_F(RunViewTest, SamplesThatTrainAreCountedApartFromThoseOfEvaluations) {
  Train(1, {});
  Evaluate(1, "task", true, 1);
  const std::vector<std::pair<std::string, int64_t>> trained = {{"trained", 2}};
  const std::vector<std::pair<std::string, int64_t>> evaluated = {
      {"received", 1}};
  EXPECT_EQ(*CountStates(db_.get(), PURPOSE_TRAIN), trained);
  EXPECT_EQ(*CountStates(db_.get(), PURPOSE_EVAL), evaluated);
}

TEST_F(RunViewTest, RunIsBeingWrittenWhileItsWriterLives) {
  const std::string path = directory_ + "/run.db";
  EXPECT_TRUE(IsBeingWritten(path));
  ledger_.reset();
  writer_.reset();
  EXPECT_FALSE(IsBeingWritten(path));
}

TEST_F(RunViewTest, CheckpointStepIsTheNewestThatNoResumeUndid) {
  EXPECT_EQ(*ReadCheckpointStep(db_.get()), 0);
  for (int64_t step = 1; step <= 3; ++step) Train(step, {});
  ASSERT_TRUE(writer_->RecordCheckpoint(1, "one").ok());
  ASSERT_TRUE(writer_->RecordCheckpoint(3, "three").ok());
  EXPECT_EQ(*ReadCheckpointStep(db_.get()), 3);
  ASSERT_TRUE(ledger_->Resume(1, 1).ok());
  EXPECT_EQ(*ReadCheckpointStep(db_.get()), 1);
}

TEST_F(RunViewTest, RunIsFoundByDirectoryFileOrName) {
  const std::string parent = ParentOf(directory_);
  const std::string name = directory_.substr(parent.size() + 1);
  const std::string path = directory_ + "/run.db";
  EXPECT_EQ(*FindRunDb(directory_, "x"), path);
  EXPECT_EQ(*FindRunDb(path, "x"), path);
  EXPECT_EQ(*FindRunDb(name, parent), path);
  EXPECT_THAT(std::string(FindRunDb("none", parent).status().message()),
              HasSubstr("none/run.db"));
  const absl::Status absolute = FindRunDb("/no/run", parent).status();
  EXPECT_EQ(absolute.message(),
            "no run at /no/run/run.db; name a run directory, or a run below "
            "--runs-dir");
}

TEST_F(RunViewTest, AnotherFileIsNoRun) {
  const std::string other = directory_ + "/notes.txt";
  const std::string false_db = directory_ + "/false_run.db";
  ASSERT_TRUE(WriteFileDurably(other, "notes").ok());
  ASSERT_TRUE(WriteFileDurably(false_db, std::string(4096, 'x')).ok());
  const absl::Status named = FindRunDb(other, "x").status();
  EXPECT_EQ(named.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(named.message()),
              HasSubstr("notes.txt is no run.db; name a run directory"));
  const absl::Status opened = OpenRunDb(false_db).status();
  EXPECT_EQ(opened.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(opened.message()),
              HasSubstr("; name a run directory"));
}

TEST_F(RunViewTest, UnknownEpisodeNamesThoseThereAre) {
  Train(1, {});
  EXPECT_THAT(std::string(ReadEpisode(db_.get(), 7).status().message()),
              HasSubstr("there are 1 to 2"));
}

TEST_F(RunViewTest, AFailedTaskIsToldOnceByItsFirstReason) {
  for (const auto& [id, reason] :
       {std::pair("ds: 1", "first: of 1"), std::pair("ds: 2", "no"),
        std::pair("ds: 1", "again")}) {
    ASSERT_TRUE(writer_->RecordTaskFailure(id, "math", reason).ok());
  }
  const auto all = ReadFailedTasks(db_.get());
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_EQ(all->size(), 2u);
  EXPECT_EQ((*all)[0].task_id, "ds: 1");
  EXPECT_EQ((*all)[0].environment, "math");
  EXPECT_EQ((*all)[0].reason, "first: of 1");
  EXPECT_EQ((*all)[1].task_id, "ds: 2");
  EXPECT_EQ(ReadNewFailedTasks(db_.get(), 0, 0)->size(), 2u);
  EXPECT_EQ(ReadNewFailedTasks(db_.get(), 0, (*all)[0].id)->size(), 1u);
  EXPECT_EQ(ReadNewFailedTasks(db_.get(), 1, 0)->size(), 0u);
}

}  // namespace
}  // namespace temper
