#include "kernels/cuda/gpu_survey.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

TEST(GpuSurveyTest, AHopperThatProcessesShareLacksNothing) {
  EXPECT_EQ(LackOf(9, 0, 0), "");
  EXPECT_THAT(LackOf(8, 9, 0), HasSubstr("capability 8.9"));
  EXPECT_THAT(LackOf(9, 1, 0), HasSubstr("capability 9.1"));
  EXPECT_THAT(LackOf(9, 0, 2), HasSubstr("mode Prohibited"));
  EXPECT_THAT(LackOf(9, 0, 3), HasSubstr("mode Exclusive_Process"));
}

}  // namespace
}  // namespace temper
