#include "learner/intake/trajectory_buffer.h"

#include <optional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "learner/intake/trajectory_fixture.h"
#include "learner/store/run_db_fixture.h"
#include "learner/store/sqlite.h"

namespace temper {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Result = Receipt::Result;

class TrajectoryBufferTest : public RunDbFixture {
 protected:
  void SetUp() override {
    RunDbFixture::SetUp();
    RecordVersion(1, 0);
    Open();
  }

  // (Re)opens everything over the same files, as a restarted learner does.
  void Open() {
    buffer_.reset();
    options_.task_failed = [this](const Task& task, const std::string& reason) {
      told_.emplace_back(task.id(), reason);
    };
    queue_.reset();
    OpenRun();
    std::vector<Task> tasks;
    for (int i = 0; i < 5; ++i) {
      Task& task = tasks.emplace_back();
      task.set_id("t" + std::to_string(i));
      task.set_environment("math");
      task.set_split(i < 4 ? "train" : "heldout");
    }
    queue_ = *TaskQueue::Create(tasks, {1, 2}, ledger_.get());
    buffer_ = *TrajectoryBuffer::Create(
        *TrajectoryDoor::Create(FixtureLimits()), db_.get(), ledger_.get(),
        queue_.get(), options_);
  }

  // Receives it as one of its group's task, where that is open.
  Receipt Receive(Trajectory trajectory) {
    const Task* const task = queue_->TaskOf(trajectory.key().group());
    if (task != nullptr) trajectory.set_task_id(task->id());
    return ReceiveAsIs(trajectory);
  }

  absl::StatusOr<Receipt> Send(const Trajectory& trajectory) {
    return buffer_->Receive(trajectory.key(), trajectory.SerializeAsString());
  }

  Receipt ReceiveAsIs(const Trajectory& trajectory) {
    auto receipt = Send(trajectory);
    EXPECT_TRUE(receipt.ok()) << receipt.status();
    return receipt.ok() ? *receipt : Receipt();
  }

  void ReceiveGroup(uint64_t group, uint64_t version = 1) {
    for (uint32_t sample : {1u, 0u}) {
      EXPECT_EQ(Receive(FixtureTrajectory(group, sample, 1, version)).result,
                Result::kCommitted);
    }
  }

  // The lowest open group gets no reward, as often as it is tried.
  void FailGroup() {
    const QueueLease first = **queue_->Acquire(2);
    for (uint64_t lease : {1, 2, 3}) {
      Receive(FixtureFailure(first.group, first.samples[0], lease));
    }
  }

  // From now on no episode can be recorded.
  void SpoilLedger(const std::string& why) {
    const auto db = Sqlite::Open(directory_ + "/run.db", Sqlite::Mode::kWriter);
    ASSERT_TRUE(db.ok()) << db.status();
    ASSERT_TRUE((*db)
                    ->Execute("CREATE TRIGGER spoil BEFORE INSERT ON episode "
                              "BEGIN SELECT RAISE(FAIL, '" +
                              why + "'); END")
                    .ok());
  }

  void ExpectAudited() {
    const absl::Status status = ledger_->Audit();
    EXPECT_TRUE(status.ok()) << status;
  }

