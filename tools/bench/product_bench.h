// Times matrix products through the backend, against the machine's FMAs; one
// row's product, which every weight is read for once, against its memory.

#ifndef TOOLS_BENCH_PRODUCT_BENCH_H_
#define TOOLS_BENCH_PRODUCT_BENCH_H_

#include "absl/status/statusor.h"
#include "kernels/base/clock.h"
#include "kernels/cpu/machine_peak.h"
#include "kernels/ops/backend.h"
#include "kernels/tensor/dtype.h"
#include "tools/bench/measurement.h"

namespace temper {

// `peak` may be null: then there is none to be held against.
// ResourceExhausted where the machine lacks the memory for a set of weights
// that is twice its last cache, or 256 MiB where that is more or unknown.
absl::StatusOr<Measurements> BenchProducts(Backend* backend, MachinePeak* peak,
                                           DType operand, Clock* clock);

}  // namespace temper

#endif  // TOOLS_BENCH_PRODUCT_BENCH_H_
