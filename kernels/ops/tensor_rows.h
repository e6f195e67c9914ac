// Typed views of a device's tensors. Each CHECKs type, rank, device and that
// the last axis is dense; other axes may be strided.

#ifndef KERNELS_OPS_TENSOR_ROWS_H_
#define KERNELS_OPS_TENSOR_ROWS_H_

#include <cstdint>

#include "kernels/base/log.h"
#include "kernels/ops/rows.h"
#include "kernels/tensor/tensor.h"

namespace temper {

template <typename T, Device kDevice = Device::kCpu>
Rows<T> AsRows(const Tensor& x) {
  CHECK(x.device() == kDevice) << x.DebugString();
  CHECK_EQ(x.rank(), 2) << x.DebugString();
  CHECK(x.stride(1) == 1 || x.dim(1) <= 1) << x.DebugString();
  return {x.as<T>(), x.dim(0), x.dim(1), x.stride(0)};
}

template <typename T, Device kDevice = Device::kCpu>
GroupedRows<T> AsGroupedRows(const Tensor& x) {
  CHECK(x.device() == kDevice) << x.DebugString();
  CHECK_EQ(x.rank(), 3) << x.DebugString();
  CHECK(x.stride(2) == 1 || x.dim(2) <= 1) << x.DebugString();
  return {x.as<T>(), x.dim(0), x.dim(1), x.dim(2), x.stride(0), x.stride(1)};
}

// A dense vector of exactly `count` elements (any count if negative).
template <typename T, Device kDevice = Device::kCpu>
T* AsVector(const Tensor& x, int64_t count) {
  CHECK(x.device() == kDevice) << x.DebugString();
  CHECK_EQ(x.rank(), 1) << x.DebugString();
  CHECK(x.dim(0) <= 1 || x.stride(0) == 1) << x.DebugString();
  if (count >= 0) CHECK_EQ(x.dim(0), count) << x.DebugString();
  return x.as<T>();
}

}  // namespace temper

#endif  // KERNELS_OPS_TENSOR_ROWS_H_
