#include "kernels/base/clock.h"

#include "gtest/gtest.h"

namespace temper {
namespace {

TEST(ClockTest, AFakeClockMovesOnlyWhenAdvanced) {
  FakeClock clock(500);
  EXPECT_EQ(clock.MonotonicMicros(), 0);
  EXPECT_EQ(clock.UnixMicros(), 500);
  clock.AdvanceMicros(25);
  EXPECT_EQ(clock.MonotonicMicros(), 25);
  EXPECT_EQ(clock.UnixMicros(), 525);
}

TEST(ClockTest, TheMachinesMonotonicClockDoesNotGoBack) {
  int64_t last = SystemClock()->MonotonicMicros();
  for (int i = 0; i < 1000; ++i) {
    const int64_t now = SystemClock()->MonotonicMicros();
    EXPECT_GE(now, last);
    last = now;
  }
  EXPECT_GT(SystemClock()->UnixMicros(), int64_t{1'600'000'000} * 1'000'000);
}

}  // namespace
}  // namespace temper
