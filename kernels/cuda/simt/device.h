// The one header of a kernel's source. Under nvcc it is CUDA's own and our
// wrappers of PTX; under another compiler it is the emulator, which runs the
// same source without a GPU, a fiber for each CUDA thread (emulator.h). A
// kernel source
//   - has nothing on a kernel's stack that has a destructor;
//   - has PTX by these wrappers alone, and no branch on which compiler it is;
//   - writes alignas(n) before __shared__, not after it.
//
//   TEMPER_LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...)
//                                        shared_bytes: up to a block's 227 KiB
//   TEMPER_DYNAMIC_SHARED(type, name);   a block's dynamic shared memory, by
//                                        1024 bytes aligned
//   TEMPER_UNROLL                        before a loop over registers, whose
//                                        every index has to be a constant
// `stream` is a cudaStream_t or a void* that is one. A kernel that is an
// instance of a template with several arguments is named in parentheses.

#ifndef KERNELS_CUDA_SIMT_DEVICE_H_
#define KERNELS_CUDA_SIMT_DEVICE_H_

#ifdef __CUDACC__

#include "kernels/cuda/simt/ptx.h"

namespace temper::simt {

// More dynamic shared memory than every kernel may have is to be asked for.
template <typename Kernel>
void AllowShared(Kernel* kernel, size_t bytes) {
  if (bytes <= 48 << 10) return;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                       static_cast<int>(bytes));
}

}  // namespace temper::simt

#define TEMPER_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  (::temper::simt::AllowShared(kernel, (shared_bytes)),               \
   kernel<<<(grid), (block), (shared_bytes),                          \
            static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__))

#define TEMPER_UNROLL _Pragma("unroll")

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

#define TEMPER_UNROLL

#define TEMPER_DYNAMIC_SHARED(type, name) \
  type* const name = reinterpret_cast<type*>(::temper::simt::DynamicShared())

#endif

#endif  // KERNELS_CUDA_SIMT_DEVICE_H_
