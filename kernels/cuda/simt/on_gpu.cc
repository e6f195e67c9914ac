// The emulator's place on a GPU: its tests of single instructions, linked with
// nvcc's kernels, hold the GPU to what the emulator does. Where one fails
// there, it is the emulator that is to be mended.

#include <cuda_runtime.h>

#include <cstring>

#include "kernels/base/log.h"
#include "kernels/cuda/simt/emulator.h"

namespace temper::simt {

// A GPU has its own orders.
void SetSchedule(uint64_t) {}

void* AllocateGlobal(size_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaMallocManaged(&memory, bytes);
  CHECK(error == cudaSuccess) << cudaGetErrorString(error);
  std::memset(memory, 0xff, bytes);
  return memory;
}

void FreeGlobal(void* memory) {
  FinishLaunches();
  cudaFree(memory);
}

void FinishLaunches() {
  // Of the launch itself, then of what it did.
  cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) error = cudaDeviceSynchronize();
  CHECK(error == cudaSuccess) << cudaGetErrorString(error);
}

// Nothing is caught: what tests misuse is not to be run here.
FailureCatcher::FailureCatcher() = default;
FailureCatcher::~FailureCatcher() = default;

}  // namespace temper::simt
