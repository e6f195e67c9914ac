// The device that the CUDA backend is tested on, by what is linked: the
// emulator (simt_runtime.cc), as every test does, or a GPU
// (gpu_test_runtime.cc), as the programs called .._on_gpu do, which
// tools/device takes to one.
//
// On the emulator launches have run when they return, and its memory is the
// host's (kernels/cuda/simt/emulator.h). What comes down lies in the host's
// buffer only once an event recorded later was waited for, as on a GPU.

#ifndef KERNELS_CUDA_TESTING_TEST_RUNTIME_H_
#define KERNELS_CUDA_TESTING_TEST_RUNTIME_H_

#include <cstdint>
#include <memory>

#include "kernels/cuda/runtime.h"

namespace temper::cuda {

// CHECKs that there is one. The emulator's blocks and threads run in the order
// of `schedule` from now on; a GPU has its own.
std::unique_ptr<Runtime> NewTestRuntime(uint64_t schedule = 0);

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_TESTING_TEST_RUNTIME_H_
