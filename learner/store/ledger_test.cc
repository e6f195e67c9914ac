#include "learner/store/ledger.h"

#include "gmock/gmock.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"
#include "learner/intake/trajectory_fixture.h"
#include "learner/store/run_db_fixture.h"

namespace temper {
namespace {

using google::protobuf::util::MessageDifferencer;

class LedgerTest : public RunDbFixture {
 protected:
  void SetUp() override {
    RunDbFixture::SetUp();
    RecordVersion(1, 0);
  }

  // Issues `count` TRAIN groups of two samples, from group `first`.
  void Issue(uint64_t first, int count) {
    std::vector<GroupRecord> groups;
    for (int i = 0; i < count; ++i) {
      const uint64_t id = first + static_cast<uint64_t>(i);
      groups.push_back({id, PURPOSE_TRAIN, "task", static_cast<int64_t>(id) - 1,
                        2, std::nullopt});
    }
    ASSERT_TRUE(ledger_->IssueGroups(groups).ok());
  }

  CommitResult Commit(const Trajectory& trajectory) {
    auto result = ledger_->Commit(trajectory);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *result : CommitResult::kUnknown;
  }

  // Receives, reserves and trains one group as `step`, and publishes the
  // weight version step + 1.
  void Train(int64_t step, uint64_t group, uint64_t version) {
    for (uint32_t sample : {0u, 1u}) {
      ASSERT_EQ(Commit(FixtureTrajectory(group, sample, 1, version)),
                CommitResult::kCommitted);
    }
    ASSERT_TRUE(ledger_->Reserve(step, {group}).ok());
    StepRecord record;
    record.step = step;
    record.weight_version = version;
    record.samples = {{group, 0}, {group, 1}};
    record.metrics = {{"loss", 0.5}};
    const absl::Status status = ledger_->CommitStep(record);
    ASSERT_TRUE(status.ok()) << status;
    const uint64_t next = *db_->NextWeightVersion();
    RecordVersion(next, step);
  }

  std::string State(uint64_t group, uint32_t sample) {
    return StateOf({group, sample});
  }

  int64_t Count(const char* sql) {
    auto txn = *db_->sqlite()->Begin();
    return *txn->QueryInt(sql, {}, -1);
  }