  TrajectoryBufferOptions options_;
  std::vector<std::pair<std::string, std::string>> told_;  // task id, reason
  std::unique_ptr<TaskQueue> queue_;
  std::unique_ptr<TrajectoryBuffer> buffer_;
};

TEST_F(TrajectoryBufferTest, WholeGroupsLeaveByGroupAndSampleNotByArrival) {
  ASSERT_TRUE(queue_->IssueTrain(3).ok());
  ReceiveGroup(3);
  ReceiveGroup(1);
  Receive(FixtureTrajectory(2, 1));
  EXPECT_FALSE((*buffer_->Take(1, 3)).has_value());
  Receive(FixtureTrajectory(2, 0));
  auto batch = *buffer_->Take(1, 3);
  ASSERT_TRUE(batch.has_value());
  EXPECT_THAT(batch->groups, ElementsAre(1, 2, 3));
  std::vector<std::pair<uint64_t, uint32_t>> order;
  for (const Episode& e : batch->episodes)
    order.emplace_back(e.group, e.sample);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_EQ(order.size(), 6u);
  EXPECT_EQ(StateOf({2, 1}), "reserved");
  EXPECT_FALSE(buffer_->Take(1, 1)->has_value());
  ExpectAudited();
}

TEST_F(TrajectoryBufferTest, ACopyIsADuplicateAndAStrangerIsRejected) {
  ASSERT_TRUE(queue_->IssueTrain(1).ok());
  ReceiveGroup(1);
  EXPECT_EQ(Receive(FixtureTrajectory(1, 0, 9)).result, Result::kDuplicate);
  EXPECT_EQ(Receive(FixtureTrajectory(7, 0)).result, Result::kRejected);
  EXPECT_TRUE((*buffer_->Take(1, 1)).has_value());
}

TEST_F(TrajectoryBufferTest, ThreeFailuresDropTheGroupAndANewOneStandsIn) {
  ASSERT_TRUE(queue_->IssueTrain(1).ok());
  const QueueLease first = **queue_->Acquire(2);
  Receive(FixtureTrajectory(1, 1, first.lease));
  uint64_t lease = first.lease;
  for (int failure = 1; failure <= 2; ++failure) {
    EXPECT_EQ(Receive(FixtureFailure(1, 0, lease)).result, Result::kCommitted);
    auto again = *queue_->Acquire(2);
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ(again->group, 1u);
    EXPECT_THAT(again->samples, ElementsAre(0));
    EXPECT_NE(again->lease, lease);
    lease = again->lease;
  }
  Receive(FixtureFailure(1, 0, lease));
  EXPECT_EQ(buffer_->counts().dropped_infrastructure, 1);
  EXPECT_EQ(StateOf({1, 1}), "dropped");
  auto replacement = *queue_->Acquire(2);
  ASSERT_TRUE(replacement.has_value());
  EXPECT_EQ(replacement->group, 2u);
  EXPECT_EQ(replacement->task.id(), first.task.id());
  EXPECT_THAT(replacement->samples, ElementsAre(0, 1));
  ReceiveGroup(2);
  EXPECT_TRUE((*buffer_->Take(1, 1)).has_value());
  ExpectAudited();
}

TEST_F(TrajectoryBufferTest, AnInvalidTrajectoryDropsItsGroupWithTheReason) {
  ASSERT_TRUE(queue_->IssueTrain(1).ok());
  Trajectory bad = FixtureTrajectory(1, 0);
  bad.mutable_branches(0)->clear_routes();
  Receipt receipt = Receive(bad);
  EXPECT_EQ(receipt.result, Result::kRejected);
  EXPECT_THAT(receipt.reason, HasSubstr("routes are missing"));
  EXPECT_EQ((*queue_->Acquire(2))->group, 2u);
  EXPECT_EQ(StateOf({1, 0}), "rejected");
  EXPECT_EQ(StateOf({1, 1}), "dropped");
  EXPECT_EQ(Receive(FixtureTrajectory(1, 1)).result, Result::kDuplicate);
  bad.mutable_key()->set_group(2);
  bad.mutable_key()->set_run("other");
  Receive(bad);
  EXPECT_EQ(StateOf({2, 0}), "issued");
  ExpectAudited();
}

// What does not parse, or names another sample than its header: the header's is
// the one that was leased, and goes.
TEST_F(TrajectoryBufferTest, WhatIsNoTrajectoryOfItsKeyIsRefusedAsTheKeys) {
  ASSERT_TRUE(queue_->IssueTrain(1).ok());
  ASSERT_TRUE((*queue_->Acquire(2)).has_value());
  const Trajectory good = FixtureTrajectory(1, 0);
  TrajectoryKey other = good.key();
  other.set_sample(1);
  auto receipt = buffer_->Receive(other, good.SerializeAsString());
  ASSERT_TRUE(receipt.ok()) << receipt.status();
  EXPECT_EQ(receipt->result, Result::kRejected);
  EXPECT_THAT(receipt->reason, HasSubstr("not that of its header"));
  EXPECT_EQ(StateOf({1, 1}), "rejected");
  EXPECT_EQ(StateOf({1, 0}), "dropped");
  EXPECT_EQ((*queue_->Acquire(2))->group, 2u);
  // Of no sample that is wanted: nothing is harmed, and no number is used up.
  for (const auto& [group, run] :
       {std::pair(1u, "trial"), {2u, "other"}, {99u, "trial"}}) {
    other.set_group(group);
    other.set_run(run);
    receipt = buffer_->Receive(other, "\xff");
    ASSERT_TRUE(receipt.ok()) << receipt.status();
    EXPECT_EQ(receipt->result, Result::kRejected);
    EXPECT_THAT(receipt->reason, HasSubstr("does not parse"));
  }
  EXPECT_EQ(StateOf({2, 1}), "issued");
  EXPECT_EQ(queue_->MakeReplacement(2)->group, 3u);
  ExpectAudited();
}

TEST_F(TrajectoryBufferTest, ATrajectoryOfAnotherTaskIsRejectedWithTheReason) {
  using Spoil = void (*)(Trajectory*);
  const std::pair<const char*, Spoil> cases[] = {
      {"task_id is \"other\"", [](Trajectory* t) { t->set_task_id("other"); }},
      {"environment is \"interpreter\"",
       [](Trajectory* t) { t->set_environment("interpreter"); }},
      {"domain is \"chess\"", [](Trajectory* t) { t->set_domain("chess"); }},
  };
  for (const auto& [reason, spoil] : cases) {
    ASSERT_TRUE(queue_->IssueTrain(1).ok());
    const QueueLease lease = **queue_->Acquire(2);
    Trajectory wrong = FixtureTrajectory(lease.group, 0, lease.lease);
    wrong.set_task_id(lease.task.id());
    spoil(&wrong);
    const Receipt receipt = ReceiveAsIs(wrong);
    EXPECT_EQ(receipt.result, Result::kRejected);
    EXPECT_THAT(receipt.reason, HasSubstr(reason));
    EXPECT_EQ(StateOf({lease.group, 0}), "rejected");
  }
  ExpectAudited();
}

TEST_F(TrajectoryBufferTest, ATrajectoryOfAnotherPurposeLeavesNoSampleOut) {
  ASSERT_TRUE(queue_->IssueTrain(1).ok());
  ASSERT_TRUE((*queue_->Acquire(2)).has_value());
  Trajectory wrong = FixtureTrajectory(1, 0);
  wrong.set_purpose(PURPOSE_EVAL);
  Receipt receipt = Receive(wrong);
  EXPECT_EQ(receipt.result, Result::kRejected);
  EXPECT_THAT(receipt.reason, HasSubstr("purpose is PURPOSE_EVAL, that of "
                                        "group 1 is PURPOSE_TRAIN"));
  EXPECT_EQ(StateOf({1, 0}), "rejected");
  EXPECT_EQ(queue_->LeaseOf(1, 0), std::nullopt);
  EXPECT_EQ(queue_->LeaseOf(1, 1), std::nullopt);
  EXPECT_EQ((*queue_->Acquire(2))->group, 2u) << "one stands in";
  const uint64_t group = queue_->IssueEval({"t4"}, 1)->front();
  ASSERT_TRUE((*queue_->Acquire(2)).has_value());
  receipt = Receive(FixtureTrajectory(group, 0));
  EXPECT_EQ(receipt.result, Result::kRejected);
  EXPECT_THAT(receipt.reason, HasSubstr("purpose is PURPOSE_TRAIN"));
  auto batch = *buffer_->TakeEval({group});
  ASSERT_TRUE(batch.has_value()) << "the evaluation would wait for ever";
  EXPECT_EQ(batch->groups_dropped, 1);
  // Of a sample that is settled: the answer is right, and changes nothing.
  EXPECT_THAT(Receive(wrong).reason, HasSubstr("purpose is PURPOSE_EVAL"));
  ExpectAudited();
}

TEST_F(TrajectoryBufferTest, WeightsThatDoNotCountAreRefusedAndSampledAgain) {
  ASSERT_TRUE(queue_->IssueTrain(1).ok());
  ASSERT_TRUE((*queue_->Acquire(2)).has_value());
  EXPECT_EQ(Receive(FixtureTrajectory(1, 0, 1, 77)).result, Result::kRejected);
  EXPECT_THAT((*queue_->Acquire(2))->samples, ElementsAre(0));
  EXPECT_EQ(StateOf({1, 0}), "issued");
  EXPECT_EQ(Receive(FixtureTrajectory(1, 0, 1, 1)).result, Result::kCommitted);
  // One that is not sound besides is refused for that, and its group goes.
  Trajectory bad = FixtureTrajectory(1, 1, 1, 77);
  bad.mutable_branches(0)->clear_routes();
  EXPECT_THAT(Receive(bad).reason, HasSubstr("routes are missing"));
  EXPECT_EQ(StateOf({1, 1}), "rejected");
}

TEST_F(TrajectoryBufferTest, AGroupAgesWithItsOldestTokenAndIsDroppedWhole) {
  options_.max_staleness = 1;
  Open();
  ASSERT_TRUE(queue_->IssueTrain(2).ok());
  buffer_->NoteVersion(2, 1);
  Receive(FixtureTrajectory(1, 0, 1, 1));
  Receive(FixtureTrajectory(1, 1, 1, 2));
  ReceiveGroup(2, 2);
  EXPECT_FALSE((*buffer_->Take(3, 3)).has_value());
  EXPECT_EQ(buffer_->counts().dropped_stale, 0);
  buffer_->NoteVersion(3, 2);
  auto batch = *buffer_->Take(3, 1);
  EXPECT_EQ(buffer_->counts().dropped_stale, 1);
  EXPECT_EQ(StateOf({1, 0}), "dropped");
  EXPECT_EQ(StateOf({3, 0}), "issued");
  ASSERT_TRUE(batch.has_value());
  EXPECT_THAT(batch->groups, ElementsAre(2));
  ExpectAudited();
}

TEST_F(TrajectoryBufferTest, AnAgeIsCountedInUpdatesNotInVersionNumbers) {
  options_.max_staleness = 5;
  Open();
  ASSERT_TRUE(queue_->IssueTrain(2).ok());
  buffer_->NoteVersion(40, 1);  // after resumes numbers were skipped
  buffer_->NoteVersion(41, 2);
  ReceiveGroup(1, 40);
  ReceiveGroup(2, 1);
  auto batch = *buffer_->Take(3, 2);
  ASSERT_TRUE(batch.has_value());
  EXPECT_THAT(batch->ages, ElementsAre(1, 1, 2, 2));
}

TEST_F(TrajectoryBufferTest, AnEnvironmentThatOnlyFailsEndsTheRun) {
  ASSERT_TRUE(queue_->IssueTrain(1).ok());
  const int most = TrajectoryBuffer::kFailedGroupsMax;
  for (int dropped = 1; dropped < most; ++dropped) FailGroup();
  EXPECT_TRUE(buffer_->Take(1, 1).ok());
  FailGroup();
  const absl::Status broken = buffer_->Take(1, 1).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(broken));
  EXPECT_EQ(broken, buffer_->TakeEval({}).status());
  const std::string message(broken.message());
  EXPECT_THAT(message, HasSubstr("environment \"math\": 32 groups"));
  EXPECT_THAT(message, HasSubstr("the sandbox would not start"));
  EXPECT_THAT(message, HasSubstr("logs/env-host.log"));
}

