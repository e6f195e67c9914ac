// What the CPU backend's loops have beside typed views of tensors: rows of keys
// of either type, and how many rows are worth a thread.

#ifndef KERNELS_CPU_ROWS_H_
#define KERNELS_CPU_ROWS_H_

#include <algorithm>
#include <cstdint>

#include "kernels/ops/tensor_rows.h"
#include "kernels/tensor/tensor.h"

namespace temper {

// Rows below which a second thread costs more than it saves, where one is worth
// `elements` of plain arithmetic.
inline int64_t RowGrain(int64_t elements) {
  constexpr int64_t kGrainElements = 8192;
  return std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, elements));
}

// Rows of floats, or of bf16 as their bits: which of the two says which product
// takes them.
struct Strip {
  const float* floats = nullptr;
  const uint16_t* narrow = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t stride = 0;
};

inline Strip AsStrip(const Tensor& x) {
  Strip strip;
  if (x.dtype() == DType::kBF16) {
    const auto rows = AsRows<const BF16>(x);
    static_assert(sizeof(BF16) == sizeof(uint16_t));
    strip.narrow = reinterpret_cast<const uint16_t*>(rows.data);
  } else {
    strip.floats = AsRows<const float>(x).data;
  }
  strip.rows = x.dim(0);
  strip.columns = x.dim(1);
  strip.stride = x.stride(0);
  return strip;
}

}  // namespace temper

#endif  // KERNELS_CPU_ROWS_H_
