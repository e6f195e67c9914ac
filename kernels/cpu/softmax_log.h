// The one log-softmax of learner and sampler, and the log it takes. Internal to
// the CPU backend; built without tier flags, so that there is one.

#ifndef KERNELS_CPU_SOFTMAX_LOG_H_
#define KERNELS_CPU_SOFTMAX_LOG_H_

#include <bit>
#include <cstdint>

#include "kernels/base/math.h"
#include "kernels/cpu/tier.h"

namespace temper {

// Natural log with relative error below 1e-15, exact at 1: log m = 2 atanh s
// with s = (m - 1) / (m + 1) and sqrt(1/2) < m < sqrt(2). Several times faster
// than kernels/base/math.h, to which what is not a positive normal number is
// left.
inline double SoftmaxLog(double x) {
  if (!(x >= 0x1p-1022 && x < 0x1p1023)) return Log(x);
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  int64_t exponent = static_cast<int64_t>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & ((uint64_t{1} << 52) - 1)) |
                                   (uint64_t{1023} << 52));
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

struct Normalised {
  float largest = 0;
  float sum = 0;  // of exp(z - largest)
  float lse = 0;
};

// Of `count` logits; e = exp(z - largest). Largest and log are added in double:
// rounded once, lse does not depend on which of the two is the larger.
inline Normalised Normalise(const TierKernels& kernels, const float* z,
                            int64_t count, float* e) {
  Normalised out;
  out.largest = kernels.max(z, count);
  out.sum = kernels.exp_sum(z, out.largest, e, count);
  out.lse = static_cast<float>(out.largest + SoftmaxLog(double{out.sum}));
  return out;
}

// z /= temperature; a temperature of 1 leaves the bits alone.
inline void DivideByTemperature(const TierKernels& kernels, float temperature,
                                float* z, int64_t count) {
  if (temperature != 1) kernels.divide(temperature, z, count);
}

}  // namespace temper

#endif  // KERNELS_CPU_SOFTMAX_LOG_H_
