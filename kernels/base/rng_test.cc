#include "kernels/base/rng.h"

#include <set>

#include "gtest/gtest.h"

namespace temper {
namespace {

using Words = std::array<uint32_t, 4>;

// kat_vectors of Random123, lines "philox4x32 10".
TEST(RngTest, MatchesTheAuthorsKnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(Philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
                       {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RngTest, EveryPartOfTheKeyMatters) {
  const RngKey base{7, RngPurpose::kSampleToken, 3, 2, 1};
  std::set<Words> seen = {RandomWords(base)};
  for (RngKey other :
       {RngKey{8, base.purpose, 3, 2, 1},
        RngKey{7 + (uint64_t{1} << 32), base.purpose, 3, 2, 1},
        RngKey{7, RngPurpose::kTaskOrder, 3, 2, 1},
        RngKey{7, base.purpose, 4, 2, 1},
        RngKey{7, base.purpose, 3 + (uint64_t{1} << 40), 2, 1},
        RngKey{7, base.purpose, 3, 3, 1}, RngKey{7, base.purpose, 3, 2, 2}}) {
    EXPECT_TRUE(seen.insert(RandomWords(other)).second);
  }
}

TEST(RngTest, UniformsStayBelowOneAndUseTwentyFourBits) {
  EXPECT_EQ(UniformFromWord(0), 0.0f);
  EXPECT_EQ(UniformFromWord(0xff), 0.0f);
  EXPECT_EQ(UniformFromWord(0x100), 0x1p-24f);
  EXPECT_EQ(UniformFromWord(0xffffffff), 1.0f - 0x1p-24f);
  double sum = 0;
  for (uint32_t i = 0; i < 10000; ++i) {
    sum += Uniform({1, RngPurpose::kTest, 0, 0, i});
  }
  EXPECT_NEAR(sum / 10000, 0.5, 0.015);
}

TEST(RngTest, UniformBelowReachesEveryValueAndNoOther) {
  std::set<uint64_t> seen;
  for (uint32_t i = 0; i < 200; ++i) {
    seen.insert(UniformBelow({1, RngPurpose::kTest, 0, 0, i}, 5));
  }
  EXPECT_EQ(seen, (std::set<uint64_t>{0, 1, 2, 3, 4}));
}

// From a Philox of its own, in Python.
TEST(RngTest, APermutationIsItsKeys) {
  using Order = std::vector<uint32_t>;
  EXPECT_EQ(Permutation({1, RngPurpose::kDemonstrationOrder, 0}, 6),
            (Order{5, 3, 0, 4, 1, 2}));
  EXPECT_EQ(Permutation({1, RngPurpose::kDemonstrationOrder, 1}, 6),
            (Order{0, 5, 1, 3, 4, 2}));
  EXPECT_EQ(Permutation({1, RngPurpose::kTest, 3, 0, /*ordinal=*/7}, 8),
            (Order{5, 1, 6, 2, 4, 3, 0, 7}));
  EXPECT_EQ(Permutation({}, 1), Order{0});
  EXPECT_EQ(Permutation({}, 0), Order{});
}

TEST(RngTest, NormalsHaveTheMomentsOfAStandardNormal) {
  double sums[5] = {};
  constexpr int kDraws = 20000;
  for (uint32_t i = 0; i < kDraws; ++i) {
    const double x = Normal({.seed = 9, .ordinal = i});
    double power = 1;
    for (double& sum : sums) {
      sum += power;
      power *= x;
    }
  }
  // Within four standard errors of 0, 1, 0 and 3.
  EXPECT_NEAR(sums[1] / kDraws, 0, 4 * 0.0071);
  EXPECT_NEAR(sums[2] / kDraws, 1, 4 * 0.01);
  EXPECT_NEAR(sums[3] / kDraws, 0, 4 * 0.0274);
  EXPECT_NEAR(sums[4] / kDraws, 3, 4 * 0.0693);
}

}  // namespace
}  // namespace temper
