#include "kernels/tensor/fp8.h"

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reference/quantised.h"

namespace temper {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

uint32_t BitsOf(float x) { return std::bit_cast<uint32_t>(x); }

// The numbers that there are without their sign: codes 0 to 0x7e, ascending.
std::vector<float> Magnitudes() {
  std::vector<float> all;
  for (int code = 0; code < 0x7f; ++code) {
    all.push_back(FloatFromE4M3({static_cast<uint8_t>(code)}));
  }
  return all;
}

TEST(Fp8Test, EveryCodeSurvivesTheRoundTrip) {
  for (int code = 0; code < 256; ++code) {
    const F8E4M3 x = {static_cast<uint8_t>(code)};
    const float value = FloatFromE4M3(x);
    EXPECT_EQ(std::isnan(value), (code & 0x7f) == 0x7f) << code;
    EXPECT_EQ(E4M3FromFloat(value).bits, code) << value;
  }
}

TEST(Fp8Test, CodesAscendFromZeroTo448) {
  const std::vector<float> all = Magnitudes();
  EXPECT_EQ(BitsOf(all[0]), 0u);
  EXPECT_EQ(BitsOf(FloatFromE4M3({0x80})), 0x80000000u);
  EXPECT_EQ(all[0x01], 0x1p-9f);  // the least denormal
  EXPECT_EQ(all[0x07], 0x7p-9f);
  EXPECT_EQ(all[0x08], 0x1p-6f);  // the least normal
  EXPECT_EQ(all[0x38], 1.0f);
  EXPECT_EQ(all[0x7e], 448.0f);
  for (size_t i = 1; i < all.size(); ++i) EXPECT_LT(all[i - 1], all[i]);
}

// Between two neighbours the nearer one, half way the one whose code is even:
// at every boundary there is, and one float to either side of it.
TEST(Fp8Test, RoundsToNearestAndTiesToEvenAtEveryBoundary) {
  const std::vector<float> all = Magnitudes();
  for (size_t low = 0; low + 1 < all.size(); ++low) {
    const float tie = (all[low] + all[low + 1]) / 2;  // exact
    const size_t even = low % 2 == 0 ? low : low + 1;
    for (const uint32_t sign : {0u, 0x80u}) {
      const auto code_of = [&](float x) {
        return size_t{E4M3FromFloat(sign != 0 ? -x : x).bits} ^ sign;
      };
      EXPECT_EQ(code_of(std::nextafter(tie, 0.0f)), low) << tie;
      EXPECT_EQ(code_of(tie), even) << tie;
      EXPECT_EQ(code_of(std::nextafter(tie, kInfinity)), low + 1) << tie;
      EXPECT_EQ(code_of(std::nextafter(all[low + 1], 0.0f)), low + 1);
      EXPECT_EQ(code_of(std::nextafter(all[low], kInfinity)), low);
    }
  }
}

// Every bf16 with what lies just below, at and above the tie to the next.
TEST(Fp8Test, RoundsAsTheReferenceDoes) {
  for (uint32_t high = 0; high < 0x10000; ++high) {
    for (const uint32_t rest : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const auto x = std::bit_cast<float>(high << 16 | rest);
      const float want = reference::RoundToE4M3(x);
      const float got = FloatFromE4M3(E4M3FromFloat(x));
      if (std::isnan(x)) {
        ASSERT_TRUE(std::isnan(got)) << high << " " << rest;
      } else {
        ASSERT_EQ(BitsOf(got), BitsOf(want)) << x;
      }
    }
  }
}

TEST(Fp8Test, SaturatesBeyond448AndKeepsTheSignOfWhatVanishes) {
  for (const float x : {449.0f, 464.0f, 480.0f, 1e30f, kInfinity}) {
    EXPECT_EQ(E4M3FromFloat(x).bits, 0x7e) << x;
    EXPECT_EQ(E4M3FromFloat(-x).bits, 0xfe) << x;
  }
  for (const float x : {0.0f, 0x1p-149f, 0x1p-126f, 0x1p-11f, 0x1p-10f}) {
    EXPECT_EQ(E4M3FromFloat(x).bits, 0x00) << x;
    EXPECT_EQ(E4M3FromFloat(-x).bits, 0x80) << x;
  }
  EXPECT_EQ(E4M3FromFloat(0x1.000002p-10f).bits, 0x01);
  EXPECT_EQ(E4M3FromFloat(0x3p-10f).bits, 0x02);
  EXPECT_EQ(E4M3FromFloat(0x1.efffffp-7f).bits, 0x08);  // up to a normal
}

TEST(Fp8Test, ABlocksScaleIsTheLeastPowerThatFits) {
  EXPECT_EQ(BlockScale(0), 0x1p-22f);
  EXPECT_EQ(BlockScale(0x1p-149f), 0x1p-22f);
  EXPECT_EQ(BlockScale(1e-4f), 0x1p-22f);
  EXPECT_EQ(BlockScale(1), 0x1p-8f);
  for (int power = -21; power <= 118; ++power) {
    const float scale = std::ldexp(1.0f, power);
    EXPECT_EQ(BlockScale(448 * scale), scale);
    EXPECT_EQ(BlockScale(std::nextafter(448 * scale, kInfinity)), 2 * scale);
    EXPECT_EQ(BlockScale(std::nextafter(448 * scale, 0.0f)), scale);
  }
  for (uint32_t bits = 0; bits < 0x7f800000u; bits += 0x1357u) {
    const float largest = std::bit_cast<float>(bits);
    const float want = reference::ScaleOfBlock(largest);
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(BlockScale(largest))) << largest;
    } else {
      ASSERT_EQ(BlockScale(largest), want) << largest;
      ASSERT_LE(double{largest} / want, 448) << largest;
    }
  }
}

TEST(Fp8Test, ABlockThatCouldLeaveTheRangeHasNoScale) {
  const float last = std::nextafter(kQuantisedMax, 0.0f);
  EXPECT_EQ(BlockScale(last), 0x1p120f);
  EXPECT_TRUE(
      std::isfinite(FloatFromE4M3(E4M3FromFloat(last / 0x1p120f)) * 0x1p120f));
  EXPECT_FALSE(std::isfinite(
      FloatFromE4M3(E4M3FromFloat(kQuantisedMax / 0x1p120f)) * 0x1p120f));
  for (const float x : {kQuantisedMax, kInfinity, std::nanf("")}) {
    EXPECT_TRUE(std::isnan(BlockScale(x))) << x;
  }
}

TEST(Fp8Test, TheLargestMagnitudeLosesNoNaN) {
  EXPECT_EQ(LargerMagnitude(1, -2), 2);
  EXPECT_EQ(LargerMagnitude(3, -2), 3);
  EXPECT_EQ(BitsOf(LargerMagnitude(0, -0.0f)), 0u);
  EXPECT_TRUE(std::isnan(LargerMagnitude(1, -std::nanf(""))));
  EXPECT_TRUE(std::isnan(LargerMagnitude(std::nanf(""), 1)));
  EXPECT_TRUE(std::isnan(LargerMagnitude(std::nanf(""), kInfinity)));
}

TEST(Fp8Test, BlocksAreCutOffAtTheEnd) {
  EXPECT_EQ(ScaleBlocks(0), 0);
  EXPECT_EQ(ScaleBlocks(1), 1);
  EXPECT_EQ(ScaleBlocks(128), 1);
  EXPECT_EQ(ScaleBlocks(129), 2);
}

}  // namespace
}  // namespace temper
