// The memories of the emulated device: a block's shared memory, and the
// allocations of global memory.
//
// Not thread-safe.

#ifndef KERNELS_CUDA_SIMT_MEMORY_H_
#define KERNELS_CUDA_SIMT_MEMORY_H_

#include <cstddef>
#include <cstdint>

namespace temper::simt {

// What a block of sm_90 can have.
inline constexpr size_t kSharedBytesMax = 227 << 10;
inline constexpr size_t kSharedAlignment = 1024;
// What memory holds that nobody has written: NaN in every type of float.
inline constexpr unsigned char kPoison = 0xff;

// Gives the launch its dynamic shared memory: of exactly that size, so that
// AddressSanitizer sees what lies beyond.
void BeginLaunch(size_t shared_bytes);
void EndLaunch();
// By the block, when it begins: its shared memory, static too, is poison.
void PoisonShared();

unsigned char* DynamicShared();

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_MEMORY_H_
