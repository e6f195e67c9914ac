// What a bulk tensor copy knows of a tensor: where it lies, its sizes, the box
// that one copy moves, and how rows lie in shared memory.

#ifndef KERNELS_CUDA_SIMT_TENSOR_MAP_H_
#define KERNELS_CUDA_SIMT_TENSOR_MAP_H_

#include <cstdint>

namespace temper::simt {

// Which bits of an address in shared memory are mixed: 16-byte pieces of a row
// are exchanged so that rows below one another lie in different banks. A
// pattern repeats every 8 rows; a row is as wide as the swizzle.
enum class Swizzle { kNone, k32Bytes, k64Bytes, k128Bytes };

enum class ElementType { kByte, kBf16, kF32 };

inline constexpr int kTensorRankMax = 5;

// The innermost dimension comes first.
struct TensorShape {
  int rank = 0;
  uint64_t sizes[kTensorRankMax] = {};
  uint64_t stride_bytes[kTensorRankMax - 1] = {};  // of dimension 1 and up
  uint32_t box[kTensorRankMax] = {};
  ElementType type = ElementType::kByte;
  Swizzle swizzle = Swizzle::kNone;
};

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_TENSOR_MAP_H_
