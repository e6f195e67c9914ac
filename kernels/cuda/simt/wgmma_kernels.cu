#include "kernels/cuda/simt/device.h"
#include "kernels/cuda/simt/wgmma_kernels.h"

namespace temper::simt {
namespace {

__device__ void CopyImage(unsigned char* to, const OperandImage& image) {
  for (uint32_t i = threadIdx.x; i < image.size; i += blockDim.x) {
    to[i] = image.bytes[i];
  }
}

__device__ uint64_t DescriptorOf(const unsigned char* at,
                                 const OperandImage& image) {
  return DescribeMatrix(at + image.skip, image.leading_bytes,
                        image.stride_bytes, image.swizzle);
}

template <bool kE4m3, int kColumns, bool kRegisters, Major kA, Major kB>
__global__ void __launch_bounds__(128)
    WgmmaKernel(const __grid_constant__ WgmmaCase wgmma, float* d) {
  TEMPER_DYNAMIC_SHARED(unsigned char, shared);
  CopyImage(shared, wgmma.a);
  unsigned char* const b_at = shared + wgmma.a.size;
  CopyImage(b_at, wgmma.b);
  FenceProxyAsync();
  __syncthreads();
  float sum[kColumns / 2];
  float* const mine = d + threadIdx.x * (kColumns / 2);
  for (int i = 0; i < kColumns / 2; ++i) sum[i] = mine[i];
  const uint64_t a = DescriptorOf(shared, wgmma.a);
  const uint64_t b = DescriptorOf(b_at, wgmma.b);
  uint32_t registers[4] = {};
  if constexpr (kRegisters) {
    for (int i = 0; i < 4; ++i) {
      registers[i] = wgmma.a_registers[threadIdx.x * 4 + i];
    }
  }
  HoldRegisters(sum);
  HoldRegisters(registers);
  WgmmaFence();
  if constexpr (kRegisters) {
    if constexpr (kE4m3) {
      WgmmaE4m3<kColumns>(sum, registers, b, wgmma.accumulate);
    } else {
      WgmmaBf16<kColumns, kB>(sum, registers, b, wgmma.accumulate);
    }
  } else if constexpr (kE4m3) {
    WgmmaE4m3<kColumns>(sum, a, b, wgmma.accumulate);
  } else {
    WgmmaBf16<kColumns, kA, kB>(sum, a, b, wgmma.accumulate);
  }
  WgmmaCommit();
  WgmmaWait<0>();
  HoldRegisters(sum);
  for (int i = 0; i < kColumns / 2; ++i) mine[i] = sum[i];
}

template <bool kE4m3, int kColumns, bool kRegisters = false,
          Major kA = Major::kK, Major kB = Major::kK>
bool RunIf(const WgmmaCase& wgmma, float* d) {
  if (wgmma.e4m3 != kE4m3 || wgmma.columns != kColumns ||
      (wgmma.a_registers != nullptr) != kRegisters ||
      wgmma.a.by_rows != (kA == Major::kRow) ||
      wgmma.b.by_rows != (kB == Major::kRow)) {
    return false;
  }
  TEMPER_LAUNCH((WgmmaKernel<kE4m3, kColumns, kRegisters, kA, kB>), 1, 128,
                wgmma.a.size + wgmma.b.size, nullptr, wgmma, d);
  return true;
}

// Zeros for both operands: what is multiplied does not matter here.
__device__ uint64_t Zeros(unsigned char* shared) {
  for (int i = threadIdx.x; i < 8192; i += blockDim.x) shared[i] = 0;
  FenceProxyAsync();
  __syncthreads();
  return DescribeMatrix(shared, 16, 1024, Swizzle::k128Bytes);
}

__global__ void __launch_bounds__(128) InFlightKernel(InFlight what, float* d) {
  TEMPER_DYNAMIC_SHARED(unsigned char, shared);
  const uint64_t zeros = Zeros(shared);
  float first[4] = {1, 1, 1, 1}, second[4] = {2, 2, 2, 2};
  HoldRegisters(first);
  HoldRegisters(second);
  WgmmaFence();
  WgmmaBf16<8>(first, zeros, zeros, true);
  WgmmaCommit();
  WgmmaBf16<8>(second, zeros, zeros, true);
  WgmmaCommit();
  WgmmaWait<1>();
  HoldRegisters(first);
  if (what == InFlight::kReadsTheSecond) first[0] = second[0];
  if (what == InFlight::kWritesTheSecond) second[0] = 3;
  d[threadIdx.x] = first[0];
  WgmmaWait<0>();
  HoldRegisters(second);
  d[threadIdx.x] += second[0];
}

__global__ void __launch_bounds__(128)
    RegistersOfAKernel(WritesA when, float* d) {
  TEMPER_DYNAMIC_SHARED(unsigned char, shared);
  const uint64_t zeros = Zeros(shared);
  float sum[4] = {1, 1, 1, 1};
  uint32_t a[4] = {};
  HoldRegisters(sum);
  HoldRegisters(a);
  WgmmaFence();
  if (when == WritesA::kAfterTheFence) a[2] = threadIdx.x;
  if (when == WritesA::kByLdmatrix)
    LoadMatrix(a, shared + threadIdx.x % 32 * 16);
  WgmmaBf16<8>(sum, a, zeros, true);
  WgmmaCommit();
  if (when == WritesA::kInFlight) a[2] = threadIdx.x;
  WgmmaWait<0>();
  HoldRegisters(sum);
  d[threadIdx.x] = sum[0];
}

__global__ void MisuseKernel(WgmmaMisuse misuse, float* d) {
  TEMPER_DYNAMIC_SHARED(unsigned char, shared);
  const uint64_t zeros = Zeros(shared);
  uint64_t b = zeros;
  if (misuse == WgmmaMisuse::kWarpsDisagree && threadIdx.x / 32 == 2) {
    b = DescribeMatrix(shared + 32, 16, 1024, Swizzle::k128Bytes);
  } else if (misuse == WgmmaMisuse::kBeginsWithinAPattern) {
    b = DescribeMatrix(shared + 256, 16, 1024, Swizzle::k128Bytes);
  } else if (misuse == WgmmaMisuse::kBeyondSharedMemory) {
    b = DescribeMatrix(shared + 8192, 16, 1024, Swizzle::k128Bytes);
  }
  float sum[4] = {};
  HoldRegisters(sum);
  WgmmaFence();
  WgmmaBf16<8>(sum, zeros, b, true);
  WgmmaCommit();
  WgmmaWait<0>();
  HoldRegisters(sum);
  d[threadIdx.x] = sum[0];
}

}  // namespace

bool RunWgmma(const WgmmaCase& wgmma, float* d) {
  constexpr Major kRow = Major::kRow, kK = Major::kK;
  return RunIf<false, 8>(wgmma, d) || RunIf<false, 16>(wgmma, d) ||
         RunIf<false, 32>(wgmma, d) || RunIf<false, 64>(wgmma, d) ||
         RunIf<false, 96>(wgmma, d) || RunIf<false, 128>(wgmma, d) ||
         RunIf<false, 192>(wgmma, d) || RunIf<false, 256>(wgmma, d) ||
         RunIf<false, 64, false, kRow, kK>(wgmma, d) ||
         RunIf<false, 64, false, kK, kRow>(wgmma, d) ||
         RunIf<false, 64, false, kRow, kRow>(wgmma, d) ||
         RunIf<false, 64, true>(wgmma, d) ||
         RunIf<false, 64, true, kK, kRow>(wgmma, d) ||
         RunIf<true, 8>(wgmma, d) || RunIf<true, 64>(wgmma, d) ||
         RunIf<true, 256>(wgmma, d) || RunIf<true, 64, true>(wgmma, d);
}

void WaitForTheFirst(InFlight what, float* d) {
  TEMPER_LAUNCH(InFlightKernel, 1, 128, 8192, nullptr, what, d);
}

void WriteRegistersOfA(WritesA when, float* d) {
  TEMPER_LAUNCH(RegistersOfAKernel, 1, 128, 8192, nullptr, when, d);
}

void MisuseWgmma(WgmmaMisuse misuse, float* d) {
  const int threads = misuse == WgmmaMisuse::kThreeWarps ? 96 : 128;
  TEMPER_LAUNCH(MisuseKernel, 1, threads, 8192, nullptr, misuse, d);
}

}  // namespace temper::simt
