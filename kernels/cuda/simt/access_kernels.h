// Kernels whose accesses are wrong, each in its way, or right where one might
// think otherwise.

#ifndef KERNELS_CUDA_SIMT_ACCESS_KERNELS_H_
#define KERNELS_CUDA_SIMT_ACCESS_KERNELS_H_

#include <cstdint>

namespace temper::simt {

// out[at] = in[at] by one thread.
void CopyOne(const float* in, float* out, long at);
// A vector of four from `in`, `skip` floats on.
void CopyVector(const float* in, int skip, float* out);
// Writes word `at` of `bytes` of dynamic shared memory, then reads it.
void TouchShared(int bytes, int at, uint32_t* out);
// Reads shared memory of which a byte was never written.
void ReadHalfWritten(uint32_t* out);
// Two threads write one word, the same value.
void WriteTheSame(int* out);
// Neighbours write the bytes of a word, and read them after a barrier.
void WriteNeighbours(uint32_t* out);
// Each thread hands a pointer to its own stack to the next.
void ReadAnothersStack(int* out);
// A struct by value, and a table of the program's.
struct Pair {
  int first[5];
  int second;
};
void ReadArguments(const Pair& pair, int* out);
// A loop over a plain load, for which nobody stores.
void WaitForPlainLoad(const volatile int* flag);
// The same of a flag that another thread of the block sets.
void WaitForPlainStore(volatile int* flag);

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_ACCESS_KERNELS_H_
