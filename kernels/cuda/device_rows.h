// Views of the GPU's tensors, typed and CHECKed, and pieces of an operation's
// scratch. Internal to the backend.

#ifndef KERNELS_CUDA_DEVICE_ROWS_H_
#define KERNELS_CUDA_DEVICE_ROWS_H_

#include <cstdint>

#include "kernels/base/log.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/pointwise.h"
#include "kernels/ops/attention_arguments.h"
#include "kernels/ops/tensor_rows.h"
#include "kernels/tensor/tensor.h"

namespace temper::cuda {

template <typename T>
Rows<T> RowsOf(const Tensor& x) {
  return AsRows<T, Device::kCuda>(x);
}
template <typename T>
GroupedRows<T> GroupedRowsOf(const Tensor& x) {
  return AsGroupedRows<T, Device::kCuda>(x);
}
template <typename T>
T* VectorOf(const Tensor& x) {
  return AsVector<T, Device::kCuda>(x, -1);
}

// Any axes and strides.
View ViewOf(const Tensor& x);
// [M, ..] whose trailing axes lie densely.
TypedRows TypedRowsOf(const Tensor& x);
// How an element of `from` becomes one of `to`.
Element ElementOf(const Tensor& from, const Tensor& to);
Keys KeysOf(const KeyMap& map, int64_t rows, uint32_t* fault);

// Where pieces of one operation's scratch lie: all are added, then found.
class ScratchPlan {
 public:
  template <typename T>
  struct Piece {
    int64_t offset;
    T* in(char* scratch) const {
      return reinterpret_cast<T*>(scratch + offset);
    }
  };

  template <typename T>
  Piece<T> Add(int64_t count) {
    const Piece<T> piece = {bytes_};
    constexpr int64_t kAlignment = 256;
    const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
    bytes_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return piece;
  }
  int64_t bytes() const { return bytes_; }

 private:
  int64_t bytes_ = 0;
};

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_DEVICE_ROWS_H_
