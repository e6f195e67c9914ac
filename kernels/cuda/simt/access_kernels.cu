#include "kernels/cuda/simt/access_kernels.h"
#include "kernels/cuda/simt/device.h"

namespace temper::simt {
namespace {

__global__ void CopyOneKernel(const float* in, float* out, long at) {
  out[at] = in[at];
}

__global__ void CopyVectorKernel(const float* in, int skip, float* out) {
  *reinterpret_cast<float4*>(out) = *reinterpret_cast<const float4*>(in + skip);
}

__global__ void TouchSharedKernel(int at, uint32_t* out) {
  TEMPER_DYNAMIC_SHARED(uint32_t, words);
  words[at] = 7;
  *out = words[at];
}

__global__ void HalfWrittenKernel(uint32_t* out) {
  __shared__ uint8_t bytes[4];
  for (int i = 0; i < 3; ++i) bytes[i] = i;
  uint32_t sum = 0;
  for (int i = 0; i < 4; ++i) sum += bytes[i];
  *out = sum;
}

__global__ void SameKernel(int* out) {
  __shared__ int word;
  word = 1;
  __syncthreads();
  out[threadIdx.x] = word;
}

__global__ void NeighboursKernel(uint32_t* out) {
  alignas(4) __shared__ uint8_t bytes[64];
  bytes[threadIdx.x] = threadIdx.x;
  __syncthreads();
  if (threadIdx.x < 16) {
    out[threadIdx.x] = reinterpret_cast<const uint32_t*>(bytes)[threadIdx.x];
  }
}

__global__ void StackKernel(int* out) {
  __shared__ int* addresses[2];
  volatile int mine = static_cast<int>(threadIdx.x);
  addresses[threadIdx.x] = const_cast<int*>(&mine);
  __syncthreads();
  out[threadIdx.x] = *addresses[1 - threadIdx.x];
  __syncthreads();
}

__global__ void ArgumentsKernel(const __grid_constant__ Pair pair, int* out) {
  static constexpr int kTable[5] = {1, 10, 100, 1000, 10000};
  int sum = pair.second;
  for (unsigned i = threadIdx.x; i < 5; ++i) sum += kTable[i] * pair.first[i];
  *out = sum;
}

__global__ void PlainLoadKernel(const volatile int* flag) {
  while (*flag == 0) {
  }
}

__global__ void PlainStoreKernel(volatile int* flag) {
  if (threadIdx.x % 32 == 0) {
    while (*flag == 0) {
    }
  } else {
    *flag = 1;
  }
}

}  // namespace

void CopyOne(const float* in, float* out, long at) {
  TEMPER_LAUNCH(CopyOneKernel, 1, 1, 0, nullptr, in, out, at);
}

void CopyVector(const float* in, int skip, float* out) {
  TEMPER_LAUNCH(CopyVectorKernel, 1, 1, 0, nullptr, in, skip, out);
}

void TouchShared(int bytes, int at, uint32_t* out) {
  TEMPER_LAUNCH(TouchSharedKernel, 1, 1, bytes, nullptr, at, out);
}

void ReadHalfWritten(uint32_t* out) {
  TEMPER_LAUNCH(HalfWrittenKernel, 1, 1, 0, nullptr, out);
}

void WriteTheSame(int* out) {
  TEMPER_LAUNCH(SameKernel, 1, 2, 0, nullptr, out);
}

void WriteNeighbours(uint32_t* out) {
  TEMPER_LAUNCH(NeighboursKernel, 1, 64, 0, nullptr, out);
}

void ReadAnothersStack(int* out) {
  TEMPER_LAUNCH(StackKernel, 1, 2, 0, nullptr, out);
}

void ReadArguments(const Pair& pair, int* out) {
  TEMPER_LAUNCH(ArgumentsKernel, 1, 1, 0, nullptr, pair, out);
}

void WaitForPlainLoad(const volatile int* flag) {
  TEMPER_LAUNCH(PlainLoadKernel, 1, 1, 0, nullptr, flag);
}

void WaitForPlainStore(volatile int* flag) {
  TEMPER_LAUNCH(PlainStoreKernel, 1, 2, 0, nullptr, flag);
}

}  // namespace temper::simt
