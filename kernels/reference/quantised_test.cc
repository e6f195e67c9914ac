#include "kernels/reference/quantised.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/rng.h"

namespace temper::reference {
namespace {

using Floats = std::vector<float>;

Floats Normals(uint64_t seed, size_t count) {
  Floats x;
  for (size_t i = 0; i < count; ++i) {
    x.push_back(static_cast<float>(
        Normal({.seed = seed, .ordinal = static_cast<uint32_t>(i)})));
  }
  return x;
}

TEST(QuantisedTest, EachRowHasAScaleForEvery128Columns) {
  constexpr size_t kRows = 3, kColumns = 300;
  Floats x = Normals(1, kRows * kColumns);
  x[kColumns + 130] = 100;
  x[2 * kColumns + 299] = -1000;
  const Quantised q = QuantiseRows(x, kColumns);
  ASSERT_EQ(q.scales.size(), kRows * 3);
  EXPECT_EQ(q.scale(1, 255), 0.25f);
  EXPECT_EQ(q.scale(2, 256), 4.0f);
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t row = i / kColumns, first = i % kColumns / 128 * 128;
    double largest = 0;
    for (size_t k = first; k < std::min(first + 128, kColumns); ++k) {
      largest = std::max<double>(largest, std::fabs(x[row * kColumns + k]));
    }
    EXPECT_EQ(q.scale(row, first), ScaleOfBlock(largest));
    // Half of a last place: 3 bits of fraction, or 2^-9.
    const float code = q.codes[i] * q.scale(row, first);
    EXPECT_LE(std::fabs(code - x[i]), std::max(std::fabs(x[i]) * 0x1p-4f,
                                               q.scale(row, first) * 0x1p-10f));
  }
}

TEST(QuantisedTest, AWeightHasAScaleForEverySquareOf128) {
  constexpr size_t kOut = 130, kIn = 257;
  Floats w = Normals(2, kOut * kIn);
  w[127 * kIn + 127] = 60;    // of the first square
  w[128 * kIn + 256] = -500;  // of the last, which is 2 x 1
  const Quantised q = QuantiseWeight(w, kIn);
  ASSERT_EQ(q.scales.size(), 6u);
  EXPECT_EQ(q.scales[0], 0.25f);
  EXPECT_EQ(q.scales[5], 2.0f);
  EXPECT_EQ(q.scales[1], q.scale(5, 128));
  EXPECT_EQ(q.Dequantised()[128 * kIn + 256], -512);  // between 480 and 512
}

TEST(QuantisedTest, ARowDoesNotHangOnTheOthers) {
  constexpr size_t kRows = 5, kColumns = 140;
  const Floats x = Normals(3, kRows * kColumns);
  const Quantised all = QuantiseRows(x, kColumns);
  for (size_t row = 0; row < kRows; ++row) {
    const Quantised one = QuantiseRows(
        {x.begin() + row * kColumns, x.begin() + (row + 1) * kColumns},
        kColumns);
    EXPECT_EQ(one.scales, Floats(all.scales.begin() + row * 2,
                                 all.scales.begin() + row * 2 + 2));
    EXPECT_EQ(one.codes, Floats(all.codes.begin() + row * kColumns,
                                all.codes.begin() + (row + 1) * kColumns));
  }
}

TEST(QuantisedTest, QuantisingWhatWasDequantisedChangesNothing) {
  const Floats w = Normals(4, 130 * 140);
  const Floats once = QuantiseWeight(w, 140).Dequantised();
  const Quantised twice = QuantiseWeight(once, 140);
  EXPECT_EQ(twice.Dequantised(), once);
  EXPECT_EQ(Quantise(once, 140, 1).Dequantised(), once);  // by rows, too
}

TEST(QuantisedTest, AMatrixOfZerosKeepsItsSigns) {
  const Quantised q = QuantiseRows({0.0f, -0.0f, 0x1p-140f, -0x1p-140f}, 4);
  EXPECT_EQ(q.scales, Floats{0x1p-22f});
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(q.codes[i], 0);
    EXPECT_EQ(std::signbit(q.codes[i]), i % 2 == 1) << i;
  }
}

