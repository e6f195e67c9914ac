// The tensor core's sums, against known answers and against the same rule in
// doubles, which hold every term and sum of it exactly.

#include "kernels/cuda/simt/accumulator.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/rng.h"

namespace temper::simt {
namespace {

uint16_t Bf16(float value) {
  return static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
}

uint32_t Bits(float value) { return std::bit_cast<uint32_t>(value); }

double ValueOfBf16(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

double ValueOfE4m3(uint8_t bits) {
  const int field = bits >> 3 & 15, mantissa = bits & 7;
  const double magnitude = field == 0 ? std::ldexp(mantissa, -9)
                                      : std::ldexp(8 + mantissa, field - 10);
  return bits >> 7 != 0 ? -magnitude : magnitude;
}

struct Term {
  double value;
  int exponent;  // as the operands' fields say
};

int FieldExponent(double value, int least) {
  return value == 0 ? least : std::max(std::ilogb(value), least);
}

// The terms cut to `kept` bits below the largest exponent, summed, and the sum
// cut to `fraction` bits, both toward zero.
float Model(const std::vector<Term>& terms, int kept, int fraction) {
  int largest = std::numeric_limits<int>::min();
  for (const Term& term : terms) {
    if (term.value != 0) largest = std::max(largest, term.exponent);
  }
  double sum = 0;
  for (const Term& term : terms) {
    sum += std::trunc(std::ldexp(term.value, kept - largest));
  }
  if (sum == 0) return 0;
  sum = std::ldexp(sum, largest - kept);
  const int quantum = std::max(std::ilogb(sum), -126) - fraction;
  return static_cast<float>(
      std::ldexp(std::trunc(std::ldexp(sum, -quantum)), quantum));
}

float Random(uint32_t draw, int exponents) {
  const RngKey key = {.seed = 5, .sample = 1, .ordinal = draw};
  const auto words = RandomWords(key);
  const float sign = (words[0] & 1) != 0 ? -1.f : 1.f;
  const int exponent = static_cast<int>(words[1] % (2 * exponents + 1));
  return std::ldexp(sign * (1 + UniformFromWord(words[2])),
                    exponent - exponents);
}

TEST(AccumulatorTest, Bf16KeepsTwentyFiveBitsBelowTheLargest) {
  const auto dot = [](std::vector<float> products, float c) {
    std::vector<Operand> a, b;
    for (const float product : products) {
      a.push_back(OperandOfBf16(Bf16(product)));
      b.push_back(OperandOfBf16(Bf16(1)));
    }
    return DotBf16(a.data(), b.data(), static_cast<int>(a.size()), c);
  };
  // Four terms of 2^-25 are kept and make a last bit of 1's; of 2^-26 none is.
  const float tiny = 0x1p-25f, lost = 0x1p-26f;
  EXPECT_EQ(dot({1, tiny, tiny, tiny, tiny}, 0), 1 + 0x1p-23f);
  EXPECT_EQ(dot({1, lost, lost, lost, lost}, 0), 1);
  // Toward zero, for the sum too: three quarters of a last bit are cut.
  EXPECT_EQ(dot({1, tiny, tiny, tiny}, 0), 1);
  EXPECT_EQ(dot({-1, -tiny, -tiny, -tiny}, 0), -1);
  // The accumulator is a term like the others.
  EXPECT_EQ(dot({tiny, tiny, tiny, tiny}, 1), 1 + 0x1p-23f);
  EXPECT_EQ(dot({0x1p25f, -0x1p25f}, 1.5f), 1);
  EXPECT_EQ(dot({0x1p26f, -0x1p26f}, 1.5f), 0);
  EXPECT_EQ(Bits(dot({1, -1}, 0)), 0u);
  EXPECT_EQ(Bits(dot({0, -0.f}, -0.f)), 0u);
}

TEST(AccumulatorTest, E4m3KeepsThirteenBits) {
  const auto dot = [](std::vector<uint8_t> a_bits, float c) {
    std::vector<Operand> a, b;
    for (const uint8_t bits : a_bits) {
      a.push_back(OperandOfE4m3(bits));
      b.push_back(OperandOfE4m3(0x38));  // 1
    }
    return DotE4m3(a.data(), b.data(), static_cast<int>(a.size()), c);
  };
  EXPECT_EQ(dot({0x38}, 0x1p-13f), 1 + 0x1p-13f);
  EXPECT_EQ(dot({0x38}, 0x1p-14f), 1);
  EXPECT_EQ(dot({0x38}, 0x1p13f), 0x1p13f + 1);
  EXPECT_EQ(dot({0x38}, 0x1p14f), 0x1p14f);
  EXPECT_EQ(dot({0x7e}, 0), 448);
  EXPECT_EQ(dot({0x01}, 0), 0x1p-9f);
  // An accumulator alone loses what lies below thirteen bits.
  EXPECT_EQ(dot({0x00}, 1 + 0x1p-13f + 0x1p-14f), 1 + 0x1p-13f);
}

TEST(AccumulatorTest, WhatIsNotFiniteIsAsIeeeSays) {
  const float infinity = std::numeric_limits<float>::infinity();
  const auto dot = [](float a, float b, float c) {
    const Operand x = OperandOfBf16(Bf16(a)), y = OperandOfBf16(Bf16(b));
    return DotBf16(&x, &y, 1, c);
  };
  EXPECT_EQ(dot(infinity, 2, 1), infinity);
  EXPECT_EQ(dot(infinity, -2, 1), -infinity);
  EXPECT_EQ(dot(1, 1, -infinity), -infinity);
  EXPECT_EQ(Bits(dot(infinity, 0, 1)), 0x7fffffffu);
  EXPECT_EQ(Bits(dot(infinity, 1, -infinity)), 0x7fffffffu);
  EXPECT_EQ(Bits(dot(std::nanf(""), 1, 1)), 0x7fffffffu);
  const Operand nan = OperandOfE4m3(0xff), one = OperandOfE4m3(0x38);
  EXPECT_EQ(Bits(DotE4m3(&nan, &one, 1, 0)), 0x7fffffffu);
}

TEST(AccumulatorTest, Bf16IsTheRuleInDoubles) {
  // From terms alike to terms that lie far apart, subnormal sums included.
  uint32_t draw = 0;
  for (const int exponents : {0, 3, 12, 30, 62}) {
    for (int n = 0; n < 4000; ++n) {
      Operand a[16], b[16];
      std::vector<Term> terms;
      for (int k = 0; k < 16; ++k) {
        const uint16_t x = Bf16(Random(draw++, exponents));
        const uint16_t y =
            n % 5 == 0 && k % 3 == 0 ? 0 : Bf16(Random(draw++, exponents));
        a[k] = OperandOfBf16(x);
        b[k] = OperandOfBf16(y);
        terms.push_back({ValueOfBf16(x) * ValueOfBf16(y),
                         FieldExponent(ValueOfBf16(x), -126) +
                             FieldExponent(ValueOfBf16(y), -126)});
      }
      const float c = n % 3 == 0 ? 0 : Random(draw++, 2 * exponents);
      terms.push_back({c, FieldExponent(c, -126)});
      ASSERT_EQ(Bits(DotBf16(a, b, 16, c)), Bits(Model(terms, 25, 23)))
          << exponents << " " << n;
    }
  }
}

TEST(AccumulatorTest, E4m3IsTheRuleInDoubles) {
  uint32_t draw = 0;
  for (int n = 0; n < 10000; ++n) {
    Operand a[32], b[32];
    std::vector<Term> terms;
    for (int k = 0; k < 32; ++k) {
      const RngKey key = {.seed = 6, .ordinal = draw++};
      const auto words = RandomWords(key);
      // Subnormals are met often; NaNs are not in it.
      const auto bits = [&](uint32_t word) {
        const auto drawn =
            static_cast<uint8_t>(word % 3 == 0 ? word >> 8 & 0x87 : word >> 8);
        return static_cast<uint8_t>((drawn & 0x7f) == 0x7f ? 0 : drawn);
      };
      const uint8_t x = bits(words[0]), y = bits(words[1]);
      a[k] = OperandOfE4m3(x);
      b[k] = OperandOfE4m3(y);
      terms.push_back({ValueOfE4m3(x) * ValueOfE4m3(y),
                       FieldExponent(ValueOfE4m3(x), -6) +
                           FieldExponent(ValueOfE4m3(y), -6)});
    }
    const float c = n % 3 == 0 ? 0 : Random(draw++, 20);
    terms.push_back({c, FieldExponent(c, -126)});
    ASSERT_EQ(Bits(DotE4m3(a, b, 32, c)), Bits(Model(terms, 13, 13))) << n;
  }
}

TEST(AccumulatorTest, MmaSyncOfE4m3AddsInHalvesAndRoundsToNearest) {
  Operand a[32], b[32];
  for (int k = 0; k < 32; ++k) a[k] = b[k] = OperandOfE4m3(0x38);
  // The halves' sum is 32, and what the accumulator adds is rounded, not cut.
  EXPECT_EQ(DotE4m3OfMmaSync(a, b, 32, 0x1p-20f + 0x1p-19f),
            32.f + (0x1p-20f + 0x1p-19f));
  EXPECT_EQ(DotE4m3OfMmaSync(a, b, 32, 0x1p-9f), 32 + 0x1p-9f);
  EXPECT_EQ(DotE4m3(a, b, 32, 0x1p-9f), 32);
}

}  // namespace
}  // namespace temper::simt
