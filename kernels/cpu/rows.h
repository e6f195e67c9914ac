// Typed views of tensors for the CPU backend's loops. Each CHECKs type, rank,
// device and that the last axis is dense; other axes may be strided. And what
// an operation asks of its rows first.

#ifndef KERNELS_CPU_ROWS_H_
#define KERNELS_CPU_ROWS_H_

#include <algorithm>
#include <cstdint>

#include "kernels/base/log.h"
#include "kernels/tensor/tensor.h"

namespace temper {

// [rows, columns]
template <typename T>
struct Rows {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t stride = 0;
  T* row(int64_t i) const { return data + i * stride; }
};

template <typename A, typename B>
void CheckSameShape(const Rows<A>& a, const Rows<B>& b) {
  CHECK(a.rows == b.rows && a.columns == b.columns)
      << "[" << a.rows << ", " << a.columns << "] and [" << b.rows << ", "
      << b.columns << "]";
}

// Rows below which a second thread costs more than it saves, where one is worth
// `elements` of plain arithmetic.
inline int64_t RowGrain(int64_t elements) {
  constexpr int64_t kGrainElements = 8192;
  return std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, elements));
}

// [rows, groups, columns]
template <typename T>
struct GroupedRows {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t groups = 0;
  int64_t columns = 0;
  int64_t stride = 0;
  int64_t group_stride = 0;
  T* row(int64_t i, int64_t group) const {
    return data + i * stride + group * group_stride;
  }
};

template <typename T>
Rows<T> AsRows(const Tensor& x) {
  CHECK(x.device() == Device::kCpu) << x.DebugString();
  CHECK_EQ(x.rank(), 2) << x.DebugString();
  CHECK(x.stride(1) == 1 || x.dim(1) <= 1) << x.DebugString();
  return {x.as<T>(), x.dim(0), x.dim(1), x.stride(0)};
}

template <typename T>
GroupedRows<T> AsGroupedRows(const Tensor& x) {
  CHECK(x.device() == Device::kCpu) << x.DebugString();
  CHECK_EQ(x.rank(), 3) << x.DebugString();
  CHECK(x.stride(2) == 1 || x.dim(2) <= 1) << x.DebugString();
  return {x.as<T>(), x.dim(0), x.dim(1), x.dim(2), x.stride(0), x.stride(1)};
}

// A dense vector of exactly `count` elements (any count if negative).
template <typename T>
T* AsVector(const Tensor& x, int64_t count) {
  CHECK(x.device() == Device::kCpu) << x.DebugString();
  CHECK_EQ(x.rank(), 1) << x.DebugString();
  CHECK(x.dim(0) <= 1 || x.stride(0) == 1) << x.DebugString();
  if (count >= 0) CHECK_EQ(x.dim(0), count) << x.DebugString();
  return x.as<T>();
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
