#include "tools/bench/paired_rate.h"

#include <algorithm>
#include <vector>

#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

// Not the mean: a turn that another process cut into is far off, and alone.
double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<int64_t>(values.size()) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// The rate over one turn.
absl::StatusOr<double> RateOf(const Work& work, int64_t slice_micros,
                              Clock* clock) {
  const int64_t start = clock->MonotonicMicros();
  double done = 0;
  int64_t elapsed = 0;
  do {
    ASSIGN_OR_RETURN(const double amount, work());
    done += amount;
    elapsed = clock->MonotonicMicros() - start;
  } while (elapsed < slice_micros);
  return done * 1e6 / static_cast<double>(elapsed);
}

}  // namespace

absl::StatusOr<PairedRate> MeasurePaired(const Work& work, const Work& yard,
                                         const PairedOptions& options,
                                         Clock* clock) {
  CHECK_GT(options.slice_micros, 0);
  CHECK_GT(options.pairs_min, 0);
  const int64_t start = clock->MonotonicMicros();
  std::vector<double> rates, yards, ratios;
  // The pair before the first has index -1: caches, page tables and the clock
  // of a core that slept settle in it.
  for (int64_t pair = -1; pair < options.pairs_max; ++pair) {
    if (pair >= options.pairs_min &&
        clock->MonotonicMicros() - start > options.micros_max) {
      break;
    }
    ASSIGN_OR_RETURN(const double rate,
                     RateOf(work, options.slice_micros, clock));
    double yard_rate = 0;
    if (yard) {
      ASSIGN_OR_RETURN(yard_rate, RateOf(yard, options.slice_micros, clock));
    }
    if (pair < 0) continue;
    rates.push_back(rate);
    yards.push_back(yard_rate);
    ratios.push_back(yard ? rate / yard_rate : 0);
  }
  PairedRate result;
  result.pairs = static_cast<int64_t>(ratios.size());
  result.per_second = Median(std::move(rates));
  result.yard_per_second = Median(std::move(yards));
  result.fraction = Median(std::move(ratios));
  return result;
}

}  // namespace temper
