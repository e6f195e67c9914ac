// How fast something runs, as a fraction of what the machine does at most. The
// machine's speed drifts by half and more while others use it, so the two are
// measured in turns of about 10 ms, and each turn of the work is held against
// the turn of the yardstick that follows it.
//
// Functions without state; thread-safe.

#ifndef TOOLS_BENCH_PAIRED_RATE_H_
#define TOOLS_BENCH_PAIRED_RATE_H_

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "kernels/base/clock.h"

namespace temper {

// Does some work, takes time, and returns how much it was: FLOP, bytes, tokens.
using Work = std::function<absl::StatusOr<double>()>;

struct PairedOptions {
  int64_t slice_micros = 10'000;   // a turn ends at the first call beyond it
  int64_t pairs_min = 5;           // measured even if `micros_max` has passed
  int64_t pairs_max = 101;         // odd: a median is one of the values
  int64_t micros_max = 3'000'000;  // over all pairs, the first, unmeasured one
                                   // included
};

struct PairedRate {
  double per_second = 0;       // median of the work's rates
  double yard_per_second = 0;  // median of the yardstick's
  double fraction = 0;         // median of the pairs' ratios
  int64_t pairs = 0;
};

// A first pair warms up and is not counted. An error of either is returned as
// it is. An empty yardstick is none: work alone is measured, and the yard's
// rate and the fraction are 0.
absl::StatusOr<PairedRate> MeasurePaired(const Work& work, const Work& yard,
                                         const PairedOptions& options,
                                         Clock* clock);

}  // namespace temper

#endif  // TOOLS_BENCH_PAIRED_RATE_H_
