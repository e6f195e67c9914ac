#include "kernels/model/scaled_codes.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/rng.h"
#include "kernels/reference/quantised.h"
#include "kernels/tensor/fp8.h"

namespace temper {
namespace {

// Of all magnitudes that have a scale, those of a block near one another, and
// zeros of both signs among them.
std::vector<float> Drawn(int64_t rows, int64_t columns) {
  std::vector<float> values;
  for (int64_t i = 0; i < rows * columns; ++i) {
    const int64_t block = i / columns / kScaleBlock * ScaleBlocks(columns) +
                          i % columns / kScaleBlock;
    const auto ordinal = static_cast<uint32_t>(i);
    const double x = Normal({3, RngPurpose::kTest, 0, 0, ordinal});
    values.push_back(static_cast<float>(
        i % 13 == 0 ? std::copysign(0.0, x)
                    : std::ldexp(x, static_cast<int>(block * 37 % 90) - 40)));
  }
  return values;
}

struct Quantised {
  std::vector<F8E4M3> codes;
  std::vector<float> scales;
};

// By pieces of so many rows.
Quantised QuantisedBy(const std::vector<float>& values, int64_t columns,
                      int64_t piece_rows) {
  Quantised q;
  const auto all = static_cast<int64_t>(values.size());
  for (int64_t at = 0; at < all; at += piece_rows * columns) {
    const auto end = std::min(at + piece_rows * columns, all);
    const std::vector<float> piece(values.begin() + at, values.begin() + end);
    EXPECT_TRUE(AppendScaledCodes(piece, columns, &q.codes, &q.scales).ok());
  }
  return q;
}

SafetensorsEntry CodesOf(const Quantised& q, int64_t rows, int64_t columns) {
  return {"w",
          "F8_E4M3",
          {rows, columns},
          reinterpret_cast<const std::byte*>(q.codes.data()),
          q.codes.size()};
}

SafetensorsEntry ScalesOf(const std::vector<float>& scales) {
  return {"w_scale_inv",
          "F32",
          {static_cast<int64_t>(scales.size())},
          reinterpret_cast<const std::byte*>(scales.data()),
          scales.size() * sizeof(float)};
}

class ScaledCodesTest : public testing::Test {
 protected:
  void SetUp() override { SetFlushDenormals(); }
};

TEST_F(ScaledCodesTest, AreTheDefinitionsWithEdgesAndByPieces) {
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{1, 1},
                                      {128, 128},
                                      {130, 257},
                                      {300, 5},
                                      {7, 384}}) {
    const std::vector<float> values = Drawn(rows, columns);
    const reference::Quantised want =
        reference::QuantiseWeight(values, static_cast<size_t>(columns));
    for (const int64_t piece : {int64_t{128}, int64_t{256}, 1024 * rows}) {
      const Quantised got = QuantisedBy(values, columns, piece);
      EXPECT_EQ(got.scales, want.scales);
      ASSERT_EQ(got.codes.size(), want.codes.size());
      for (size_t i = 0; i < got.codes.size(); ++i) {
        ASSERT_EQ(std::bit_cast<uint32_t>(FloatFromE4M3(got.codes[i])),
                  std::bit_cast<uint32_t>(want.codes[i]))
            << i;
      }
    }
    const Quantised q = QuantisedBy(values, columns, 128);
    const auto decoded =
        DecodeScaledCodes(CodesOf(q, rows, columns), ScalesOf(q.scales));
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, want.Dequantised());
  }
}

// Also where a block's largest number was rounded down to a smaller scale's.
TEST_F(ScaledCodesTest, ValuesOfTheQuantisersScalesAreKeptWhenQuantisedAgain) {
  std::vector<float> values = Drawn(130, 257);
  values[0] = std::ldexp(231.0f, 60);  // of its block; a code of 224
  Quantised q = QuantisedBy(values, 257, 128);
  for (int round = 0; round < 2; ++round) {
    EXPECT_TRUE(AreQuantisersScales(ScalesOf(q.scales)));
    const auto decoded =
        *DecodeScaledCodes(CodesOf(q, 130, 257), ScalesOf(q.scales));
    const Quantised again = QuantisedBy(decoded, 257, 128);
    EXPECT_EQ(again.scales == q.scales, round == 1);
    EXPECT_EQ(
        *DecodeScaledCodes(CodesOf(again, 130, 257), ScalesOf(again.scales)),
        decoded);
    q = again;
  }
}

TEST_F(ScaledCodesTest, OtherScalesAreToldAndThoseThatAreNoneRefused) {
  EXPECT_TRUE(AreQuantisersScales(ScalesOf({0x1p-22f, 1, 0x1p120f})));
  for (const float other : {0x1p-23f, 1.5f, 0.00013f}) {
    EXPECT_FALSE(AreQuantisersScales(ScalesOf({1, other}))) << other;
    EXPECT_TRUE(CheckScales(ScalesOf({1, other})).ok());
  }
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const float none : {0.0f, -1.0f, kInf, std::nanf("")}) {
    const absl::Status refused = CheckScales(ScalesOf({1, none}));
    EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(absl::StrContains(refused.message(), "\"w_scale_inv\""))
        << refused;
    const std::vector<float> scales = {none};
    EXPECT_EQ(DecodeScaledCodes(CodesOf({{{1}}, {}}, 1, 1), ScalesOf(scales))
                  .status()
                  .code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(ScaledCodesTest, WhatNoScaleFitsIsRefused) {
  std::vector<F8E4M3> codes;
  std::vector<float> scales;
  for (const float none :
       {kQuantisedMax, -std::numeric_limits<float>::infinity(),
        std::nanf("")}) {
    EXPECT_EQ(AppendScaledCodes({1, none}, 2, &codes, &scales).code(),
              absl::StatusCode::kDataLoss)
        << none;
  }
}

}  // namespace
}  // namespace temper
