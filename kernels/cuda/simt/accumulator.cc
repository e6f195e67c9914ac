#include "kernels/cuda/simt/accumulator.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace temper::simt {
namespace {

constexpr int kFloatFraction = 23;
constexpr int kFloatExponentMin = -126;
constexpr int kNoExponent = -100000;
constexpr uint32_t kNan = 0x7fffffff;
constexpr uint32_t kInfinity = 0x7f800000;

// How a kind of product is summed.
struct Rule {
  int product_fraction;  // fraction bits of a product of two operands
  int kept;              // below the largest exponent
  int result;            // fraction bits of the result
};
constexpr Rule kBf16 = {14, 25, 23};
constexpr Rule kE4m3 = {6, 13, 13};
constexpr Rule kE4m3OfMmaSync = {6, 25, 23};

int64_t ShiftTowardZero(int64_t value, int left) {
  if (left >= 0) return value << left;
  if (left < -62) return 0;
  return value >= 0 ? value >> -left : -(-value >> -left);
}

// sum * 2^unit, cut to `fraction` bits; below 2^-126 no bit is worth less than
// the last of 2^-126 is.
float Pack(int64_t sum, int unit, int fraction) {
  if (sum == 0) return 0;
  const uint64_t magnitude = sum < 0 ? -static_cast<uint64_t>(sum) : sum;
  const int exponent = std::bit_width(magnitude) - 1 + unit;
  const int quantum = std::max(exponent, kFloatExponentMin) - fraction;
  const int64_t kept = ShiftTowardZero(magnitude, unit - quantum);
  // Exact: it has no more bits than a float, and no smaller ones.
  const double value = std::ldexp(static_cast<double>(kept), quantum);
  const uint32_t sign = sum < 0 ? 0x80000000u : 0;
  if (value >= 0x1p128) return std::bit_cast<float>(sign | kInfinity);
  if (value >= 0x1p-126) {
    return std::bit_cast<float>(
        sign | std::bit_cast<uint32_t>(static_cast<float>(value)));
  }
  // By hand, for the thread may flush denormals.
  const auto bits = static_cast<uint32_t>(
      ShiftTowardZero(kept, quantum - (kFloatExponentMin - kFloatFraction)));
  return std::bit_cast<float>(sign | bits);
}

// The sum if a term is infinite or none: what IEEE 754 says, any NaN as one.
float NotFinite(const Operand* a, const Operand* b, int count, float c) {
  const uint32_t c_bits = std::bit_cast<uint32_t>(c);
  bool plus = c_bits == kInfinity;
  bool minus = c_bits == (kInfinity | 0x80000000u);
  bool nan = (c_bits & 0x7fffffff) > kInfinity;
  for (int k = 0; k < count; ++k) {
    if (a[k].exponent != kNotFinite && b[k].exponent != kNotFinite) continue;
    const int product = a[k].significand * b[k].significand;
    nan |= product == 0;  // NaN, or infinity by zero
    plus |= product > 0;
    minus |= product < 0;
  }
  if (nan || (plus && minus)) return std::bit_cast<float>(kNan);
  return std::bit_cast<float>(minus ? kInfinity | 0x80000000u : kInfinity);
}

float Sum(const Operand* a, const Operand* b, int count, float c,
          const Rule& rule) {
  const uint32_t c_bits = std::bit_cast<uint32_t>(c);
  const int c_field = c_bits >> 23 & 255;
  int64_t c_significand = c_bits & 0x7fffff;
  if (c_field != 0) c_significand |= 0x800000;
  const int c_exponent = c_field == 0 ? kFloatExponentMin : c_field - 127;
  int largest = c_significand == 0 ? kNoExponent : c_exponent;
  bool finite = c_field != 255;
  int32_t products[32];
  int32_t exponents[32];
  for (int k = 0; k < count; ++k) {
    products[k] = int32_t{a[k].significand} * b[k].significand;
    exponents[k] = a[k].exponent + b[k].exponent;
    finite &= a[k].exponent != kNotFinite && b[k].exponent != kNotFinite;
    if (products[k] != 0) largest = std::max(largest, exponents[k]);
  }
  if (!finite) return NotFinite(a, b, count, c);
  if (largest == kNoExponent) return 0;
  if (c_bits >> 31 != 0) c_significand = -c_significand;
  int64_t sum = ShiftTowardZero(
      c_significand, rule.kept - kFloatFraction + c_exponent - largest);
  // The same shift of every term, then each by its distance: a term that is
  // shifted out altogether is zero.
  const int up = rule.kept - rule.product_fraction;
  for (int k = 0; k < count; ++k) {
    const int down = std::min(largest - exponents[k], 31);
    const int32_t magnitude = std::abs(products[k]) << up >> down;
    sum += products[k] < 0 ? -magnitude : magnitude;
  }
  return Pack(sum, largest - rule.kept, rule.result);
}

// A subnormal operand brought to a leading one, as a conversion to f16 does.
Operand Normalised(Operand operand) {
  while (operand.significand != 0 && std::abs(operand.significand) < 8) {
    operand.significand = static_cast<int16_t>(operand.significand * 2);
    --operand.exponent;
  }
  return operand;
}

}  // namespace

Operand OperandOfBf16(uint16_t bits) {
  const int field = bits >> 7 & 255;
  int significand = bits & 127;
  const int sign = bits >> 15 != 0 ? -1 : 1;
  if (field == 255) {
    return {static_cast<int16_t>(significand == 0 ? sign : 0), kNotFinite};
  }
  if (field != 0) significand |= 128;
  return {static_cast<int16_t>(sign * significand),
          static_cast<int16_t>(field == 0 ? kFloatExponentMin : field - 127)};
}

Operand OperandOfE4m3(uint8_t bits) {
  const int field = bits >> 3 & 15;
  int significand = bits & 7;
  if ((bits & 127) == 127) return {0, kNotFinite};
  if (field != 0) significand |= 8;
  return {static_cast<int16_t>(bits >> 7 != 0 ? -significand : significand),
          static_cast<int16_t>(field == 0 ? -6 : field - 7)};
}

float DotBf16(const Operand* a, const Operand* b, int count, float c) {
  return Sum(a, b, count, c, kBf16);
}

float DotE4m3(const Operand* a, const Operand* b, int count, float c) {
  return Sum(a, b, count, c, kE4m3);
}

float DotE4m3OfMmaSync(const Operand* a, const Operand* b, int count, float c) {
  float sum = 0;
  for (int half = 0; half < 2; ++half) {
    Operand a_half[16];
    Operand b_half[16];
    int n = 0;
    for (int k = 0; k < count; ++k) {
      if ((k >> 1 & 1) != half) continue;
      a_half[n] = Normalised(a[k]);
      b_half[n++] = Normalised(b[k]);
    }
    sum = Sum(a_half, b_half, n, sum, kE4m3OfMmaSync);
  }
  return c + sum;
}

}  // namespace temper::simt
