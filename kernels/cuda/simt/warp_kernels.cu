#include "kernels/cuda/simt/device.h"
#include "kernels/cuda/simt/warp_kernels.h"

namespace temper::simt {
namespace {

template <typename T>
__device__ T Shuffled(ShuffleWord word, uint32_t mask, T value, int by,
                      int width) {
  switch (word) {
    case ShuffleWord::kIndex:
      return __shfl_sync(mask, value, by, width);
    case ShuffleWord::kUp:
      return __shfl_up_sync(mask, value, by, width);
    case ShuffleWord::kDown:
      return __shfl_down_sync(mask, value, by, width);
    case ShuffleWord::kXor:
      return __shfl_xor_sync(mask, value, by, width);
  }
  return value;
}

__global__ void ShuffleKernel(ShuffleWord word, uint32_t mask, int by,
                              int width, const uint32_t* in, uint32_t* out32,
                              double* out64) {
  const unsigned lane = threadIdx.x;
  if ((mask >> lane & 1) == 0) return;
  const uint32_t value = in[lane];
  out32[lane] = Shuffled(word, mask, value, by, width);
  out64[lane] =
      Shuffled(word, mask, static_cast<double>(value) * 0x1p40, by, width);
}

__global__ void VoteKernel(int alive, const int* in, uint32_t* out) {
  const int lane = threadIdx.x;
  if (lane >= alive) return;
  const uint32_t ballot = __ballot_sync(0xffffffffu, in[lane]);
  const int any = __any_sync(0xffffffffu, in[lane]);
  const int all = __all_sync(0xffffffffu, in[lane]);
  if (lane == 0) {
    out[0] = ballot;
    out[1] = any;
    out[2] = all;
  }
}

__global__ void EvenOddKernel(const int* in, int* out) {
  const int lane = threadIdx.x;
  int sum = in[lane];
  if (lane % 2 == 0) {
    for (int by = 16; by >= 2; by /= 2) {
      sum += __shfl_xor_sync(0x55555555u, sum, by);
    }
  } else {
    for (int by = 2; by <= 16; by *= 2) {
      sum += __shfl_xor_sync(0xaaaaaaaau, sum, by);
    }
  }
  out[lane] = sum;
}

__global__ void TwoOperationsKernel() {
  if (threadIdx.x % 2 == 0) {
    __shfl_sync(0xffffffffu, 1, 0);
  } else {
    __ballot_sync(0xffffffffu, 1);
  }
}

__global__ void TwoMasksKernel() {
  if (threadIdx.x == 0) {
    __syncwarp(0x00000003u);
  } else {
    __syncwarp(0x0000ffffu);
  }
}

__global__ void FewLanesKernel() {
  if (threadIdx.x >= 30) return;
  float d[4] = {};
  const uint32_t a[4] = {}, b[2] = {};
  MmaBf16(d, a, b);
}

__global__ void NamedBarrierKernel(int* out) {
  __shared__ int last[2];
  const unsigned half = threadIdx.x / 64;
  if (half == 0) {
    if (threadIdx.x == 63) last[0] = 63;
    NamedBarrierSync(1, 64);
    out[threadIdx.x] = last[0];
    NamedBarrierSync(2, 128);  // for what the second half only announces
    if (threadIdx.x == 0) out[128] = last[1];
  } else {
    if (threadIdx.x == 127) last[1] = 127;
    NamedBarrierArrive(2, 128);
    NamedBarrierSync(3, 64);
    out[threadIdx.x] = last[1];
  }
}

}  // namespace

void ShuffleLanes(ShuffleWord word, uint32_t mask, int by, int width,
                  const uint32_t* in, uint32_t* out32, double* out64) {
  TEMPER_LAUNCH(ShuffleKernel, 1, 32, 0, nullptr, word, mask, by, width, in,
                out32, out64);
}

void VoteOfTheAlive(int alive, const int* in, uint32_t* out) {
  TEMPER_LAUNCH(VoteKernel, 1, 32, 0, nullptr, alive, in, out);
}

void SumEvenAndOdd(const int* in, int* out) {
  TEMPER_LAUNCH(EvenOddKernel, 1, 32, 0, nullptr, in, out);
}

void MeetInTwoOperations() {
  TEMPER_LAUNCH(TwoOperationsKernel, 1, 32, 0, nullptr);
}

void MeetWithTwoMasks() { TEMPER_LAUNCH(TwoMasksKernel, 1, 16, 0, nullptr); }

void MultiplyWithoutAllLanes() {
  TEMPER_LAUNCH(FewLanesKernel, 1, 32, 0, nullptr);
}

void TellByNamedBarriers(int* out) {
  TEMPER_LAUNCH(NamedBarrierKernel, 1, 128, 0, nullptr, out);
}

}  // namespace temper::simt
