// Tensor maps as the driver makes them; the emulator's are in tensor_copy.h.
// Included by ptx.h alone.

#ifndef KERNELS_CUDA_SIMT_CUDA_TENSOR_MAP_H_
#define KERNELS_CUDA_SIMT_CUDA_TENSOR_MAP_H_

#include <cuda.h>
#include <cuda_runtime.h>

#include "kernels/cuda/simt/tensor_map.h"

namespace temper::simt {

using TensorMap = CUtensorMap;

// False where the driver refuses the shape, or is not there. The driver's
// library is not linked: a program that starts has to start without it.
inline bool MakeTensorMap(const void* base, const TensorShape& shape,
                          TensorMap* map) {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000,
                                       cudaEnableDefault,
                                       &found) != cudaSuccess ||
      found != cudaDriverEntryPointSuccess) {
    return false;
  }
  constexpr CUtensorMapDataType kTypes[] = {CU_TENSOR_MAP_DATA_TYPE_UINT8,
                                            CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                                            CU_TENSOR_MAP_DATA_TYPE_FLOAT32};
  constexpr CUtensorMapSwizzle kSwizzles[] = {
      CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_32B,
      CU_TENSOR_MAP_SWIZZLE_64B, CU_TENSOR_MAP_SWIZZLE_128B};
  cuuint64_t sizes[kTensorRankMax];
  cuuint64_t strides[kTensorRankMax];
  cuuint32_t box[kTensorRankMax];
  cuuint32_t steps[kTensorRankMax];
  for (int i = 0; i < kTensorRankMax; ++i) {
    sizes[i] = shape.sizes[i];
    strides[i] = i + 1 < kTensorRankMax ? shape.stride_bytes[i] : 0;
    box[i] = shape.box[i];
    steps[i] = 1;
  }
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry)(
             map, kTypes[static_cast<int>(shape.type)], shape.rank,
             const_cast<void*>(base), sizes, strides, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE,
             kSwizzles[static_cast<int>(shape.swizzle)],
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_CUDA_TENSOR_MAP_H_