TEST(QuantisedTest, OnlyTheBlockOfANaNHasNoScale) {
  for (const float bad : {std::nanf(""), HUGE_VALF, -0x1.fp127f}) {
    for (const size_t place : {0u, 70u, 127u}) {
      Floats x = Normals(5, 256);
      x[place] = bad;
      const Quantised q = QuantiseRows(x, 256);
      EXPECT_TRUE(std::isnan(q.scales[0])) << bad;
      EXPECT_EQ(q.codes[5], 0);
      EXPECT_TRUE(std::isfinite(q.scales[1]));
    }
  }
}

// An output is the product of what the codes and scales stand for, to within
// the roundings of its depth; and what is beyond the last column is not there.
TEST(QuantisedTest, AProductIsThatOfTheDequantisedMatrices) {
  constexpr size_t kRows = 4, kOut = 150;
  for (const size_t in : {1u, 31u, 127u, 128u, 129u, 300u}) {
    const Quantised x = QuantiseRows(Normals(6, kRows * in), in);
    const Quantised w = QuantiseWeight(Normals(7, kOut * in), in);
    const Floats y = Linear(x, w), dx = x.Dequantised(), dw = w.Dequantised();
    for (size_t i = 0; i < kRows * kOut; ++i) {
      double want = 0, size = 0;
      for (size_t k = 0; k < in; ++k) {
        const double term =
            double{dx[i / kOut * in + k]} * dw[i % kOut * in + k];
        want += term;
        size += std::fabs(term);
      }
      EXPECT_NEAR(y[i], want, 0x1p-23 * size * 8) << in << " " << i;
    }
  }
}

// Three sums of 32 that are each too little to be added to the first block's,
// but not together: a block has a sum of its own.
TEST(QuantisedTest, ABlockIsSummedByItself) {
  Floats x(256, 0.0f);
  x[0] = 448;
  x[128] = x[160] = x[192] = 0x1p-4f;
  const Floats y = Linear(QuantiseRows(x, 256), QuantiseWeight(x, 256));
  EXPECT_EQ(y, Floats{448 * 448 + 0x1p-6f});
}

TEST(QuantisedTest, ButterfliesAreSylvestersMatrix) {
  for (const size_t dims : {1u, 2u, 16u, 128u}) {
    const Floats x = Normals(8, 2 * dims);
    const Floats got = Hadamard(x, dims);
    const std::vector<double> exact =
        Hadamard(std::vector<double>(x.begin(), x.end()), dims);
    for (size_t i = 0; i < got.size(); ++i) {
      double want = 0;
      for (size_t j = 0; j < dims; ++j) {
        const double sign =
            std::popcount(uint32_t(i % dims & j)) % 2 == 0 ? 1 : -1;
        want += sign * x[i / dims * dims + j];
      }
      want /= std::sqrt(static_cast<double>(dims));
      EXPECT_NEAR(exact[i], want, 1e-6);
      EXPECT_NEAR(got[i], want, 1e-5);
    }
    const Floats back = Hadamard(got, dims);
    for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(back[i], x[i], 1e-5);
  }
}

TEST(QuantisedTest, ScoresOfTheIndexerFoldTheScalesIntoWeightsAndSums) {
  constexpr size_t kHeads = 3, kDims = 64, kKeys = 5;
  const Quantised q = QuantiseRows(Normals(9, kHeads * kDims), kDims);
  const Quantised keys = QuantiseRows(Normals(10, kKeys * kDims), kDims);
  const Floats w = {0.5f, -0.25f, 1.5f};
  const Floats scores = IndexScores(q, w, keys);
  const Floats dq = q.Dequantised(), dk = keys.Dequantised();
  for (size_t s = 0; s < kKeys; ++s) {
    double want = 0;
    for (size_t h = 0; h < kHeads; ++h) {
      double dot = 0;
      for (size_t k = 0; k < kDims; ++k) {
        dot += double{dq[h * kDims + k]} * dk[s * kDims + k];
      }
      want += w[h] * std::max(dot, 0.0);
    }
    EXPECT_NEAR(scores[s], want, 1e-4);
  }
}

}  // namespace
}  // namespace temper::reference

int main(int argc, char** argv) {
  temper::SetFlushDenormals();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
