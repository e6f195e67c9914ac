// Any tensor as dense rows: the trailing axes that lie densely, joined, are a
// row; the leading axes count rows. What elementwise operations loop over.

#ifndef KERNELS_CPU_ROW_WALK_H_
#define KERNELS_CPU_ROW_WALK_H_

#include <cstdint>

#include "kernels/tensor/tensor.h"

namespace temper {

class RowWalk {
 public:
  // Joins trailing axes, but leaves at least `leading_axes` to count rows.
  explicit RowWalk(const Tensor& x, int leading_axes = 0) : x_(x) {
    int axis = x.rank();
    row_elements_ = x.empty() ? 0 : 1;
    while (axis > leading_axes) {
      const bool dense =
          x.dim(axis - 1) == 1 || x.stride(axis - 1) == row_elements_;
      if (!dense) break;
      row_elements_ *= x.dim(--axis);
    }
    axes_ = axis;
    rows_ = x.empty() ? 0 : 1;
    for (int i = 0; i < axes_; ++i) rows_ *= x.dim(i);
  }

  int64_t rows() const { return rows_; }
  int64_t row_elements() const { return row_elements_; }
  int64_t row_bytes() const {
    return row_elements_ * static_cast<int64_t>(DTypeBytes(x_.dtype()));
  }

  char* row(int64_t index) const {
    int64_t offset = 0;
    for (int axis = axes_ - 1; axis >= 0; --axis) {
      offset += index % x_.dim(axis) * x_.stride(axis);
      index /= x_.dim(axis);
    }
    return static_cast<char*>(x_.data()) +
           offset * static_cast<int64_t>(DTypeBytes(x_.dtype()));
  }

  // The row of a tensor of floats.
  float* floats(int64_t index) const {
    return reinterpret_cast<float*>(row(index));
  }

  // Whether the other tensor is cut the same way.
  bool SameCut(const RowWalk& other) const {
    return rows_ == other.rows_ && row_elements_ == other.row_elements_;
  }

  // Leading axes that count rows; the largest of several walks aligns them.
  int leading_axes() const { return axes_; }

 private:
  Tensor x_;
  int axes_ = 0;
  int64_t rows_ = 0;
  int64_t row_elements_ = 0;
};

}  // namespace temper

#endif  // KERNELS_CPU_ROW_WALK_H_
