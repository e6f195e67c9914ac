// What the references compute with. Over double and std::complex these are the
// functions of mathematics; over float they are the numerics contract
// (DESIGN.md section 6) by plain loops: chains of FMAs, 64 virtual lanes along
// a row, our own exponential. So one reference says what a number is, and over
// float which bits it has. Test only; the float mode of
// kernels/base/float_mode.h is on.

#ifndef KERNELS_REFERENCE_ARITHMETIC_H_
#define KERNELS_REFERENCE_ARITHMETIC_H_

#include <array>
#include <bit>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/base/math.h"

namespace temper::reference {

inline double RealPart(double x) { return x; }
inline double RealPart(std::complex<double> x) { return x.real(); }

// a b + c; over float rounded once.
template <typename T>
T MulAdd(T a, T b, T c) {
  return a * b + c;
}
inline float MulAdd(float a, float b, float c) { return std::fma(a, b, c); }

template <typename T>
T ExpOf(T x) {
  return std::exp(x);
}

// Over float: Cody and Waite's reduction by ln 2, then the Taylor series to the
// seventh power; 0 below -86.5, where half the power of two is no longer
// normal.
inline float ExpOf(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: leaves an integer below
  constexpr float kSeries[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6,
                               0.5f,       1.0f,       1.0f};
  const float bounded = x >= 89.0f ? 89.0f : x;
  const float t = MulAdd(bounded, 1.44269504f, kRound);
  const float n = t - kRound;
  const float r = MulAdd(n, 2.12194440e-4f, MulAdd(n, -0.693359375f, bounded));
  float p = 1.0f / 5040;
  for (const float term : kSeries) p = MulAdd(p, r, term);
  if (x < -86.5f) return 0;
  const auto power = (std::bit_cast<uint32_t>(t) - 0x4b400000u + 126u) << 23;
  return (p + p) * std::bit_cast<float>(power);
}

// m + log(sum), over float in double and rounded once.
template <typename T>
T LogOfSum(T largest, T sum) {
  return largest + std::log(sum);
}
inline float LogOfSum(float largest, float sum) {
  return static_cast<float>(double{largest} + Log(double{sum}));
}

// The 64 lanes: element i goes to lane i % 64, whole rounds of them, so that a
// shorter last round is filled up with zeros that are added too.
template <typename T, typename Step>
T OverLanes(size_t n, Step step) {
  std::array<T, 64> lanes = {};
  for (size_t i = 0; i < (n + 63) / 64 * 64; ++i) {
    lanes[i % 64] = step(i, i < n, lanes[i % 64]);
  }
  for (size_t half = 32; half >= 1; half /= 2) {
    for (size_t j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  }
  return lanes[0];
}

template <typename T>
T DotOf(const T* a, const T* b, size_t n) {
  return OverLanes<T>(n, [&](size_t i, bool there, T lane) {
    return there ? MulAdd(a[i], b[i], lane) : MulAdd(T(0), T(0), lane);
  });
}

template <typename T>
T SumOf(const std::vector<T>& x) {
  return OverLanes<T>(x.size(), [&](size_t i, bool there, T lane) {
    return lane + (there ? x[i] : T(0));
  });
}

// One product's chain from +0: sum of a[k a_stride] b[k b_stride].
template <typename T>
T ChainOf(const T* a, size_t a_stride, const T* b, size_t b_stride, size_t n) {
  T sum = 0;
  for (size_t k = 0; k < n; ++k) {
    sum = MulAdd(a[k * a_stride], b[k * b_stride], sum);
  }
  return sum;
}

// log sum exp over `x`; the probabilities replace x.
template <typename T>
T SoftmaxInPlace(std::vector<T>* x) {
  double largest = -HUGE_VAL;
  for (const T& value : *x) largest = std::max(largest, RealPart(value));
  for (T& value : *x) value = ExpOf(value - T(largest));
  const T sum = SumOf(*x);
  for (T& value : *x) value /= sum;
  return LogOfSum(T(largest), sum);
}

}  // namespace temper::reference

#endif  // KERNELS_REFERENCE_ARITHMETIC_H_
