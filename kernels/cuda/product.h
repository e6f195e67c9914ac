// Launches of products of floats: every output is one chain of FMAs over the
// depth, ascending, whatever the tile. All enqueue and return; operands were
// checked.

#ifndef KERNELS_CUDA_PRODUCT_H_
#define KERNELS_CUDA_PRODUCT_H_

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace temper::cuda {

// c[g][i, j] = (goes_on ? c[g][i, j] : +0) + sum_k a[g][i, k] b[g][k, j], with
// strides in elements. Where there are `offsets` [groups + 1], they cut `cuts`
// for each group: its rows of a and c, or the depth of a and b, are those from
// offsets[g] on, and what does not tile `cut` of them sets the fault kOffsets
// and does nothing.
struct Product {
  enum class Cut : uint8_t { kNone, kRows, kDepth };

  const float* a = nullptr;
  int64_t a_row = 0, a_k = 1, a_group = 0;
  const float* b = nullptr;
  int64_t b_k = 0, b_column = 1, b_group = 0;
  float* c = nullptr;
  int64_t c_row = 0, c_group = 0;
  int64_t rows = 0, columns = 0, depth = 0, groups = 1;
  bool goes_on = false;
  // Terms whose a has the bits of kAbsent are left out of the chain.
  bool skips_absent = false;
  Cut cut = Cut::kNone;
  const int32_t* offsets = nullptr;
  uint32_t* fault = nullptr;
  // Nothing is done where this is set.
  const uint32_t* unless = nullptr;
};
// A NaN that no arithmetic makes.
inline constexpr uint32_t kAbsent = 0x7FADE000u;

void Multiply(const Product& product, Stream stream);

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_PRODUCT_H_
