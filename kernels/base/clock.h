// Time as a parameter: what waits or stamps takes a Clock, so tests decide
// what time it is. Implementations are thread-safe.

#ifndef KERNELS_BASE_CLOCK_H_
#define KERNELS_BASE_CLOCK_H_

#include <atomic>
#include <cstdint>

namespace temper {

class Clock {
 public:
  virtual ~Clock() = default;
  // Never goes back; for durations and deadlines within one process.
  virtual int64_t MonotonicMicros() = 0;
  // Since 1970-01-01 UTC; for records people read.
  virtual int64_t UnixMicros() = 0;
};

// The machine's clocks. Lives for ever.
Clock* SystemClock();

// Stands still until advanced.
class FakeClock : public Clock {
 public:
  explicit FakeClock(int64_t unix_micros = 1'000'000)
      : unix_micros_(unix_micros) {}
  int64_t MonotonicMicros() override { return elapsed_micros_; }
  int64_t UnixMicros() override { return unix_micros_ + elapsed_micros_; }
  void AdvanceMicros(int64_t micros) { elapsed_micros_ += micros; }

 private:
  const int64_t unix_micros_;
  std::atomic<int64_t> elapsed_micros_{0};
};

}  // namespace temper

#endif  // KERNELS_BASE_CLOCK_H_
