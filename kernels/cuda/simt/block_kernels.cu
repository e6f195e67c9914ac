#include "kernels/cuda/simt/block_kernels.h"
#include "kernels/cuda/simt/device.h"

namespace temper::simt {
namespace {

__global__ void PlacesKernel(Place* places) {
  const unsigned block =
      blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread =
      threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned size = blockDim.x * blockDim.y * blockDim.z;
  places[block * size + thread] = {{blockIdx.x, blockIdx.y, blockIdx.z},
                                   {threadIdx.x, threadIdx.y, threadIdx.z},
                                   {gridDim.x, gridDim.y, gridDim.z},
                                   {blockDim.x, blockDim.y, blockDim.z}};
}

template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    SumKernel(const int* __restrict__ values, int* __restrict__ out) {
  __shared__ int sums[kThreads / 32];
  int sum = __ldg(values + blockIdx.x * kThreads + threadIdx.x);
  for (int by = 16; by > 0; by /= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, by);
  }
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    int total = 0;
    for (int warp = 0; warp < kThreads / 32; ++warp) total += sums[warp];
    out[blockIdx.x] = total;
  }
}

__global__ void ReverseKernel(const uint32_t* in, uint32_t* out) {
  TEMPER_DYNAMIC_SHARED(uint32_t, part);
  const unsigned first = blockIdx.x * blockDim.x;
  part[threadIdx.x] = in[first + threadIdx.x];
  __syncthreads();
  out[first + threadIdx.x] = part[blockDim.x - 1 - threadIdx.x];
}

__global__ void ExitKernel(int alive, int* out) {
  __shared__ int count;
  if (threadIdx.x >= static_cast<unsigned>(alive)) return;
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  atomicAdd(&count, 1);
  __syncthreads();
  out[threadIdx.x] = count;
}

__global__ void HistogramKernel(const int* values, int n, int* counts) {
  __shared__ int local[64];
  if (threadIdx.x < 64) local[threadIdx.x] = 0;
  __syncthreads();
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
       i < static_cast<unsigned>(n); i += gridDim.x * blockDim.x) {
    atomicAdd(&local[values[i]], 1);
  }
  __syncthreads();
  if (threadIdx.x < 64) atomicAdd(&counts[threadIdx.x], local[threadIdx.x]);
}

__global__ void PollKernel(int* flag) {
  while (atomicAdd(flag, 0) == 0) {
  }
}

__global__ void ApartKernel() {
  if (threadIdx.x == 0) __syncwarp(0x00000003u);
  __syncthreads();
}

__global__ void DivergeKernel() {
  if (threadIdx.x % 2 == 0) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

}  // namespace

void WritePlaces(Place* places) {
  TEMPER_LAUNCH(PlacesKernel, dim3(3, 2, 2), dim3(5, 3, 2), 0, nullptr, places);
}

void SumBlocks(const int* values, int blocks, int* out) {
  TEMPER_LAUNCH(SumKernel<256>, blocks, 256, 0, nullptr, values, out);
}

void ReverseBlocks(const uint32_t* in, int blocks, int threads, uint32_t* out) {
  TEMPER_LAUNCH(ReverseKernel, blocks, threads, threads * sizeof(uint32_t),
                nullptr, in, out);
}

void CountAfterExit(int threads, int alive, int* out) {
  TEMPER_LAUNCH(ExitKernel, 1, threads, 0, nullptr, alive, out);
}

void Histogram(const int* values, int n, int blocks, int* counts) {
  TEMPER_LAUNCH(HistogramKernel, blocks, 128, 0, nullptr, values, n, counts);
}

void PollForever(int* flag) {
  TEMPER_LAUNCH(PollKernel, 1, 64, 0, nullptr, flag);
}

void WaitApart() { TEMPER_LAUNCH(ApartKernel, 1, 64, 0, nullptr); }

void DivergeAtBarrier() { TEMPER_LAUNCH(DivergeKernel, 1, 64, 0, nullptr); }

}  // namespace temper::simt
