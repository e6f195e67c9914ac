// A running softmax over blocks of 64 keys, a head a warp, as attention of
// every operand type has it. For .cu files.

#ifndef KERNELS_CUDA_SOFTMAX_BLOCK_H_
#define KERNELS_CUDA_SOFTMAX_BLOCK_H_

#include <cstdint>

#include "kernels/cuda/device_math.h"

namespace temper::cuda {

// Of each head of a block.
template <int kHeads>
struct Softmax {
  float largest[kHeads];
  float sum[kHeads];
  float kept[kHeads];  // c: what the new maximum leaves of z
};

// One block of n scores of head h, by a whole warp: they become exponentials.
template <int kHeads>
__device__ inline void SoftmaxBlock(float scale, float* s, int n, int h,
                                    Softmax<kHeads>* run) {
  const int low = LaneOf(), high = low + kWarp;
  const float of_low = low < n ? s[low] * scale : 0.0f;
  const float of_high = high < n ? s[high] * scale : 0.0f;
  const float block =
      WarpMax(n, [&](int64_t i) { return i == low ? of_low : of_high; });
  const float before = run->largest[h];
  const float largest = block > before ? block : before;
  const float e_low = low < n ? Exp(of_low - largest) : 0.0f;
  const float e_high = high < n ? Exp(of_high - largest) : 0.0f;
  const float sum = WarpAddLanes(0.0f + e_low, 0.0f + e_high);
  if (low < n) s[low] = e_low;
  if (high < n) s[high] = e_high;
  __syncwarp();
  if (low != 0) return;
  const float c = Exp(before - largest);
  run->largest[h] = largest;
  run->sum[h] = Fma(run->sum[h], c, sum);
  run->kept[h] = c;
}

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_SOFTMAX_BLOCK_H_
