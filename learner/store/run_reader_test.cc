#include "learner/store/run_reader.h"

#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "learner/intake/trajectory_fixture.h"
#include "learner/store/run_db_fixture.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

class RunReaderTest : public RunDbFixture {
 protected:
  void SetUp() override {
    RunDbFixture::SetUp();
    RecordVersion(1, 0);
    auto reader = RunDb::OpenReader(directory_ + "/run.db");
    ASSERT_TRUE(reader.ok()) << reader.status();
    reader_ = *std::move(reader);
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

  std::unique_ptr<RunDb> reader_;
};

TEST_F(RunReaderTest, WorkersAreThoseThatJoinedThisAttemptAndDidNotLeave) {
  const auto tell = [&](const char* worker, EventKind kind) {
    ASSERT_TRUE(db_->RecordEvent(worker, kind, "").ok());
  };
  EXPECT_EQ(*CountWorkers(reader_.get()), 0);
  tell("w0", EventKind::kWorkerJoined);
  tell("w1", EventKind::kWorkerJoined);
  tell("w1", EventKind::kWeightsLate);
  EXPECT_EQ(*CountWorkers(reader_.get()), 2);
  tell("w0", EventKind::kWorkerLeft);
  EXPECT_EQ(*CountWorkers(reader_.get()), 1);
  // The learner died and told of no more.
  ASSERT_TRUE(ledger_->Resume(1, 0).ok());
  EXPECT_EQ(*CountWorkers(reader_.get()), 0);
}

TEST_F(RunReaderTest, CallsAreCountedByEnvironmentAndKindWithTheirTimes) {
  EXPECT_TRUE(ReadCalls(reader_.get())->empty());
  ASSERT_TRUE(
      ledger_->IssueGroups({{1, PURPOSE_TRAIN, "task", 0, 200, std::nullopt}})
          .ok());
  for (uint32_t sample = 0; sample < 200; ++sample) {
    Trajectory trajectory = FixtureTrajectory(1, sample);
    trajectory.clear_environment_calls();
    EnvironmentCall* reset = trajectory.add_environment_calls();
    reset->set_kind(ENVIRONMENT_CALL_RESET);
    reset->set_wait_us(7);
    // 1 to 200, in another order.
    EnvironmentCall* step = trajectory.add_environment_calls();
    step->set_kind(ENVIRONMENT_CALL_STEP);
    step->set_wait_us(200 - sample);
    step->set_run_us(1000 * (1 + sample * 77 % 200));
    ASSERT_EQ(*ledger_->Commit(trajectory), CommitResult::kCommitted);
  }
  const auto calls = ReadCalls(reader_.get());
  ASSERT_TRUE(calls.ok()) << calls.status();
  ASSERT_EQ(calls->size(), 2u);
  EXPECT_EQ((*calls)[0].kind, "RESET");
  EXPECT_EQ((*calls)[0].wait.p50_us, 7);
  const CallView& steps = (*calls)[1];
  EXPECT_EQ(steps.environment, "math");
  EXPECT_EQ(steps.kind, "STEP");
  EXPECT_EQ(steps.calls, 200);
  EXPECT_EQ(steps.wait.p50_us, 100);
  EXPECT_EQ(steps.wait.p99_us, 198);
  EXPECT_EQ(steps.wait.max_us, 200);
  EXPECT_EQ(steps.run.p50_us, 100'000);
  EXPECT_EQ(steps.run.p99_us, 198'000);
  EXPECT_EQ(steps.run.max_us, 200'000);
}

TEST_F(RunReaderTest, StepsShowTheirMetricsAndNullStaysUnmeasured) {
  Train(1, {{"reward/mean", 0.5},
            {"reward/std", 0.1},
            {"reward/math/mean", 0.75},
            {"kl", std::nullopt},
            {"time/step", 2.5}});
  Train(2, {});
  const auto steps = ReadSteps(reader_.get(), 0);
  ASSERT_TRUE(steps.ok()) << steps.status();
  ASSERT_EQ(steps->size(), 2u);
  EXPECT_EQ((*steps)[0].Metric("reward/mean"), 0.5);
  EXPECT_EQ((*steps)[0].Metric("reward/math/mean"), 0.75);
  EXPECT_EQ((*steps)[0].metrics.count("kl"), 1u);
  EXPECT_FALSE((*steps)[0].Metric("kl").has_value());
  EXPECT_EQ((*steps)[0].seconds, 2.5);
  EXPECT_FALSE((*steps)[1].Metric("reward/mean").has_value());
  EXPECT_EQ(ReadSteps(reader_.get(), 1)->size(), 1u);
}

TEST_F(RunReaderTest, StepsThatAResumeUndidAreLeftOut) {
  Train(1, {});
  Train(2, {});
  ASSERT_TRUE(ledger_->Resume(1, 1).ok());
  const auto steps = ReadSteps(reader_.get(), 0);
  ASSERT_EQ(steps->size(), 1u);
  EXPECT_EQ((*steps)[0].step, 1);
}

TEST_F(RunReaderTest, EvaluationsAreCountedByTheWeightsThatSampledThem) {
  Evaluate(1, "a", false, 1);
  Evaluate(2, "b", true, 1);
  RecordVersion(2, 10);
  Evaluate(3, "a", true, 2);
  Evaluate(4, "b", false, 2, OUTCOME_MODEL_ERROR);
  Evaluate(5, "c", false, 2, OUTCOME_TRUNCATED);
  const auto views = ReadEvaluations(reader_.get());
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

TEST_F(RunReaderTest, BeforeAndAfterIsATaskThatWasLearnt) {
  EXPECT_FALSE(PickEpisodes(reader_.get())->has_value());
  Evaluate(1, "always", true, 1);
  Evaluate(2, "learnt", false, 1);
  EXPECT_FALSE(PickEpisodes(reader_.get())->has_value());
  RecordVersion(2, 10);
  Evaluate(3, "always", true, 2);
  Evaluate(4, "learnt", true, 2);
  const auto picked = PickEpisodes(reader_.get());
  ASSERT_TRUE(picked.ok() && picked->has_value()) << picked.status();
  const auto before = ReadEpisode(reader_.get(), (*picked)->before);
  const auto after = ReadEpisode(reader_.get(), (*picked)->after);
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

TEST_F(RunReaderTest, BeforeAndAfterHasTheMostToolCalls) {
  for (const char* task : {"a", "b", "c"}) {
    Evaluate(static_cast<uint64_t>(task[0]), task, false, 1);
  }
  RecordVersion(2, 10);
  for (const char* task : {"a", "b", "c"}) {
    Evaluate(static_cast<uint64_t>(task[0]) + 10, task, true, 2, OUTCOME_OK,
             /*more_calls=*/task[0] == 'b');
  }
  const auto picked = PickEpisodes(reader_.get());
  ASSERT_TRUE(picked.ok() && picked->has_value()) << picked.status();
  EXPECT_EQ(ReadEpisode(reader_.get(), (*picked)->after)->task_id, "b");
}

TEST_F(RunReaderTest, GroupShowsTheAdvantagesItWasTrainedWith) {
  Train(1, {});
  const auto group = ReadGroup(reader_.get(), 1);
  ASSERT_TRUE(group.ok()) << group.status();
  ASSERT_EQ(group->samples.size(), 2u);
  EXPECT_EQ(group->samples[0].state, "trained");
  EXPECT_EQ(group->samples[0].step, 1);
  EXPECT_EQ(group->samples[0].advantage, 1);
  EXPECT_EQ(group->samples[1].advantage, -1);
  EXPECT_EQ(ReadGroup(reader_.get(), 9).status(),
            absl::NotFoundError("no group 9; those that train are 1 to 1"));
}

TEST_F(RunReaderTest, AGroupNotTrainedShowsNoAdvantage) {
  ASSERT_TRUE(
      ledger_->IssueGroups({{1, PURPOSE_TRAIN, "task", 0, 2, std::nullopt}})
          .ok());
  ASSERT_EQ(*ledger_->Commit(FixtureTrajectory(1, 0)),
            CommitResult::kCommitted);
  const auto group = ReadGroup(reader_.get(), 1);
  ASSERT_TRUE(group.ok()) << group.status();
  EXPECT_EQ(group->samples[1].state, "issued");
  EXPECT_FALSE(group->samples[1].reward.has_value());
  EXPECT_FALSE(group->samples[0].advantage.has_value());
}

TEST_F(RunReaderTest, WaitsEventsAndStatesAreReadBack) {
  ASSERT_TRUE(
      db_->RecordWaits("w0", {{"lease", 10, 100}, {"weights", 50, 60}}).ok());
  ASSERT_TRUE(db_->RecordEvent("learner", EventKind::kResumed, "1").ok());
  ASSERT_TRUE(db_->RecordEvent("learner", EventKind::kWeightsLate, "2").ok());
  Train(1, {});
  const auto waits = ReadWaits(reader_.get());
  ASSERT_EQ(waits->size(), 2u);
  EXPECT_EQ((*waits)[0].name, "weights");
  const auto events = ReadEvents(reader_.get(), 1);
  ASSERT_EQ(events->size(), 1u);
  EXPECT_EQ((*events)[0].kind, "weights_late");
}

TEST_F(RunReaderTest, SamplesThatTrainAreCountedApartFromThoseOfEvaluations) {
  Train(1, {});
  Evaluate(1, "task", true, 1);
  const std::vector<std::pair<std::string, int64_t>> trained = {{"trained", 2}};
  const std::vector<std::pair<std::string, int64_t>> evaluated = {
      {"received", 1}};
  EXPECT_EQ(*CountStates(reader_.get(), PURPOSE_TRAIN), trained);
  EXPECT_EQ(*CountStates(reader_.get(), PURPOSE_EVAL), evaluated);
}

TEST_F(RunReaderTest, CheckpointStepIsTheNewestThatNoResumeUndid) {
  EXPECT_EQ(*ReadCheckpointStep(reader_.get()), 0);
  for (int64_t step = 1; step <= 3; ++step) Train(step, {});
  ASSERT_TRUE(db_->RecordCheckpoint(1, "one").ok());
  ASSERT_TRUE(db_->RecordCheckpoint(3, "three").ok());
  EXPECT_EQ(*ReadCheckpointStep(reader_.get()), 3);
  ASSERT_TRUE(ledger_->Resume(1, 1).ok());
  EXPECT_EQ(*ReadCheckpointStep(reader_.get()), 1);
}

TEST_F(RunReaderTest, UnknownEpisodeNamesThoseThereAre) {
  Train(1, {});
  EXPECT_THAT(std::string(ReadEpisode(reader_.get(), 7).status().message()),
              HasSubstr("there are 1 to 2"));
}

TEST_F(RunReaderTest, AFailedTaskIsToldOnceByItsFirstReason) {
  for (const auto& [id, reason] :
       {std::pair("ds: 1", "first: of 1"), std::pair("ds: 2", "no"),
        std::pair("ds: 1", "again")}) {
    ASSERT_TRUE(db_->RecordTaskFailure(id, "math", reason).ok());
  }
  const auto all = ReadFailedTasks(reader_.get());
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_EQ(all->size(), 2u);
  EXPECT_EQ((*all)[0].task_id, "ds: 1");
  EXPECT_EQ((*all)[0].environment, "math");
  EXPECT_EQ((*all)[0].reason, "first: of 1");
  EXPECT_EQ((*all)[1].task_id, "ds: 2");
  EXPECT_EQ(ReadNewFailedTasks(reader_.get(), 0, 0)->size(), 2u);
  EXPECT_EQ(ReadNewFailedTasks(reader_.get(), 0, (*all)[0].id)->size(), 1u);
  EXPECT_EQ(ReadNewFailedTasks(reader_.get(), 1, 0)->size(), 0u);
}

}  // namespace
}  // namespace temper
