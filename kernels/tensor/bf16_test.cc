#include "kernels/tensor/bf16.h"

#include <bit>
#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "kernels/reference/arithmetic.h"

namespace temper {
namespace {

TEST(BF16Test, EveryNormalValueSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const BF16 x = {static_cast<uint16_t>(bits)};
    const uint32_t exponent = bits & 0x7f80u, fraction = bits & 0x7fu;
    if (exponent == 0x7f80u && fraction != 0) {
      EXPECT_TRUE(std::isnan(FloatFromBF16(BF16FromFloat(FloatFromBF16(x)))));
    } else {
      const uint32_t want = exponent == 0 ? bits & 0x8000u : bits;
      EXPECT_EQ(BF16FromFloat(FloatFromBF16(x)).bits, want);
    }
  }
}

// Every code with what lies just below, at and above the tie to the next.
TEST(BF16Test, RoundsAsTheReferenceDoesAtEveryTie) {
  for (uint32_t code = 0; code < 0x10000; ++code) {
    for (const uint32_t rest : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const auto x = std::bit_cast<float>(code << 16 | rest);
      const float want = reference::RoundToBf16(x);
      const float got = FloatFromBF16(BF16FromFloat(x));
      if (std::isnan(x)) {
        ASSERT_TRUE(std::isnan(got)) << code << " " << rest;
      } else {
        ASSERT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(want))
            << x;
      }
    }
  }
}

TEST(BF16Test, RoundsToNearestAndTiesToEven) {
  EXPECT_EQ(BF16FromFloat(1.0f + 0x1p-8f).bits, 0x3f80);  // tie, down
  EXPECT_EQ(BF16FromFloat(1.0f + 0x3p-8f).bits, 0x3f82);  // tie, up
  EXPECT_EQ(BF16FromFloat(1.0f + 0x1p-8f + 0x1p-23f).bits, 0x3f81);
  EXPECT_EQ(BF16FromFloat(std::numeric_limits<float>::max()).bits, 0x7f80);
}

TEST(BF16Test, DenormalsBecomeZeroWithTheirSign) {
  EXPECT_EQ(BF16FromFloat(0x1.fp-127f).bits, 0);
  EXPECT_EQ(BF16FromFloat(-0x1p-149f).bits, 0x8000);
  EXPECT_EQ(FloatFromBF16({0x0001}), 0.0f);
}

TEST(BF16Test, AFileKeepsEveryValue) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const BF16 x = {static_cast<uint16_t>(bits)};
    const float value = FloatFromFileBF16(x);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(FloatFromFileBF16(FileBF16FromFloat(value))));
    } else {
      EXPECT_EQ(FileBF16FromFloat(value).bits, bits);
    }
  }
  EXPECT_EQ(FileBF16FromFloat(0x1p-127f + 0x1p-135f).bits, 0x0040);  // a tie
  EXPECT_EQ(FileBF16FromFloat(0x1.ffp-127f).bits, 0x0080);  // up to a normal
}

// Where there are no denormals the two ways are one.
TEST(BF16Test, BothWaysRoundNormalNumbersAlike) {
  for (uint32_t bits = 0x00800000u; bits < 0x7f800000u; bits += 0x5555u) {
    const float x = std::bit_cast<float>(bits);
    EXPECT_EQ(BF16FromFloat(x).bits, FileBF16FromFloat(x).bits) << x;
  }
}

}  // namespace
}  // namespace temper
