// What the CPU backend's loops have beside typed views of tensors: rows of keys
// of any type, and how many rows are worth a thread.

#ifndef KERNELS_CPU_ROWS_H_
#define KERNELS_CPU_ROWS_H_

#include <algorithm>
#include <cstdint>

#include "kernels/ops/cache_rows.h"
#include "kernels/ops/tensor_rows.h"
#include "kernels/tensor/tensor.h"

namespace temper {

// Rows below which a second thread costs more than it saves, where one is worth
// `elements` of plain arithmetic.
inline int64_t RowGrain(int64_t elements) {
  constexpr int64_t kGrainElements = 8192;
  return std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, elements));
}

// Rows of floats, of bf16 as their bits, or of FP8 (kernels/ops/cache_rows.h):
// which of them says which product takes them.
struct Strip {
  const float* floats = nullptr;
  const uint16_t* narrow = nullptr;
  const uint8_t* bytes = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;  // elements of a row, or its latent and rotary ones
  int64_t stride = 0;   // elements; of bytes, to the next row or page
  int64_t rope = 0;     // of bytes: the columns that are bf16
  bool paged = false;   // of bytes: index pages

  // Whether products with them are of pairs.
  bool in_pairs() const { return narrow != nullptr || bytes != nullptr; }
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

inline const uint8_t* AsBytes(const Tensor& x) {
  static_assert(sizeof(F8E4M3) == 1);
  return reinterpret_cast<const uint8_t*>(AsRows<const F8E4M3>(x).data);
}

// Of a latent with `columns` elements a row, `rope` of them rotary.
inline Strip AsLatentStrip(const Tensor& x, int64_t columns, int64_t rope) {
  if (x.dtype() != DType::kF8E4M3) return AsStrip(x);
  return {.bytes = AsBytes(x),
          .rows = x.dim(0),
          .columns = columns,
          .stride = x.stride(0),
          .rope = rope};
}

// Of the indexer's keys, `dims` elements a row.
inline Strip AsIndexStrip(const Tensor& x, int64_t dims) {
  if (x.dtype() != DType::kF8E4M3) return AsStrip(x);
  return {.bytes = AsBytes(x),
          .rows = x.dim(0) * kIndexPageRows,
          .columns = dims,
          .stride = x.stride(0),
          .paged = true};
}

}  // namespace temper

#endif  // KERNELS_CPU_ROWS_H_
