#include "tools/view/token_view.h"

#include <cstdlib>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "learner/intake/trajectory_fixture.h"
#include "learner/store/ledger.h"

namespace temper {
namespace {

class TokenViewTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string directory = absl::StrCat(
        getenv("TEST_TMPDIR"), "/",
        ::testing::UnitTest::GetInstance()->current_test_info()->name());
    ASSERT_TRUE(MakeDirectories(directory).ok());
    db_ = *RunDb::OpenWriter(directory + "/run.db", &clock_);
    ASSERT_TRUE(db_->StartRun({"trial", 1, "", "", ""}).ok());
    ASSERT_TRUE(db_->RecordWeightVersion({1, 0, 0, "h", 1}).ok());
    ledger_ = *Ledger::Create(db_.get(), directory + "/segments");
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

  FakeClock clock_;
  std::unique_ptr<RunDb> db_;
  std::unique_ptr<Ledger> ledger_;
};

TEST_F(TokenViewTest, SampledTokensCarryTheSamplersRecordAndVersion) {
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

TEST_F(TokenViewTest, TrainedSampleShowsRatioAndMask) {
  Train();
  const auto view = ReadTrajectory(db_.get(), 1);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->step, 1);
  EXPECT_EQ(view->tokens[2].logp_train, -0.5f);
  EXPECT_EQ(view->tokens[3].logp_train, -1.25f);
  const std::string text = FormatTrajectory(
      *view, [](int32_t id) { return absl::StrCat("<", id, ">"); });
  EXPECT_EQ(text,
            "episode 1, group 1, sample 0, trained in step 1, advantage 0.5\n"
            " token      id  text                  logp_rollout    logp_train "
            "     ratio mask version\n"
            "     0       5  <5>\n"
            "     1       6  <6>\n"
            "     2       7  <7>                           -0.5          -0.5 "
            "         1    0       1\n"
            "     3       8  <8>                          -0.25         -1.25 "
            " 0.3678794    0       1\n");
}

TEST_F(TokenViewTest, WhatAResumeUndidIsNotShownAsTrained) {
  Train();
  ASSERT_TRUE(ledger_->Resume(1, 0).ok());
  const auto view = ReadTrajectory(db_.get(), 1);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_FALSE(view->step.has_value());
  EXPECT_FALSE(view->tokens[3].logp_train.has_value());
}

TEST_F(TokenViewTest, UnknownEpisodeIsNotFound) {
  EXPECT_EQ(ReadTrajectory(db_.get(), 5).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace temper
