#include "tools/cli/progress_timer.h"

#include "gtest/gtest.h"

namespace temper {
namespace {

TEST(ProgressTimerTest, IsDueEveryTwoSecondsAndNotBefore) {
  FakeClock clock;
  ProgressTimer timer(&clock);
  EXPECT_FALSE(timer.Due());
  clock.AdvanceMicros(1'999'999);
  EXPECT_FALSE(timer.Due());
  clock.AdvanceMicros(1);
  EXPECT_TRUE(timer.Due());
  EXPECT_FALSE(timer.Due());
  clock.AdvanceMicros(2'000'000);
  EXPECT_TRUE(timer.Due());
}

}  // namespace
}  // namespace temper
