// Lays tensors out one after the other in one buffer, 64-byte aligned. Without
// a buffer it only counts, so that a plan and the layout cannot disagree. The
// buffer is the caller's and outlives the tensors.
//
// Not thread-safe. Never fails: whether the buffer is large enough is for the
// caller to see to.

#ifndef KERNELS_MODEL_ARENA_H_
#define KERNELS_MODEL_ARENA_H_

#include <cstdint>
#include <initializer_list>

#include "kernels/tensor/tensor.h"

namespace temper {

class Arena {
 public:
  Arena() = default;  // counts
  Arena(void* base, Device device)
      : base_(static_cast<char*>(base)), device_(device) {}

  // The next tensor, row-major; empty if the arena only counts. Whoever lays
  // out more than the buffer holds has a bug: compare bytes() first.
  Tensor Take(DType dtype, std::initializer_list<int64_t> shape) {
    int64_t bytes = static_cast<int64_t>(DTypeBytes(dtype));
    for (const int64_t size : shape) bytes *= size;
    const int64_t begin = bytes_;
    bytes_ += (bytes + kAlign - 1) / kAlign * kAlign;
    if (base_ == nullptr) return Tensor();
    return Tensor(base_ + begin, dtype, shape, device_);
  }
  Tensor F32(std::initializer_list<int64_t> shape) {
    return Take(DType::kF32, shape);
  }
  Tensor I32(std::initializer_list<int64_t> shape) {
    return Take(DType::kI32, shape);
  }

  int64_t bytes() const { return bytes_; }

 private:
  static constexpr int64_t kAlign = 64;

  char* base_ = nullptr;
  Device device_ = Device::kCpu;
  int64_t bytes_ = 0;
};

}  // namespace temper

#endif  // KERNELS_MODEL_ARENA_H_
