// The device that the CUDA backend is tested on, by what is linked: the
// emulator (simt_runtime.cc), as every test does, or a GPU
// (gpu_test_runtime.cc), as the programs called .._on_gpu do, which
// tools/device takes to one.
//
// The emulator's memory is the host's (kernels/cuda/simt/emulator.h). What is
// enqueued runs when an event recorded later is waited for, and no earlier: a
// kernel, a copy down, and a copy up too, which takes what the host has there
// then. All of it has run before memory is freed. The whole process has one
// queue, of which one thread at a time has to do with.

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
