// The sixteen barriers of a block; number 0 is that of __syncthreads().

#ifndef KERNELS_CUDA_SIMT_BARRIER_H_
#define KERNELS_CUDA_SIMT_BARRIER_H_

#include <cstdint>

#include "kernels/cuda/simt/thread.h"

namespace temper::simt {

inline constexpr uint32_t kBarriers = 16;
inline constexpr uint32_t kWholeBlock = 0;

// bar.sync: waits until `threads` have arrived at `barrier`, or every thread of
// the block that has not ended if kWholeBlock. Counts as the hardware does, by
// warps: one whose other lanes have ended counts in full. Fails by the name
//   "divergent barrier"  if lanes of a warp arrive from different lines;
//   "barrier misuse"     if the number is none of the sixteen, or the count is
//                        no multiple of 32 or another than who came before had.
void BarrierSync(uint32_t barrier, uint32_t threads, Where where);
// bar.arrive: the same without waiting. Not of a whole block.
void BarrierArrive(uint32_t barrier, uint32_t threads, Where where);

// By the block: when it begins, and when a thread of it has ended.
void BeginBarriers();
void EndThreadOfBarriers(const Thread& thread);

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_BARRIER_H_
