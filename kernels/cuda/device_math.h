// The arithmetic that kernels share: the project's own exponential and
// logarithm, sums along a row, rounding to bf16. Each is the same operations in
// the same order as the CPU's scalar tier has them
// (kernels/cpu/tier_body.inc, kernels/cpu/softmax_log.h), so that the bits are
// equal; what is a comment there is not repeated here.
//
// For .cu files; all functions are of a thread, those named Warp.. of a whole
// warp, every lane of which calls them and gets the result.

#ifndef KERNELS_CUDA_DEVICE_MATH_H_
#define KERNELS_CUDA_DEVICE_MATH_H_

#include <cstdint>

#include "kernels/cuda/simt/device.h"
#include "kernels/ops/fault_word.h"

namespace temper::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xFFFFFFFFu;
// Lanes of a reduction along a row: two a thread.
constexpr int kLanes = 64;

__device__ inline float NegativeInfinity() {
  return __uint_as_float(0xFF800000u);
}

__device__ inline float Fma(float a, float b, float c) {
  return __fmaf_rn(a, b, c);
}

// A NaN in b stays, one in a is left out.
__device__ inline float Max(float a, float b) { return a > b ? a : b; }

__device__ inline float Exp(float x) {
  constexpr float kLog2E = 1.44269504f;
  constexpr float kLn2High = 0.693359375f;
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kExpMin = -86.5f;
  constexpr float kExpMax = 89.0f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23
  constexpr uint32_t kRoundBits = 0x4B400000u;
  const float bounded = 0.0f - Max(-kExpMax, 0.0f - x);
  const float t = Fma(bounded, kLog2E, kRound);
  const float n = t - kRound;
  float r = Fma(n, -kLn2High, bounded);
  r = Fma(n, -kLn2Low, r);
  float p = 1.0f / 5040;
  p = Fma(p, r, 1.0f / 720);
  p = Fma(p, r, 1.0f / 120);
  p = Fma(p, r, 1.0f / 24);
  p = Fma(p, r, 1.0f / 6);
  p = Fma(p, r, 0.5f);
  p = Fma(p, r, 1.0f);
  p = Fma(p, r, 1.0f);
  const uint32_t half_power = (__float_as_uint(t) - kRoundBits + 126u) << 23;
  const float y = (p + p) * __uint_as_float(half_power);
  return x < kExpMin ? 0.0f : y;
}

__device__ inline float Sigmoid(float x) {
  return 1.0f / (1.0f + Exp(0.0f - x));
}

// Natural log of a double that came from a float.
__device__ inline double Log(double x) {
  if (!(x >= 0)) return __longlong_as_double(0x7FF8000000000000LL);
  if (x == 0) return __longlong_as_double(0xFFF0000000000000LL);
  const auto bits = static_cast<uint64_t>(__double_as_longlong(x));
  int64_t exponent = static_cast<int64_t>(bits >> 52) - 1023;
  if (exponent == 1024) return x;  // infinity
  double m = __longlong_as_double(static_cast<long long>(
      (bits & ((uint64_t{1} << 52) - 1)) | (uint64_t{1023} << 52)));
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  const double s = (m - 1) / (m + 1);
  const double s2 = s * s;
  double sum = 1.0 / 19;
  for (int k = 17; k > 1; k -= 2) sum = sum * s2 + 1.0 / k;
  return static_cast<double>(exponent) * 0.69314718055994531 +
         (2 * s + 2 * s * (s2 * sum));
}

// float(largest + log(sum)), as the log-sum-exp of a row is rounded.
__device__ inline float LogSumExp(float largest, float sum) {
  return static_cast<float>(static_cast<double>(largest) +
                            Log(static_cast<double>(sum)));
}

// Floats as unsigned numbers of the same order, any NaN the least
// (kernels/cpu/float_order.h).
__device__ inline uint32_t OrderedBits(float x) {
  if (x != x) return 0;
  const uint32_t bits = __float_as_uint(x + 0.0f);
  return bits ^ ((bits >> 31) != 0 ? 0xFFFFFFFFu : 0x80000000u);
}

// --- bf16, as its bits (kernels/tensor/bf16.h) -------------------------------

__device__ inline uint16_t Bf16FromFloat(float x) {
  const uint32_t bits = __float_as_uint(x);
  if ((bits & 0x7F800000u) == 0) {
    return static_cast<uint16_t>(bits >> 16 & 0x8000u);
  }
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {
    return static_cast<uint16_t>(bits >> 16 | 0x40u);
  }
  const uint32_t half_less_one = 0x7FFFu + (bits >> 16 & 1u);
  return static_cast<uint16_t>((bits + half_less_one) >> 16);
}

__device__ inline float FloatFromBf16(uint16_t x) {
  uint32_t bits = uint32_t{x} << 16;
  if ((bits & 0x7F800000u) == 0) bits &= 0x80000000u;
  return __uint_as_float(bits);
}

// --- Reductions along a row --------------------------------------------------

// The thread among all of a grid, along x.
__device__ inline int64_t ThreadOfGrid() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

__device__ inline int LaneOf() { return static_cast<int>(threadIdx.x) % kWarp; }

// The tree over 64 lanes, of which this thread has two: lane t and t + 32.
__device__ inline float WarpAddLanes(float low, float high) {
  float v = low + high;
  for (int half = kWarp / 2; half >= 1; half /= 2) {
    v = v + __shfl_down_sync(kAllLanes, v, half);
  }
  return __shfl_sync(kAllLanes, v, 0);
}

__device__ inline float WarpMaxLanes(float low, float high) {
  float v = Max(low, high);
  for (int half = kWarp / 2; half >= 1; half /= 2) {
    v = Max(v, __shfl_down_sync(kAllLanes, v, half));
  }
  return __shfl_sync(kAllLanes, v, 0);
}

// The 64 sums of term(i, there, lane's sum), `there` false in the padding of
// the tail, whose terms count too.
template <typename Term>
__device__ inline float WarpReduce(int64_t n, const Term& term) {
  float low = 0, high = 0;
  for (int64_t i = LaneOf(); i - LaneOf() < n; i += kLanes) {
    low = term(i, i < n, low);
    high = term(i + kWarp, i + kWarp < n, high);
  }
  return WarpAddLanes(low, high);
}

template <typename Value>
__device__ inline float WarpSum(int64_t n, const Value& value) {
  return WarpReduce(n, [&](int64_t i, bool there, float sum) {
    return sum + (there ? value(i) : 0.0f);
  });
}

__device__ inline float WarpDot(const float* a, const float* b, int64_t n) {
  return WarpReduce(n, [&](int64_t i, bool there, float sum) {
    return Fma(there ? a[i] : 0.0f, there ? b[i] : 0.0f, sum);
  });
}

// The largest of value(i), NaN left out; -inf of none.
template <typename Value>
__device__ inline float WarpMax(int64_t n, const Value& value) {
  float low = NegativeInfinity(), high = NegativeInfinity();
  for (int64_t i = LaneOf(); i < n; i += kLanes) {
    low = Max(value(i), low);
    if (i + kWarp < n) high = Max(value(i + kWarp), high);
  }
  return WarpMaxLanes(low, high);
}

// --- The error word ----------------------------------------------------------

// The first fault stands.
__device__ inline void SetFault(uint32_t* word, DeviceFault fault) {
  atomicCAS(word, 0u, static_cast<uint32_t>(fault));
}

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_DEVICE_MATH_H_
