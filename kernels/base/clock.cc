#include "kernels/base/clock.h"

#include <chrono>

namespace temper {
namespace {

// Waits and durations are measured by the steady clock: the other jumps when
// the machine's time is set.
class MachineClock : public Clock {
 public:
  int64_t MonotonicMicros() override {
    return Micros(std::chrono::steady_clock::now());
  }
  int64_t UnixMicros() override {
    return Micros(std::chrono::system_clock::now());
  }

 private:
  template <typename TimePoint>
  static int64_t Micros(TimePoint time) {
    return std::chrono::duration_cast<std::chrono::microseconds>(
               time.time_since_epoch())
        .count();
  }
};

}  // namespace

Clock* SystemClock() {
  // Never destroyed: threads may still read it while the program ends.
  static MachineClock* const clock = new MachineClock;
  return clock;
}

}  // namespace temper
