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
// By the block, when it begins: nobody has written its shared memory, and the
// dynamic part holds poison.
void BeginMemory();

unsigned char* DynamicShared();

// A stretch of addresses.
struct Region {
  uintptr_t low = 0;
  size_t bytes = 0;

  bool Holds(uintptr_t at, size_t count) const {
    return at - low < bytes && count <= bytes - (at - low);
  }
};

// The allocation of global memory that holds `at`, or the last below it; of no
// bytes if there is none.
Region AllocationAt(uintptr_t at);
Region DynamicRegion();
// Where static shared memory lies, among what else is thread-local.
Region StaticRegion();

// Where in shared memory, static before dynamic, `at` lies. It does.
size_t SharedOffset(uintptr_t at);

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_MEMORY_H_
