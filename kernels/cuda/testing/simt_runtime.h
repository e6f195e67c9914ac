// The runtime of tests: the emulator's memory (kernels/cuda/simt/emulator.h),
// whose launches have run when they return. What comes down lies in the host's
// buffer only once an event recorded later was waited for, as on a GPU.

#ifndef KERNELS_CUDA_TESTING_SIMT_RUNTIME_H_
#define KERNELS_CUDA_TESTING_SIMT_RUNTIME_H_

#include <memory>

#include "kernels/cuda/runtime.h"

namespace temper::cuda {

std::unique_ptr<Runtime> NewSimtRuntime();

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_TESTING_SIMT_RUNTIME_H_