TEST_F(TrajectoryBufferTest, ATaskThatFailsIsToldOfOnce) {
  ASSERT_TRUE(queue_->IssueTrain(1).ok());
  EXPECT_TRUE(told_.empty());
  const std::string first = queue_->TaskOf(1)->id();
  FailGroup();
  ASSERT_EQ(told_.size(), 1u);
  EXPECT_EQ(told_[0].first, first);
  EXPECT_THAT(told_[0].second, HasSubstr("the sandbox would not start"));
  FailGroup();  // its replacement, of the same task
  EXPECT_EQ(told_.size(), 1u);
}

TEST_F(TrajectoryBufferTest, RefusalsToTheEndEndTheRunToo) {
  ASSERT_TRUE(queue_->IssueTrain(1).ok());
  for (int i = 0; i < TrajectoryBuffer::kFailedGroupsMax; ++i) {
    EXPECT_TRUE(buffer_->Take(1, 1).ok());
    Trajectory bad = FixtureTrajectory((**queue_->Acquire(2)).group, 0);
    bad.mutable_branches(0)->clear_routes();
    EXPECT_EQ(Receive(bad).result, Result::kRejected);
  }
  EXPECT_TRUE(absl::IsFailedPrecondition(buffer_->Take(1, 1).status()));
}

