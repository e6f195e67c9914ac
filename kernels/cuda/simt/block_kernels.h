// Kernels that a block of plain CUDA words is tested by. Pointers are global
// memory; each call launches one grid and returns.

#ifndef KERNELS_CUDA_SIMT_BLOCK_KERNELS_H_
#define KERNELS_CUDA_SIMT_BLOCK_KERNELS_H_

#include <cstdint>

namespace temper::simt {

// The threads of a launch, blocks and threads of a block in three dimensions:
// each writes its indices and sizes at its place.
struct Place {
  uint32_t block[3], thread[3], grid[3], size[3];
};
void WritePlaces(Place* places);

// out[b] = the sum of values[b * 256 .. +256), by shared memory and shuffles.
void SumBlocks(const int* values, int blocks, int* out);

// out[i] = in[n - 1 - i] within each block's part of dynamic shared memory.
void ReverseBlocks(const uint32_t* in, int blocks, int threads, uint32_t* out);

// Threads from `alive` on leave before the barriers.
void CountAfterExit(int threads, int alive, int* out);

// Histogram of n values below 64, by atomics on shared, then global memory.
void Histogram(const int* values, int n, int blocks, int* counts);

// Waits for a flag of its own block that nobody sets.
void PollForever(int* flag);
// Thread 0 waits for its neighbour, which waits with the rest for thread 0.
void WaitApart();
// A thread of a warp waits at one line, its neighbour at another.
void DivergeAtBarrier();

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_BLOCK_KERNELS_H_
