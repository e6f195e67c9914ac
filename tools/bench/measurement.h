// What one line of `temper bench` says.

#ifndef TOOLS_BENCH_MEASUREMENT_H_
#define TOOLS_BENCH_MEASUREMENT_H_

#include <string>
#include <vector>

#include "tools/bench/paired_rate.h"

namespace temper {

struct Measurement {
  std::string name;       // "64 x 1024 x 1024"
  double per_second = 0;  // of `unit`
  std::string unit;       // "tokens", or that of the fraction
  PairedRate of_peak;     // FLOP or bytes a second against the machine's
  std::string peak_unit;  // "FLOP" or "B"
};

using Measurements = std::vector<Measurement>;

}  // namespace temper

#endif  // TOOLS_BENCH_MEASUREMENT_H_
