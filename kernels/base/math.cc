#include "kernels/base/math.h"

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/base/log.h"

namespace temper {
namespace {

using Extended = long double;
static_assert(std::numeric_limits<Extended>::digits == 64,
              "the x87 format is what makes these one rounding");

// ln 2 with 16 zero bits below the high part, so that k * kLn2High is exact.
constexpr Extended kLn2High = 0xb17217f7d1cfp-48L;
constexpr Extended kLn2Low = 0xf35793c7673007e6p-113L;
constexpr Extended kLog2E = 0xb8aa3b295c17f0bcp-63L;
// pi / 2 in two parts of 32 bits and one of 64; n * part is exact for
// n below 2^32.
constexpr Extended kHalfPi1 = 0xc90fdaa2p-31L;
constexpr Extended kHalfPi2 = 0x85a308d3p-65L;
constexpr Extended kHalfPi3 = 0x98cc51701b839a25p-132L;
constexpr Extended kTwoOverPi = 0xa2f9836e4e44152ap-64L;
constexpr Extended kSqrtHalf = 0.70710678118654752440L;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// exp(r) - 1 by its series, |r| <= 0.35.
Extended Expm1Series(Extended r) {
  Extended sum = 0;
  // Horner from the smallest term; 0.35^19 / 19! is below 2^-64.
  for (int k = 18; k >= 2; --k) sum = (sum + 1) * r / k;
  return (sum + 1) * r;
}

struct Reduced {
  int k;
  Extended r;
};

Reduced ReduceByLn2(Extended x) {
  const int k = static_cast<int>(std::lrint(static_cast<double>(x * kLog2E)));
  return {k, (x - k * kLn2High) - k * kLn2Low};
}

// For |x| below 11000, where the exponent of an Extended cannot overflow.
Extended ExtendedExp(Extended x) {
  const Reduced reduced = ReduceByLn2(x);
  return std::ldexp(1 + Expm1Series(reduced.r), reduced.k);
}

double Round(Extended x) {
  // Threads flush denormals, but x87 does not and a conversion would make one:
  // the result would depend on who called.
  if (std::fabs(x) < std::numeric_limits<double>::min()) return 0;
  return static_cast<double>(x);
}

// log(1 + f) by 2 atanh(f / (2 + f)), for 1 + f in [sqrt(1/2), sqrt(2)].
Extended LogSeries(Extended f) {
  const Extended s = f / (2 + f);
  const Extended square = s * s;
  Extended sum = 0;
  // s is at most 0.172, so s^28 / 29 is below 2^-64 of the sum.
  for (int k = 27; k >= 3; k -= 2) sum = (sum + Extended{1} / k) * square;
  return 2 * s * (1 + sum);
}

// For finite x > 0.
Extended ExtendedLog(Extended x) {
  int exponent = 0;
  Extended mantissa = std::frexp(x, &exponent);
  // Around 1 the series is shortest, and log(1) is exactly 0.
  if (mantissa < kSqrtHalf) {
    mantissa *= 2;
    --exponent;
  }
  const Extended series = LogSeries(mantissa - 1);
  return exponent * kLn2High + (exponent * kLn2Low + series);
}

Extended SinSeries(Extended r) {
  Extended sum = 0;
  for (int k = 20; k >= 2; k -= 2) sum = (sum + 1) * (-r * r) / (k * (k + 1));
  return (sum + 1) * r;
}

Extended CosSeries(Extended r) {
  Extended sum = 0;
  for (int k = 21; k >= 1; k -= 2) sum = (sum + 1) * (-r * r) / (k * (k + 1));
  return sum + 1;
}

// sin(x + quarter_turns * pi / 2)
double SinAfterQuarterTurns(double x, int64_t quarter_turns) {
  // So that n stays below 2^32, where the products below are exact. A rotary
  // angle is a position, at most 2^24, times a frequency of at most 1.
  CHECK(std::fabs(x) <= 0x1p30) << x;
  const int64_t n = std::llrint(static_cast<double>(Extended{x} * kTwoOverPi));
  const Extended r = ((x - n * kHalfPi1) - n * kHalfPi2) - n * kHalfPi3;
  switch ((n + quarter_turns) & 3) {
    case 0:
      return Round(SinSeries(r));
    case 1:
      return Round(CosSeries(r));
    case 2:
      return Round(-SinSeries(r));
    default:
      return Round(-CosSeries(r));
  }
}

}  // namespace

double Exp(double x) {
  if (std::isnan(x)) return x;
  if (x > 710) return kInfinity;
  if (x < -750) return 0;
  return Round(ExtendedExp(x));
}

double Expm1(double x) {
  if (std::isnan(x)) return x;
  if (x > 710) return kInfinity;
  if (x < -50) return -1;
  // Where exp(x) - 1 would cancel.
  if (std::fabs(x) <= 0.34) return Round(Expm1Series(x));
  return Round(ExtendedExp(x) - 1);
}

double Log(double x) {
  if (std::isnan(x) || x < 0) return kNaN;
  if (x == 0) return -kInfinity;
  if (x == kInfinity) return x;
  return Round(ExtendedLog(x));
}

double Sin(double x) { return SinAfterQuarterTurns(x, 0); }
double Cos(double x) { return SinAfterQuarterTurns(x, 1); }

double Pow(double x, double y) {
  CHECK(x > 0 || (x == 0 && y > 0)) << x << " to the " << y;
  // Before the logarithm, whose infinity times 0 is no number.
  if (x == 0) return 0;
  if (y == 0 || x == 1) return 1;
  const Extended exponent = y * ExtendedLog(x);
  if (exponent > 710) return kInfinity;
  if (exponent < -750) return 0;
  return Round(ExtendedExp(exponent));
}

}  // namespace temper