TEST_F(TrajectoryBufferTest, AWholeGroupBetweenFailuresLetsTheRunGoOn) {
  ASSERT_TRUE(queue_->IssueTrain(2).ok());
  const int most = TrajectoryBuffer::kFailedGroupsMax;
  for (int dropped = 1; dropped < most; ++dropped) FailGroup();
  const QueueLease lease = **queue_->Acquire(2);
  Receive(FixtureTrajectory(lease.group, 0));
  Receive(FixtureTrajectory(lease.group, 1));
  for (int dropped = 1; dropped < most; ++dropped) FailGroup();
  EXPECT_TRUE(buffer_->Take(1, 2).ok());
}

TEST_F(TrajectoryBufferTest, ARestartedLearnerHasWhatWasAcked) {
  ASSERT_TRUE(queue_->IssueTrain(2).ok());
  ReceiveGroup(1);
  Receive(FixtureTrajectory(2, 1));
  ASSERT_TRUE(ledger_->Resume(1, 0).ok());
  Open();
  EXPECT_THAT(*queue_->IssueTrain(3), ElementsAre(1, 2, 3));
  const QueueLease lease = **queue_->Acquire(2);
  EXPECT_EQ(lease.group, 2u);
  EXPECT_THAT(lease.samples, ElementsAre(0));
  EXPECT_EQ((*queue_->Acquire(2))->group, 3u);
  Receive(FixtureTrajectory(2, 0));
  auto batch = *buffer_->Take(1, 2);
  ASSERT_TRUE(batch.has_value());
  EXPECT_THAT(batch->groups, ElementsAre(1, 2));
  EXPECT_THAT(batch->episodes[0].branches[0].routes,
              ElementsAre(0, 2, 0, 2, 0, 2));
}

