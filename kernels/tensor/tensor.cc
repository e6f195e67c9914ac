#include "kernels/tensor/tensor.h"

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"

namespace temper {

Tensor::Tensor(void* data, DType dtype, std::initializer_list<int64_t> shape,
               Device device)
    : data_(data),
      dtype_(dtype),
      device_(device),
      rank_(static_cast<int>(shape.size())) {
  CHECK_LE(rank_, kRankMax);
  int axis = 0;
  for (const int64_t size : shape) {
    CHECK_GE(size, 0);
    shape_[axis++] = size;
  }
  int64_t stride = 1;
  for (axis = rank_ - 1; axis >= 0; --axis) {
    stride_[axis] = stride;
    stride *= shape_[axis];
  }
}

int64_t Tensor::dim(int axis) const {
  if (axis < 0) axis += rank_;
  CHECK(axis >= 0 && axis < rank_) << "axis " << axis << " of rank " << rank_;
  return shape_[axis];
}

int64_t Tensor::stride(int axis) const {
  if (axis < 0) axis += rank_;
  CHECK(axis >= 0 && axis < rank_) << "axis " << axis << " of rank " << rank_;
  return stride_[axis];
}

int64_t Tensor::elements() const {
  int64_t count = empty() ? 0 : 1;
  for (int axis = 0; axis < rank_; ++axis) count *= shape_[axis];
  return count;
}

bool Tensor::contiguous() const {
  int64_t stride = 1;
  for (int axis = rank_ - 1; axis >= 0; --axis) {
    if (shape_[axis] != 1 && stride_[axis] != stride) return false;
    stride *= shape_[axis];
  }
  return true;
}

Tensor Tensor::Slice(int axis, int64_t begin, int64_t end) const {
  if (axis < 0) axis += rank_;
  CHECK(begin >= 0 && begin <= end && end <= dim(axis))
      << "[" << begin << ", " << end << ") of " << DebugString();
  Tensor view = *this;
  view.shape_[axis] = end - begin;
  view.data_ = static_cast<char*>(data_) +
               begin * stride_[axis] * static_cast<int64_t>(DTypeBytes(dtype_));
  return view;
}

Tensor Tensor::Reshape(std::initializer_list<int64_t> shape) const {
  CHECK(contiguous()) << DebugString();
  Tensor view(data_, dtype_, shape, device_);
  CHECK_EQ(view.elements(), elements()) << DebugString();
  return view;
}

Tensor Tensor::Split(int axis, int64_t outer) const {
  if (axis < 0) axis += rank_;
  CHECK_LT(rank_, kRankMax);
  CHECK_EQ(dim(axis) % outer, 0) << DebugString();
  Tensor view = *this;
  for (int i = rank_; i > axis + 1; --i) {
    view.shape_[i] = shape_[i - 1];
    view.stride_[i] = stride_[i - 1];
  }
  const int64_t inner = shape_[axis] / outer;
  view.shape_[axis] = outer;
  view.shape_[axis + 1] = inner;
  view.stride_[axis] = stride_[axis] * inner;
  view.stride_[axis + 1] = stride_[axis];
  view.rank_ = rank_ + 1;
  return view;
}

Tensor Tensor::At(void* data, Device device) const {
  Tensor moved = *this;
  moved.data_ = data;
  moved.device_ = device;
  return moved;
}

std::string Tensor::DebugString() const {
  std::string text = absl::StrCat(DTypeName(dtype_), "[");
  for (int axis = 0; axis < rank_; ++axis) {
    absl::StrAppend(&text, axis ? ", " : "", shape_[axis]);
  }
  return text + "]";
}

void Tensor::CheckType(DType expected) const {
  CHECK(dtype_ == expected)
      << DebugString() << " read as " << DTypeName(expected);
}

}  // namespace temper
