#include "learner/evaluation.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "learner/intake/trajectory_fixture.h"
#include "learner/store/run_db_fixture.h"

namespace temper {
namespace {

using testing::ElementsAre;

// A run with six held-out tasks, three of them evaluated in each environment,
// and a worker that delivers one episode whenever the evaluation asks whether
// it is to stop; the first `failures_` of them failed.
class EvaluationTest : public RunDbFixture {
 protected:
  void SetUp() override {
    RunDbFixture::SetUp();
    RecordVersion(1, 0);
    Open();
  }

  // What a learner opens when it starts or resumes.
  void Open() {
    std::vector<Task> tasks;
    for (int i = 0; i < 8; ++i) {
      Task& task = tasks.emplace_back();
      task.set_id(absl::StrCat("t", i));
      task.set_environment(i % 2 == 0 ? "math" : "interpreter");
      task.set_split("heldout");
    }
    queue_ = *TaskQueue::Create(tasks, {1, 2}, ledger_.get());
    buffer_ =
        *TrajectoryBuffer::Create(*TrajectoryDoor::Create(FixtureLimits()),
                                  db_.get(), ledger_.get(), queue_.get(), {});
    context_ = {db_.get(), &clock_, [this] { return !Deliver(); }};
    evaluation_ = std::make_unique<Evaluation>(EvaluationOptions{3, 1000},
                                               context_, ledger_.get(),
                                               queue_.get(), buffer_.get());
  }

  // False once the worker has delivered all that it may.
  bool Deliver() {
    if (deliveries_ == 0) return false;
    --deliveries_;
    const auto lease = *queue_->Acquire(1);
    if (!lease.has_value()) return false;
    sampled_.push_back(lease->task.id());
    const bool fails = failures_ > 0;
    if (fails) --failures_;
    const uint32_t sample = lease->samples[0];
    Trajectory trajectory =
        fails ? FixtureFailure(lease->group, sample, lease->lease)
              : FixtureTrajectory(lease->group, sample, lease->lease);
    trajectory.set_purpose(PURPOSE_EVAL);
    trajectory.set_task_id(lease->task.id());
    trajectory.set_environment(lease->task.environment());
    EXPECT_TRUE(
        buffer_->Receive(trajectory.key(), trajectory.SerializeAsString())
            .ok());
    return true;
  }

  // Runs the evaluation of step 0 while the worker delivers `deliveries`.
  bool Run(int deliveries) {
    deliveries_ = deliveries;
    const auto finished = evaluation_->Run(0);
    EXPECT_TRUE(finished.ok()) << finished.status();
    return finished.value_or(false);
  }

  // "environment episodes" as readers of run.db count them, then the metrics.
  std::vector<std::string> Counted() {
    auto transaction = *db_->sqlite()->Begin();
    std::vector<std::string> lines;
    for (const char* sql :
         {"SELECT environment, count(*) FROM lineage_episode "
          "WHERE purpose = 2 AND reward IS NOT NULL GROUP BY 1 ORDER BY 1",
          "SELECT name, value FROM lineage_metric WHERE step = 0 AND "
          "(name LIKE '%episodes' OR name = 'eval/dropped') ORDER BY name"}) {
      const auto rows = *transaction->Query(sql);
      for (const SqlRow& row : rows) {
        lines.push_back(absl::StrCat(row[0].AsString(), " ",
                                     static_cast<int>(row[1].AsDouble())));
      }
    }
    return lines;
  }
  void ExpectEachTaskCountedOnce() {
    EXPECT_THAT(
        Counted(),
        ElementsAre("interpreter 3", "math 3", "eval/dropped 0",
                    "eval/interpreter/episodes 3", "eval/math/episodes 3"));
    EXPECT_TRUE(ledger_->Audit().ok());
  }
  void Resume() {
    ASSERT_TRUE(ledger_->Resume(1, 0).ok());
    Open();
  }

  std::unique_ptr<TaskQueue> queue_;
  std::unique_ptr<TrajectoryBuffer> buffer_;
  WaitContext context_;
  std::unique_ptr<Evaluation> evaluation_;
  int deliveries_ = 0;
  int failures_ = 0;
  std::vector<std::string> sampled_;
};

TEST_F(EvaluationTest, TheFirstTasksOfEachEnvironmentAreCounted) {
  EXPECT_TRUE(Run(100));
  EXPECT_THAT(sampled_, ElementsAre("t0", "t1", "t2", "t3", "t4", "t5"));
  ExpectEachTaskCountedOnce();
}

TEST_F(EvaluationTest, OneCutShortGoesOnWithWhatItHad) {
  EXPECT_FALSE(Run(4));
  EXPECT_TRUE(*evaluation_->IsUnfinished(0));
  Resume();
  EXPECT_TRUE(*evaluation_->IsUnfinished(0));
  EXPECT_FALSE(Run(1));  // and cut short again
  Resume();
  EXPECT_TRUE(Run(100));
  EXPECT_FALSE(*evaluation_->IsUnfinished(0));
  EXPECT_THAT(sampled_, ElementsAre("t0", "t1", "t2", "t3", "t4", "t5"));
  ExpectEachTaskCountedOnce();
}

TEST_F(EvaluationTest, AWholeOneIsNotRepeatedAfterAResume) {
  EXPECT_TRUE(Run(100));
  Resume();
  EXPECT_TRUE(*evaluation_->IsDone(0));
  EXPECT_TRUE(Run(100));
  EXPECT_EQ(sampled_.size(), 6u);
  ExpectEachTaskCountedOnce();
}

TEST_F(EvaluationTest, AllReceivedButNotYetRecordedIsOnlyRecorded) {
  EXPECT_FALSE(Run(6 - 1));
  deliveries_ = 1;
  ASSERT_TRUE(Deliver());  // the last came, and the learner died
  Resume();
  EXPECT_TRUE(Run(0));
  EXPECT_EQ(sampled_.size(), 6u);
  ExpectEachTaskCountedOnce();
}

TEST_F(EvaluationTest, WhileItWaitsStatusCanShowIt) {
  std::vector<std::string> seen;
  context_.stop = [this, &seen] {
    clock_.AdvanceMicros(600'000);
    auto transaction = *db_->sqlite()->Begin();
    const auto rows = *transaction->Query(
        "SELECT process, name, elapsed_ms, deadline_ms FROM wait");
    for (const SqlRow& row : rows) {
      seen.push_back(absl::StrCat(row[0].AsString(), ": ", row[1].AsString(),
                                  " ", row[2].AsInt(), "/", row[3].AsInt()));
    }
    return !seen.empty();
  };
  EXPECT_FALSE(*evaluation_->Run(0));
  EXPECT_THAT(seen, ElementsAre("learner: evaluation of step 0 600/1000"));
}

TEST_F(EvaluationTest, SilenceEndsItWithItsDeadline) {
  context_.stop = [this] {
    clock_.AdvanceMicros(1'000'001);
    return false;
  };
  const auto finished = evaluation_->Run(0);
  EXPECT_EQ(finished.status().code(), absl::StatusCode::kDeadlineExceeded);
}

// One environment's calls may hang until their limit, each in all its tries.
TEST_F(EvaluationTest, FailuresAreNoSilence) {
  context_.stop = [this] {
    clock_.AdvanceMicros(900'000);
    return !Deliver();
  };
  failures_ = 2;  // the third try of the first task comes whole
  EXPECT_TRUE(Run(100));
  EXPECT_THAT(sampled_,
              ElementsAre("t0", "t0", "t0", "t1", "t2", "t3", "t4", "t5"));
  ExpectEachTaskCountedOnce();
}

}  // namespace
}  // namespace temper
