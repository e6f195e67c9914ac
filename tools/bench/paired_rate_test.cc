#include "tools/bench/paired_rate.h"

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

// Work that takes `micros` a call of a clock that stands still otherwise.
Work Taking(FakeClock* clock, int64_t micros, double amount) {
  return [=]() -> absl::StatusOr<double> {
    clock->AdvanceMicros(micros);
    return amount;
  };
}

TEST(PairedRateTest, IsWorkOverTimeAgainstTheYardstick) {
  FakeClock clock;
  const auto rate = MeasurePaired(Taking(&clock, 3'000, 30),
                                  Taking(&clock, 1'000, 40), {}, &clock);
  ASSERT_TRUE(rate.ok()) << rate.status();
  EXPECT_DOUBLE_EQ(rate->per_second, 10'000);
  EXPECT_DOUBLE_EQ(rate->yard_per_second, 40'000);
  EXPECT_DOUBLE_EQ(rate->fraction, 0.25);
}

TEST(PairedRateTest, WithoutAYardstickItIsTheWorkAlone) {
  FakeClock clock;
  const auto rate =
      MeasurePaired(Taking(&clock, 3'000, 30), Work(), {}, &clock);
  ASSERT_TRUE(rate.ok()) << rate.status();
  EXPECT_DOUBLE_EQ(rate->per_second, 10'000);
  EXPECT_EQ(rate->yard_per_second, 0);
  EXPECT_EQ(rate->fraction, 0);
}

// Half of all turns run on a machine that others slow down eightfold; a ratio
// of medians over unequal halves would be off, the median of ratios is not.
TEST(PairedRateTest, AMachineThatSlowsDownSlowsBoth) {
  FakeClock clock;
  int64_t calls = 0;
  const auto slowed = [&](int64_t micros, double amount) -> Work {
    return [&, micros, amount]() -> absl::StatusOr<double> {
      clock.AdvanceMicros(micros * (calls++ / 2 % 2 == 0 ? 1 : 8));
      return amount;
    };
  };
  const auto rate =
      MeasurePaired(slowed(20'000, 10), slowed(20'000, 20), {}, &clock);
  ASSERT_TRUE(rate.ok()) << rate.status();
  EXPECT_DOUBLE_EQ(rate->fraction, 0.5);
}

TEST(PairedRateTest, TheFirstPairIsNotCounted) {
  FakeClock clock;
  int64_t calls = 0;
  const Work cold = [&]() -> absl::StatusOr<double> {
    clock.AdvanceMicros(calls++ == 0 ? 9'000'000 : 10'000);
    return 1;
  };
  const auto rate =
      MeasurePaired(cold, Taking(&clock, 10'000, 1), {.pairs_min = 1}, &clock);
  ASSERT_TRUE(rate.ok()) << rate.status();
  EXPECT_DOUBLE_EQ(rate->fraction, 1);
}

TEST(PairedRateTest, SlowWorkEndsWithTheLeastPairs) {
  FakeClock clock;
  const auto rate = MeasurePaired(Taking(&clock, 2'000'000, 1),
                                  Taking(&clock, 10'000, 1), {}, &clock);
  ASSERT_TRUE(rate.ok()) << rate.status();
  EXPECT_EQ(rate->pairs, PairedOptions().pairs_min);
}

TEST(PairedRateTest, AnErrorOfTheWorkIsTold) {
  FakeClock clock;
  const Work failing = []() -> absl::StatusOr<double> {
    return absl::ResourceExhaustedError("no memory");
  };
  EXPECT_EQ(MeasurePaired(failing, Taking(&clock, 10, 1), {}, &clock).status(),
            absl::ResourceExhaustedError("no memory"));
}

}  // namespace
}  // namespace temper