TEST_F(TrajectoryBufferTest, EvaluationWaitsForEveryGroupToBeWholeOrDropped) {
  auto issued = *queue_->IssueEval({"t4", "t4"}, 1);
  const uint64_t first = issued[0];
  Trajectory good = FixtureTrajectory(first, 0);
  good.set_purpose(PURPOSE_EVAL);
  Receive(good);
  EXPECT_FALSE((*buffer_->TakeEval({first, first + 1})).has_value());
  for (uint64_t lease : {1, 2, 3}) {
    Trajectory bad = FixtureFailure(first + 1, 0, lease);
    bad.set_purpose(PURPOSE_EVAL);
    Receive(bad);
  }
  auto batch = *buffer_->TakeEval({first, first + 1});
  ASSERT_TRUE(batch.has_value());
  EXPECT_EQ(batch->episodes.size(), 1u);
  EXPECT_EQ(batch->groups_dropped, 1);
  EXPECT_FALSE(buffer_->Take(1, 1)->has_value());
}

TEST_F(TrajectoryBufferTest, AFullBufferRecordsNothingAndSaysSo) {
  options_.capacity_samples = 1;
  Open();
  ASSERT_TRUE(queue_->IssueTrain(1).ok());
  Receive(FixtureTrajectory(1, 0));
  EXPECT_EQ(Send(FixtureTrajectory(1, 1)).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(StateOf({1, 1}), "issued");
}

TEST_F(TrajectoryBufferTest, ALedgerThatCannotRecordEndsTheRunByItsOwnError) {
  ASSERT_TRUE(queue_->IssueTrain(2).ok());
  ReceiveGroup(1);
  const int64_t seen = buffer_->activity();
  SpoilLedger("no room is left");
  Trajectory next = FixtureTrajectory(2, 0);
  next.set_task_id(queue_->TaskOf(2)->id());
  EXPECT_FALSE(Send(next).ok());
  EXPECT_TRUE(buffer_->WaitForChange(seen, 1000).ok());
  EXPECT_THAT(std::string(buffer_->Take(1, 1).status().message()),
              HasSubstr("no room is left"));
  EXPECT_THAT(std::string(buffer_->TakeEval({}).status().message()),
              HasSubstr("no room is left"));
}

TEST_F(TrajectoryBufferTest, WaitingEndsWithAnArrivalOrTheDeadline) {
  ASSERT_TRUE(queue_->IssueTrain(1).ok());
  const int64_t seen = buffer_->activity();
  EXPECT_TRUE(absl::IsDeadlineExceeded(buffer_->WaitForChange(seen, 1000)));
  Receive(FixtureTrajectory(1, 0));
  EXPECT_TRUE(buffer_->WaitForChange(seen, 1000).ok());
}

}  // namespace
}  // namespace temper
