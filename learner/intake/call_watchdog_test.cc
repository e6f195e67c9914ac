#include "learner/intake/call_watchdog.h"

#include <chrono>
#include <future>

#include "gtest/gtest.h"

namespace temper {
namespace {

constexpr auto kPatience = std::chrono::seconds(20);

TEST(CallWatchdogTest, ACallPastItsDeadlineIsCancelledOnce) {
  FakeClock clock;
  CallWatchdog watchdog(40, &clock);
  std::promise<void> cancelled;  // a second set_value would throw
  CallWatchdog::Call call(&watchdog, [&] { cancelled.set_value(); });
  EXPECT_FALSE(call.expired());
  clock.AdvanceMicros(40'000);
  ASSERT_EQ(cancelled.get_future().wait_for(kPatience),
            std::future_status::ready);
  EXPECT_TRUE(call.expired());
  // Another one's end shows that the watchdog has looked again since.
  std::promise<void> next;
  CallWatchdog::Call second(&watchdog, [&] { next.set_value(); });
  clock.AdvanceMicros(40'000);
  EXPECT_EQ(next.get_future().wait_for(kPatience), std::future_status::ready);
}

TEST(CallWatchdogTest, ACallThatReturnedInTimeIsLeftAlone) {
  FakeClock clock;
  CallWatchdog watchdog(40, &clock);
  bool first_cancelled = false;
  {
    CallWatchdog::Call first(&watchdog, [&] { first_cancelled = true; });
    clock.AdvanceMicros(39'999);
    EXPECT_FALSE(first.expired());
  }
  std::promise<void> cancelled;
  CallWatchdog::Call second(&watchdog, [&] { cancelled.set_value(); });
  clock.AdvanceMicros(40'000);
  ASSERT_EQ(cancelled.get_future().wait_for(kPatience),
            std::future_status::ready);
  EXPECT_FALSE(first_cancelled);
}

}  // namespace
}  // namespace temper
