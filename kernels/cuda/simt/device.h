// The one header of a kernel's source. Under nvcc it is CUDA's own and our
// wrappers of PTX; under another compiler it is the emulator, which runs the
// same source without a GPU, a fiber for each CUDA thread (emulator.h). A
// kernel source
//   - has nothing on a kernel's stack that has a destructor;
//   - has PTX by these wrappers alone, and no branch on which compiler it is;
//   - writes alignas(n) before __shared__, not after it.
//
//   TEMPER_LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...)
//   TEMPER_DYNAMIC_SHARED(type, name);   a block's dynamic shared memory, by
//                                        1024 bytes aligned
// `stream` is a cudaStream_t or a void* that is one. A kernel that is an
// instance of a template with several arguments is named in parentheses.

#ifndef KERNELS_CUDA_SIMT_DEVICE_H_
#define KERNELS_CUDA_SIMT_DEVICE_H_

#ifdef __CUDACC__

#include "kernels/cuda/simt/ptx.h"

#define TEMPER_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  kernel<<<(grid), (block), (shared_bytes),                           \
           static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__)

#define TEMPER_DYNAMIC_SHARED(type, name)                           \
  extern __shared__ __align__(1024) unsigned char dynamic_shared[]; \
  type* const name = reinterpret_cast<type*>(dynamic_shared)

#else

#include "kernels/cuda/simt/launch.h"
#include "kernels/cuda/simt/words.h"
#include "kernels/cuda/simt/wrappers.h"

#define TEMPER_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  (static_cast<void>(stream),                                         \
   ::temper::simt::Launch(#kernel, kernel, grid, block,               \
                          (shared_bytes)__VA_OPT__(, ) __VA_ARGS__))

#define TEMPER_DYNAMIC_SHARED(type, name) \
  type* const name = reinterpret_cast<type*>(::temper::simt::DynamicShared())

#endif

#endif  // KERNELS_CUDA_SIMT_DEVICE_H_
