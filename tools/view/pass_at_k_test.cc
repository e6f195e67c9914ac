#include "tools/view/pass_at_k.h"

#include <cmath>

#include "gtest/gtest.h"

namespace temper {
namespace {

TEST(PassAtKTest, OneSampleIsTheShareThatIsRight) {
  EXPECT_DOUBLE_EQ(PassAtK({8, 2}, 1), 0.25);
  EXPECT_DOUBLE_EQ(PassAtK({8, 0}, 1), 0);
  EXPECT_DOUBLE_EQ(PassAtK({8, 8}, 1), 1);
}

TEST(PassAtKTest, EstimateIsTheShareOfSubsetsWithARightOne) {
  // 4 samples, 1 right: of 6 pairs, 3 hold it.
  EXPECT_DOUBLE_EQ(PassAtK({4, 1}, 2), 0.5);
  // 5 samples, 2 right: of 10 triples, 1 is all wrong.
  EXPECT_DOUBLE_EQ(PassAtK({5, 2}, 3), 0.9);
  EXPECT_DOUBLE_EQ(PassAtK({4, 1}, 4), 1);
}

TEST(PassAtKTest, ErrorIsThatOfTheMeanOverTasks) {
  const PassRate rate = MeanPassAtK({{1, 1}, {1, 0}, {1, 1}, {1, 0}}, 1);
  EXPECT_EQ(rate.tasks, 4);
  EXPECT_DOUBLE_EQ(rate.mean, 0.5);
  EXPECT_DOUBLE_EQ(rate.standard_error, std::sqrt(0.25 / 4));
}

TEST(PassAtKTest, AllSamplesAreReportedPowerOfTwoOrNot) {
  EXPECT_EQ(ReportedK(1), (std::vector<int64_t>{1}));
  EXPECT_EQ(ReportedK(3), (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(ReportedK(8), (std::vector<int64_t>{1, 2, 4, 8}));
}

TEST(PassAtKTest, TasksWithTooFewSamplesAreLeftOut) {
  EXPECT_EQ(MeanPassAtK({{1, 1}, {4, 4}}, 2).tasks, 1);
  EXPECT_EQ(MeanPassAtK({}, 1).tasks, 0);
}

}  // namespace
}  // namespace temper
