// What a block of threads finds out together about flags and numbers, a
// thread's each. For .cu files; all threads of the block call, and may call
// again at once.

#ifndef KERNELS_CUDA_BLOCK_SCAN_H_
#define KERNELS_CUDA_BLOCK_SCAN_H_

#include <cstdint>

#include "kernels/cuda/device_math.h"

namespace temper::cuda {

// Room in shared memory for a block of kThreads.
template <int kThreads>
struct ScanRoom {
  int of_warp[kThreads / kWarp];
};

// How many threads before this one have the flag; *total: of all.
template <int kThreads>
__device__ inline int CountBefore(bool flag, ScanRoom<kThreads>* room,
                                  int* total) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const unsigned mask = __ballot_sync(kAllLanes, flag);
  if (LaneOf() == 0) room->of_warp[warp] = __popc(mask);
  __syncthreads();
  int before = __popc(mask & ((1u << LaneOf()) - 1u));
  *total = 0;
  for (int w = 0; w < kThreads / kWarp; ++w) {
    if (w < warp) before += room->of_warp[w];
    *total += room->of_warp[w];
  }
  __syncthreads();
  return before;
}

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_BLOCK_SCAN_H_
