// Where the elements of a view lie. For .cu files.

#ifndef KERNELS_CUDA_DEVICE_VIEW_H_
#define KERNELS_CUDA_DEVICE_VIEW_H_

#include <cstdint>

#include "kernels/cuda/device_math.h"
#include "kernels/cuda/pointwise.h"

namespace temper::cuda {

// Of element i, row-major.
__device__ inline int64_t OffsetOf(const View& x, int64_t i) {
  int64_t offset = 0;
  for (int axis = 3; axis >= 0; --axis) {
    offset += i % x.dim[axis] * x.stride[axis];
    i /= x.dim[axis];
  }
  return offset;
}

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_DEVICE_VIEW_H_
