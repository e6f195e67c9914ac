// When long work tells how far it is: not at once, for most is done before, and
// then every kEveryUs.
//
//   ProgressTimer timer;
//   for (...) {
//     ...
//     if (timer.Due()) PrintErr("reading: %d of %d\n", ...);
//   }
//
// Not thread-safe.

#ifndef TOOLS_CLI_PROGRESS_TIMER_H_
#define TOOLS_CLI_PROGRESS_TIMER_H_

#include <cstdint>

#include "kernels/base/clock.h"

namespace temper {

class ProgressTimer {
 public:
  // `clock` outlives it.
  explicit ProgressTimer(Clock* clock = SystemClock())
      : clock_(clock), told_us_(clock->MonotonicMicros()) {}

  // Whether the start or the last true is kEveryUs ago.
  bool Due() {
    const int64_t now = clock_->MonotonicMicros();
    if (now - told_us_ < kEveryUs) return false;
    told_us_ = now;
    return true;
  }

  static constexpr int64_t kEveryUs = 2'000'000;

 private:
  Clock* const clock_;
  int64_t told_us_;
};

}  // namespace temper

#endif  // TOOLS_CLI_PROGRESS_TIMER_H_
