// Rows of memory as plain data: what an operation's loops and a device's
// kernels are handed. Nothing here checks or owns (kernels/ops/tensor_rows.h
// makes them of tensors), and nothing of Abseil, so that kernels can include
// it.

#ifndef KERNELS_OPS_ROWS_H_
#define KERNELS_OPS_ROWS_H_

#include <cstdint>

namespace temper {

// [rows, columns], each row dense.
template <typename T>
struct Rows {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t stride = 0;
  T* row(int64_t i) const { return data + i * stride; }
};

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

}  // namespace temper

#endif  // KERNELS_OPS_ROWS_H_
