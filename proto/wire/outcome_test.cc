#include "proto/wire/outcome.h"

#include <set>

#include "gtest/gtest.h"

namespace temper {
namespace {

TEST(OutcomeTest, FailuresOfTheInfrastructureAreNotGraded) {
  const std::set<Outcome> graded = {OUTCOME_OK, OUTCOME_TRUNCATED,
                                    OUTCOME_MODEL_ERROR, OUTCOME_TOOL_ERROR,
                                    OUTCOME_TIMEOUT};
  for (int i = -1; i <= Outcome_MAX + 1; ++i) {
    const Outcome outcome = static_cast<Outcome>(i);
    EXPECT_EQ(IsGraded(outcome), graded.count(outcome) == 1) << i;
  }
}

TEST(OutcomeTest, WellFormedIsWhatTheModelFormedWellAndFinished) {
  const std::set<Outcome> well = {OUTCOME_OK, OUTCOME_TOOL_ERROR,
                                  OUTCOME_TIMEOUT};
  for (int i = -1; i <= Outcome_MAX + 1; ++i) {
    const Outcome outcome = static_cast<Outcome>(i);
    EXPECT_EQ(IsWellFormed(outcome), well.count(outcome) == 1) << i;
  }
}

TEST(OutcomeTest, NamesLackTheEnumsPrefix) {
  EXPECT_EQ(OutcomeName(OUTCOME_OK), "OK");
  EXPECT_EQ(OutcomeName(OUTCOME_SANDBOX_ERROR), "SANDBOX_ERROR");
  EXPECT_EQ(OutcomeName(static_cast<Outcome>(99)), "outcome 99");
}

}  // namespace
}  // namespace temper
