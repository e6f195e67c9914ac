#include "learner/store/token_reader.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "learner/intake/trajectory_fixture.h"
#include "learner/store/run_db_fixture.h"

namespace temper {
namespace {

class TokenReaderTest : public RunDbFixture {
 protected:
  void SetUp() override {
    RunDbFixture::SetUp();
    RecordVersion(1, 0);
    ASSERT_TRUE(
        ledger_->IssueGroups({{1, PURPOSE_TRAIN, "task", 0, 1, std::nullopt}})
            .ok());
    ASSERT_EQ(*ledger_->Commit(FixtureTrajectory(1, 0)),
              CommitResult::kCommitted);
  }

  void Train() {
    ASSERT_TRUE(ledger_->Reserve(1, {1}).ok());
    StepRecord record;
    record.step = 1;
    record.weight_version = 1;
    record.samples = {{1, 0}};
    record.records = {{{1, 0}, 0.5, true, {-0.5f, -1.25f}}};
    ASSERT_TRUE(ledger_->CommitStep(record).ok());
  }
};

TEST_F(TokenReaderTest, SampledTokensCarryTheSamplersRecordAndVersion) {
  const auto view = ReadTrajectory(db_.get(), 1);
  ASSERT_TRUE(view.ok()) << view.status();
  ASSERT_EQ(view->tokens.size(), 4u);
  EXPECT_FALSE(view->tokens[1].sampled);
  EXPECT_FALSE(view->tokens[1].logp_rollout.has_value());
  EXPECT_TRUE(view->tokens[2].sampled);
  EXPECT_EQ(view->tokens[2].id, 7);
  EXPECT_EQ(view->tokens[2].logp_rollout, -0.5f);
  EXPECT_EQ(view->tokens[3].logp_rollout, -0.25f);
  EXPECT_EQ(view->tokens[3].version, 1u);
  EXPECT_FALSE(view->step.has_value());
  EXPECT_FALSE(view->tokens[3].logp_train.has_value());
}

TEST_F(TokenReaderTest, TrainedSampleShowsRatioAndMask) {
  Train();
  const auto view = ReadTrajectory(db_.get(), 1);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->step, 1);
  EXPECT_EQ(view->tokens[2].logp_train, -0.5f);
  EXPECT_EQ(view->tokens[3].logp_train, -1.25f);
}

TEST_F(TokenReaderTest, WhatAResumeUndidIsNotShownAsTrained) {
  Train();
  ASSERT_TRUE(ledger_->Resume(1, 0).ok());
  const auto view = ReadTrajectory(db_.get(), 1);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_FALSE(view->step.has_value());
  EXPECT_FALSE(view->tokens[3].logp_train.has_value());
}

TEST_F(TokenReaderTest, UnknownEpisodeIsNotFound) {
  EXPECT_EQ(ReadTrajectory(db_.get(), 5).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace temper
