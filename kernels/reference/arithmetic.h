// What the references compute with. Over double and std::complex these are the
// functions of mathematics; over float they are the numerics contract
// (DESIGN.md section 6) by plain loops: chains of FMAs, 64 virtual lanes along
// a row, our own exponential; over Narrow the same with products of bf16
// operands. So one reference says what a number is, and over float and Narrow
// which bits it has. Test only; the float mode of kernels/base/float_mode.h is
// on.

#ifndef KERNELS_REFERENCE_ARITHMETIC_H_
#define KERNELS_REFERENCE_ARITHMETIC_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "kernels/base/math.h"

namespace temper::reference {

inline double RealPart(double x) { return x; }
inline double RealPart(std::complex<double> x) { return x.real(); }

// A float whose products are of bf16 operands; all else as float.
struct Narrow {
  Narrow() = default;
  template <typename T>
  requires std::is_arithmetic_v<T> Narrow(T x) : value(static_cast<float>(x)) {}
  explicit operator float() const { return value; }
  Narrow& operator+=(Narrow x) { return *this = value + x.value; }
  Narrow& operator-=(Narrow x) { return *this = value - x.value; }
  Narrow& operator*=(Narrow x) { return *this = value * x.value; }
  Narrow& operator/=(Narrow x) { return *this = value / x.value; }

  float value = 0;
};
inline Narrow operator+(Narrow a, Narrow b) { return a.value + b.value; }
inline Narrow operator-(Narrow a, Narrow b) { return a.value - b.value; }
inline Narrow operator*(Narrow a, Narrow b) { return a.value * b.value; }
inline Narrow operator/(Narrow a, Narrow b) { return a.value / b.value; }
inline double RealPart(Narrow x) { return x.value; }

// a b + c; over float rounded once.
template <typename T>
T MulAdd(T a, T b, T c) {
  return a * b + c;
}
inline float MulAdd(float a, float b, float c) { return std::fma(a, b, c); }
inline Narrow MulAdd(Narrow a, Narrow b, Narrow c) {
  return std::fma(a.value, b.value, c.value);
}

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

inline Narrow ExpOf(Narrow x) { return ExpOf(x.value); }

// The log of a softmax's sum, in double: x = 2^n m with sqrt(1/2) < m <=
// sqrt(2) has n ln 2 + 2 s + 2 s (s^2 / 3 + s^4 / 5 + ..) with s = (m - 1) / (m
// + 1), cut behind s^18 / 19.
inline double LogBySeries(double x) {
  if (!(x >= 0x1p-1022 && x < 0x1p1023)) return Log(x);
  int n;
  double m = std::frexp(x, &n);
  if (2 * m <= 1.4142135623730951) {
    m *= 2;
    --n;
  }
  const double s = (m - 1) / (m + 1);
  double sum = 1.0 / 19;
  for (int k = 17; k >= 3; k -= 2) sum = sum * (s * s) + 1.0 / k;
  return n * 0.69314718055994531 + (2 * s + 2 * s * ((s * s) * sum));
}

// m + log(sum), over float in double and rounded once.
template <typename T>
T LogOfSum(T largest, T sum) {
  return largest + std::log(sum);
}
inline float LogOfSum(float largest, float sum) {
  return static_cast<float>(double{largest} + LogBySeries(double{sum}));
}

inline Narrow LogOfSum(Narrow largest, Narrow sum) {
  return LogOfSum(largest.value, sum.value);
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

// A product: sum of a(k) b(k), k < n, onto `start`: one ascending chain.
template <typename T, typename A, typename B>
T ProductOnto(T start, size_t n, A a, B b) {
  for (size_t k = 0; k < n; ++k) start = MulAdd(T(a(k)), T(b(k)), start);
  return start;
}

// The nearest number that bf16 holds, a tie to the even one, as arithmetic: a
// multiple of the last place's value. What is below 2^-126 is 0.
inline float RoundToBf16(float x) {
  if (!std::isfinite(x)) return x;
  if (std::fabs(double{x}) < 0x1p-126) return std::copysign(0.0f, x);
  const double place = std::ldexp(1.0, std::ilogb(double{x}) - 7);
  const double rounded = std::nearbyint(x / place) * place;
  if (std::fabs(rounded) > 0x1.fep127) return std::copysign(HUGE_VALF, x);
  return static_cast<float>(rounded);
}

// Of bf16 operands: blocks of 32, padded with zeros, in each a chain over even
// k and one over odd k from zero; the total takes the sum of the two.
template <typename A, typename B>
Narrow ProductOnto(Narrow start, size_t n, A a, B b) {
  const auto at = [n](auto of, size_t k) {
    return k < n ? RoundToBf16(Narrow(of(k)).value) : 0.0f;
  };
  for (size_t block = 0; block < n; block += 32) {
    float even = 0, odd = 0;
    for (size_t k = block; k < block + 32; k += 2) {
      even = std::fma(at(a, k), at(b, k), even);
      odd = std::fma(at(a, k + 1), at(b, k + 1), odd);
    }
    start += even + odd;
  }
  return start;
}

// The same from +0, of a[k a_stride] and b[k b_stride].
template <typename T>
T ChainOf(const T* a, size_t a_stride, const T* b, size_t b_stride, size_t n) {
  return ProductOnto(
      T(0), n, [=](size_t k) { return a[k * a_stride]; },
      [=](size_t k) { return b[k * b_stride]; });
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