  void ExpectAudited() {
    const absl::Status status = ledger_->Audit();
    EXPECT_TRUE(status.ok()) << status;
  }
};

TEST_F(LedgerTest, ACommittedTrajectoryComesBackFieldForField) {
  Issue(1, 1);
  const Trajectory trajectory = FixtureTrajectory(1, 0);
  ASSERT_EQ(Commit(trajectory), CommitResult::kCommitted);
  OpenRun();
  auto loaded = ledger_->Load({1, 0});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_TRUE(MessageDifferencer::Equals(*loaded, trajectory));
  EXPECT_THAT(*ledger_->ReceivedTrainSamples(),
              testing::ElementsAre(SampleKey{1, 0}));
}

TEST_F(LedgerTest, TheFirstCopyWinsWhateverTheLeaseOfTheSecond) {
  Issue(1, 1);
  EXPECT_EQ(Commit(FixtureTrajectory(1, 0, 4)), CommitResult::kCommitted);
  EXPECT_EQ(Commit(FixtureTrajectory(1, 0, 4)), CommitResult::kDuplicate);
  EXPECT_EQ(Commit(FixtureTrajectory(1, 0, 5)), CommitResult::kDuplicate);
  EXPECT_EQ(ledger_->Load({1, 0})->key().lease(), 4u);
  EXPECT_EQ(Commit(FixtureTrajectory(2, 0)), CommitResult::kUnknown);
  EXPECT_EQ(Commit(FixtureTrajectory(1, 2)), CommitResult::kUnknown);
  EXPECT_EQ(*ledger_->NextLease(), 5u);
  ExpectAudited();
}

TEST_F(LedgerTest, ADamagedSegmentIsDataLossWhenRead) {
  Issue(1, 1);
  ASSERT_EQ(Commit(FixtureTrajectory(1, 0)), CommitResult::kCommitted);
  const std::string path = SegmentPath(directory_ + "/segments", 1);
  std::string bytes = *ReadFile(path, 1 << 20);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  ASSERT_TRUE(WriteFileDurably(path, bytes).ok());
  EXPECT_TRUE(absl::IsDataLoss(ledger_->Load({1, 0}).status()));
}

TEST_F(LedgerTest, AFailureIsRetriedTwiceAndARedeliveryIsNoFailure) {
  Issue(1, 1);
  EXPECT_EQ(Commit(FixtureFailure(1, 0, 1)), CommitResult::kRetry);
  EXPECT_EQ(Commit(FixtureFailure(1, 0, 1)), CommitResult::kDuplicate);
  EXPECT_EQ(Commit(FixtureFailure(1, 0, 2)), CommitResult::kRetry);
  EXPECT_EQ(Commit(FixtureFailure(1, 0, 3)), CommitResult::kExhausted);
  EXPECT_EQ(State(1, 0), "issued");
  const GroupRecord replacement{2, PURPOSE_TRAIN, "task", std::nullopt, 2, 1};
  ASSERT_TRUE(ledger_->DropGroup(1, "infrastructure", {replacement}).ok());
  EXPECT_EQ(State(1, 0), "dropped");
  EXPECT_EQ(State(1, 1), "dropped");
  EXPECT_EQ(State(2, 0), "issued");
  EXPECT_EQ(Commit(FixtureTrajectory(1, 0, 4)), CommitResult::kDuplicate);
  EXPECT_EQ(*ledger_->NextGroup(PURPOSE_TRAIN), 3u);
  ExpectAudited();
}

TEST_F(LedgerTest, ARefusedTaskIsNotTriedAgain) {
  Issue(1, 1);
  Trajectory refused = FixtureFailure(1, 0, 1);
  refused.set_outcome(OUTCOME_ENVIRONMENT_ERROR);
  refused.set_task_refused(true);
  EXPECT_EQ(Commit(refused), CommitResult::kExhausted);
}

TEST_F(LedgerTest, AFailureThenASuccessIsReceived) {
  Issue(1, 1);
  EXPECT_EQ(Commit(FixtureFailure(1, 0, 1)), CommitResult::kRetry);
  EXPECT_EQ(Commit(FixtureTrajectory(1, 0, 2)), CommitResult::kCommitted);
  EXPECT_EQ(State(1, 0), "received");
  ExpectAudited();
}

TEST_F(LedgerTest, ARejectionSettlesTheGroupOnce) {
  Issue(1, 1);
  ASSERT_EQ(Commit(FixtureTrajectory(1, 1)), CommitResult::kCommitted);
  ASSERT_TRUE(ledger_->RejectSample({1, 0}, "no routes", {}).ok());
  EXPECT_EQ(State(1, 0), "rejected");
  EXPECT_EQ(State(1, 1), "dropped");
  EXPECT_FALSE(ledger_->RejectSample({1, 0}, "no routes", {}).ok());
  ExpectAudited();
}

TEST_F(LedgerTest, RefusalsAreCountedLikeFailures) {
  Issue(1, 1);
  EXPECT_EQ(*ledger_->RecordRefusal({1, 0}), CommitResult::kRetry);
  EXPECT_EQ(Commit(FixtureFailure(1, 0, 1)), CommitResult::kRetry);
  EXPECT_EQ(*ledger_->RecordRefusal({1, 0}), CommitResult::kExhausted);
  ASSERT_EQ(Commit(FixtureTrajectory(1, 1)), CommitResult::kCommitted);
  EXPECT_EQ(*ledger_->RecordRefusal({1, 1}), CommitResult::kDuplicate);
}

TEST_F(LedgerTest, OnlyWholeReceivedGroupsAreReserved) {
  Issue(1, 2);
  ASSERT_EQ(Commit(FixtureTrajectory(1, 0)), CommitResult::kCommitted);
  EXPECT_FALSE(ledger_->Reserve(1, {1}).ok());
  EXPECT_EQ(State(1, 0), "received");
  ASSERT_EQ(Commit(FixtureTrajectory(1, 1)), CommitResult::kCommitted);
  EXPECT_FALSE(ledger_->Reserve(1, {1, 2}).ok());
  EXPECT_EQ(State(1, 0), "received");
  EXPECT_TRUE(ledger_->Reserve(1, {1}).ok());
  EXPECT_FALSE(ledger_->DropGroup(1, "stale", {}).ok());
  EXPECT_FALSE(ledger_->Reserve(2, {1}).ok());
  ExpectAudited();
}

TEST_F(LedgerTest, AStepIsAllOfItsReservationsAndFollowsOnTheLast) {
  Issue(1, 1);
  ASSERT_EQ(Commit(FixtureTrajectory(1, 0)), CommitResult::kCommitted);
  ASSERT_EQ(Commit(FixtureTrajectory(1, 1)), CommitResult::kCommitted);
  ASSERT_TRUE(ledger_->Reserve(1, {1}).ok());
  StepRecord record;
  record.step = 1;
  record.samples = {{1, 0}};
  EXPECT_FALSE(ledger_->CommitStep(record).ok());
  record.samples = {{1, 1}, {1, 0}};
  record.step = 2;
  EXPECT_FALSE(ledger_->CommitStep(record).ok());
  record.step = 1;
  record.metrics = {{"loss", 0.0 / 0.0}};
  EXPECT_FALSE(ledger_->CommitStep(record).ok());
  EXPECT_EQ(LatestStep(db_.get()), 0);
  EXPECT_EQ(State(1, 0), "reserved");
  record.metrics = {{"loss", 1.0}};
  EXPECT_TRUE(ledger_->CommitStep(record).ok());
  EXPECT_EQ(LatestStep(db_.get()), 1);
  EXPECT_EQ(State(1, 0), "trained");
  EXPECT_FALSE(ledger_->CommitStep(record).ok());
  ExpectAudited();
}

TEST_F(LedgerTest, WhatTrainingComputedIsKeptWithItsStep) {
  Issue(1, 1);
  for (uint32_t sample : {0u, 1u}) {
    ASSERT_EQ(Commit(FixtureTrajectory(1, sample)), CommitResult::kCommitted);
  }
  ASSERT_TRUE(ledger_->Reserve(1, {1}).ok());
  StepRecord record;
  record.step = 1;
  record.weight_version = 1;
  record.samples = {{1, 0}, {1, 1}};
  record.records = {{{1, 1}, -0.25, true, {-0.5f, -0.125f}}};
  ASSERT_TRUE(ledger_->CommitStep(record).ok());
  auto txn = *db_->sqlite()->Begin();
  const auto rows = *txn->Query(
      "SELECT sample, advantage, masked, logp_train FROM train_record "
      "WHERE attempt = 1 AND step = 1 AND grp = 1",
      {});
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0][0].AsInt(), 1);
  EXPECT_EQ(rows[0][1].AsDouble(), -0.25);
  EXPECT_EQ(rows[0][2].AsInt(), 1);
  EXPECT_EQ(rows[0][3].AsString(), PackArray<float>({-0.5f, -0.125f}));
}

