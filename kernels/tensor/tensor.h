// A view of memory on a device: pointer, type, shape, strides. Tensors never
// own and do no arithmetic; a Buffer (kernels/ops/backend.h) owns. Copying a
// Tensor copies the view. A default Tensor is empty: an optional operand that
// is not there.

#ifndef KERNELS_TENSOR_TENSOR_H_
#define KERNELS_TENSOR_TENSOR_H_

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "kernels/tensor/dtype.h"

namespace temper {

enum class Device : uint8_t { kCpu, kCuda };

class Tensor {
 public:
  static constexpr int kRankMax = 4;

  Tensor() = default;

  // Row-major view of `data`.
  Tensor(void* data, DType dtype, std::initializer_list<int64_t> shape,
         Device device = Device::kCpu);

  bool empty() const { return data_ == nullptr; }
  void* data() const { return data_; }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  int rank() const { return rank_; }
  int64_t dim(int axis) const;     // negative counts from the last
  int64_t stride(int axis) const;  // in elements
  int64_t elements() const;
  bool contiguous() const;

  // Elements [begin, end) of `axis`; same strides.
  Tensor Slice(int axis, int64_t begin, int64_t end) const;

  // Another row-major shape of a contiguous tensor. CHECKs the element count.
  Tensor Reshape(std::initializer_list<int64_t> shape) const;

  // [.., a*b, ..] seen as [.., a, b, ..]: splits `axis` into (outer, rest).
  Tensor Split(int axis, int64_t outer) const;

  // The same shape and strides over other memory.
  Tensor At(void* data, Device device) const;

  // First element, typed. CHECKs the type. Only a backend dereferences it.
  template <typename T>
  T* as() const {
    CheckType(DTypeOf<T>());
    return static_cast<T*>(data_);
  }

  // "f32[128, 64]", for messages.
  std::string DebugString() const;

 private:
  void CheckType(DType expected) const;

  void* data_ = nullptr;
  DType dtype_ = DType::kF32;
  Device device_ = Device::kCpu;
  int rank_ = 0;
  std::array<int64_t, kRankMax> shape_ = {};
  std::array<int64_t, kRankMax> stride_ = {};
};

}  // namespace temper

#endif  // KERNELS_TENSOR_TENSOR_H_
