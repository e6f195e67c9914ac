#include "learner/learner_wait.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "learner/store/run_db_fixture.h"

namespace temper {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class LearnerWaitTest : public RunDbFixture {
 protected:
  void SetUp() override {
    RunDbFixture::SetUp();
    context_ = {db_.get(), &clock_, [this] { return stop_; }};
  }

  void AdvanceMs(int64_t ms) { clock_.AdvanceMicros(ms * 1000); }

  // "process name elapsed/deadline" of every row.
  std::vector<std::string> Rows() {
    auto transaction = *db_->sqlite()->Begin();
    const auto found = *transaction->Query(
        "SELECT process, name, elapsed_ms, deadline_ms FROM wait");
    std::vector<std::string> rows;
    for (const SqlRow& row : found) {
      rows.push_back(absl::StrCat(row[0].AsString(), " ", row[1].AsString(),
                                  " ", row[2].AsInt(), "/", row[3].AsInt()));
    }
    return rows;
  }

  WaitContext context_;
  bool stop_ = false;
};

TEST_F(LearnerWaitTest, AWaitIsSeenWhileItLastsAndGoneAfter) {
  {
    LearnerWait wait(context_, "trajectories of step 3", 60'000);
    AdvanceMs(LearnerWait::kQuietMs);
    EXPECT_FALSE(wait.Expired());
    EXPECT_THAT(Rows(),
                ElementsAre("learner trajectories of step 3 500/60000"));
    AdvanceMs(LearnerWait::kReportMs);
    EXPECT_FALSE(wait.Expired());
    EXPECT_THAT(Rows(),
                ElementsAre("learner trajectories of step 3 2500/60000"));
  }
  EXPECT_THAT(Rows(), IsEmpty());
}

TEST_F(LearnerWaitTest, AShortWaitCostsNoWrite) {
  LearnerWait wait(context_, "weight acks of version 1", 60'000);
  AdvanceMs(LearnerWait::kQuietMs - 1);
  EXPECT_FALSE(wait.Expired());
  EXPECT_THAT(Rows(), IsEmpty());
}

TEST_F(LearnerWaitTest, TheDeadlineCountsFromTheLastProgress) {
  LearnerWait wait(context_, "evaluation of step 0", 1000);
  AdvanceMs(900);
  wait.Progress();
  AdvanceMs(1000);
  EXPECT_FALSE(wait.Expired());
  AdvanceMs(1);
  EXPECT_TRUE(wait.Expired());
}

TEST_F(LearnerWaitTest, StoppingIsWhatTheContextSays) {
  LearnerWait wait(context_, "weight acks of version 1", 1000);
  EXPECT_FALSE(wait.Stopping());
  stop_ = true;
  EXPECT_TRUE(wait.Stopping());
}

}  // namespace
}  // namespace temper
