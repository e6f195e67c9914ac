// What tests of kernels share.

#ifndef KERNELS_CUDA_SIMT_TESTING_H_
#define KERNELS_CUDA_SIMT_TESTING_H_

#include <cstddef>
#include <type_traits>

#include "kernels/cuda/simt/emulator.h"

namespace temper::simt {

// An array in global memory, which the host reads and writes as its own.
template <typename T>
class GlobalArray {
 public:
  static_assert(std::is_trivially_copyable_v<T>);
  explicit GlobalArray(size_t size)
      : data_(static_cast<T*>(AllocateGlobal(size * sizeof(T)))), size_(size) {}
  ~GlobalArray() { FreeGlobal(data_); }
  GlobalArray(const GlobalArray&) = delete;
  GlobalArray& operator=(const GlobalArray&) = delete;

  T* data() { return Finished(); }
  size_t size() const { return size_; }
  T* begin() { return Finished(); }
  T* end() { return Finished() + size_; }
  T& operator[](size_t i) { return Finished()[i]; }

 private:
  T* Finished() {
    FinishLaunches();
    return data_;
  }

  T* const data_;
  const size_t size_;
};

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_TESTING_H_