TEST_F(LedgerTest, ResumeUndoesWhatTheCheckpointDoesNotHold) {
  Issue(1, 5);
  Train(1, 1, 1);  // made version 2
  Train(2, 2, 2);  // sampled by the checkpoint's version
  Train(3, 3, 3);  // by one that will not count
  for (uint32_t sample : {0u, 1u}) {
    ASSERT_EQ(Commit(FixtureTrajectory(4, sample, 1, 1)),
              CommitResult::kCommitted);
  }
  ASSERT_TRUE(ledger_->Reserve(4, {4}).ok());
  auto summary = ledger_->Resume(1, 1);
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->attempt, 2);
  EXPECT_EQ(summary->steps_undone, 2);
  EXPECT_EQ(summary->samples_kept, 4);
  EXPECT_EQ(summary->samples_reissued, 2);
  EXPECT_EQ(State(1, 0), "trained");
  EXPECT_EQ(State(2, 0), "received");
  EXPECT_EQ(State(3, 0), "issued");
  EXPECT_EQ(State(4, 0), "received");
  EXPECT_EQ(State(5, 0), "issued");
  EXPECT_EQ(LatestStep(db_.get()), 1);
  EXPECT_EQ(*db_->NextWeightVersion(), 5u);
  EXPECT_EQ(Count("SELECT count(*) FROM lineage_metric"), 1);
  EXPECT_EQ(Count("SELECT count(*) FROM metric"), 3);
  ExpectAudited();
}

TEST_F(LedgerTest, AfterResumeTheSameIdsAreTrainedOnceInTheNewLineage) {
  Issue(1, 2);
  Train(1, 1, 1);
  Train(2, 2, 2);
  ASSERT_TRUE(ledger_->Resume(1, 0).ok());
  auto pending = *ledger_->UnsettledTrainGroups();
  ASSERT_EQ(pending.size(), 2u);
  EXPECT_THAT(pending[0].wanted, testing::IsEmpty());
  EXPECT_EQ(pending[1].group.group, 2u);
  EXPECT_EQ(pending[1].group.position, 1);
  EXPECT_THAT(pending[1].wanted, testing::ElementsAre(0, 1));
  ASSERT_TRUE(ledger_->Reserve(1, {1}).ok());
  StepRecord record;
  record.step = 1;
  record.samples = {{1, 0}, {1, 1}};
  ASSERT_TRUE(ledger_->CommitStep(record).ok());
  // Under the lease number of the dead attempt's copy: numbers may repeat.
  EXPECT_EQ(Commit(FixtureTrajectory(2, 0, 1, 1)), CommitResult::kCommitted);
  EXPECT_EQ(Count("SELECT count(*) FROM trained WHERE grp = 1"), 4);
  EXPECT_EQ(Count("SELECT count(*) FROM lineage_trained WHERE grp = 1"), 2);
  ExpectAudited();
}

TEST_F(LedgerTest, AStepOfADeadAttemptCannotBeResumedFrom) {
  Issue(1, 2);
  Train(1, 1, 1);
  Train(2, 2, 2);
  ASSERT_TRUE(ledger_->Resume(1, 1).ok());
  EXPECT_EQ(ledger_->Resume(1, 2).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(*db_->CurrentAttempt(), 2);
}

TEST_F(LedgerTest, EvaluationIsRecordedNeverTrainedAndNumberedApart) {
  const uint64_t group = *ledger_->NextGroup(PURPOSE_EVAL);
  EXPECT_EQ(group, kEvalGroupBase);
  ASSERT_TRUE(ledger_
                  ->IssueGroups({{group, PURPOSE_EVAL, "task", std::nullopt, 2,
                                  std::nullopt}})
                  .ok());
  EXPECT_EQ(*ledger_->NextGroup(PURPOSE_TRAIN), 1u);
  Trajectory trajectory = FixtureTrajectory(group, 0);
  EXPECT_EQ(Commit(trajectory), CommitResult::kUnknown);
  trajectory.set_purpose(PURPOSE_EVAL);
  EXPECT_EQ(Commit(trajectory), CommitResult::kCommitted);
  EXPECT_FALSE(ledger_->Reserve(1, {group}).ok());
  ExpectAudited();
}

TEST_F(LedgerTest, ResumeKeepsWholeEvaluationsOfWeightsThatCountAndNoOthers) {
  const uint64_t whole = kEvalGroupBase, issued = whole + 1, half = whole + 2,
                 later = whole + 3;
  for (const uint64_t group : {whole, issued, half, later}) {
    const uint32_t size = group == half ? 2 : 1;
    ASSERT_TRUE(ledger_
                    ->IssueGroups({{group, PURPOSE_EVAL, std::to_string(group),
                                    std::nullopt, size, std::nullopt}})
                    .ok());
  }
  Issue(1, 1);
  Train(1, 1, 1);  // made version 2
  for (const uint64_t group : {whole, half, later}) {
    Trajectory trajectory =
        FixtureTrajectory(group, 0, 1, group == later ? 2 : 1);
    trajectory.set_purpose(PURPOSE_EVAL);
    ASSERT_EQ(Commit(trajectory), CommitResult::kCommitted);
  }
  EXPECT_EQ(ledger_->EvaluatedSamples(0)->size(), 2u);
  EXPECT_EQ(ledger_->EvaluatedSamples(1)->size(), 1u);
  ASSERT_TRUE(ledger_->Resume(1, 0).ok());
  EXPECT_EQ(State(whole, 0), "received");
  EXPECT_EQ(State(issued, 0), "dropped");
  EXPECT_EQ(State(half, 0), "dropped");
  EXPECT_EQ(State(half, 1), "dropped");
  EXPECT_EQ(State(later, 0), "dropped");
  const auto kept = *ledger_->EvaluatedSamples(0);
  ASSERT_EQ(kept.size(), 1u);
  EXPECT_EQ(kept[0].task_id, std::to_string(whole));
  EXPECT_TRUE(ledger_->EvaluatedSamples(1)->empty());
  EXPECT_EQ(Count("SELECT count(*) FROM lineage_episode WHERE purpose = 2"), 1);
  ExpectAudited();
}

// Each damage in a fresh run, so that one never hides behind another.
class LedgerDamageTest : public LedgerTest,
                         public testing::WithParamInterface<const char*> {};

TEST_P(LedgerDamageTest, AuditFindsIt) {
  Issue(1, 3);
  Train(1, 1, 1);
  Train(2, 2, 1);
  ExpectAudited();
  ASSERT_TRUE(db_->sqlite()->Execute(GetParam()).ok());
  EXPECT_TRUE(absl::IsDataLoss(ledger_->Audit()));
}

INSTANTIATE_TEST_SUITE_P(
    EachPromise, LedgerDamageTest,
    testing::Values(
        "INSERT INTO trained VALUES (1, 2, 1, 0)",
        "DELETE FROM ledger WHERE grp = 3 AND sample = 1",
        "DELETE FROM trained WHERE grp = 2",
        "UPDATE ledger SET state = 'issued', step = NULL, attempt = NULL "
        "WHERE grp = 2 AND sample = 0",
        "UPDATE grp SET purpose = 2 WHERE grp = 1",
        "UPDATE ledger SET state = 'reserved' WHERE grp = 1",
        "UPDATE episode SET reward = NULL WHERE grp = 1",
        "UPDATE step SET samples = 3 WHERE step = 1",
        "DELETE FROM step WHERE step = 1"));

}  // namespace
}  // namespace temper
