#include <bit>
#include <numeric>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/simt/emulator.h"
#include "kernels/cuda/simt/testing.h"
#include "kernels/cuda/simt/warp_kernels.h"

namespace temper::simt {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class WarpTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  WarpTest() { SetSchedule(GetParam()); }
  ~WarpTest() override { SetSchedule(0); }
};

INSTANTIATE_TEST_SUITE_P(Schedules, WarpTest,
                         ::testing::Range(uint64_t{0}, kSchedules));

// The lane that shfl.sync reads, as the PTX ISA writes it down: operand c holds
// a segment's mask above and its last lane below, as CUDA's words make it.
uint32_t SourceInPtx(ShuffleWord word, uint32_t lane, uint32_t by,
                     uint32_t width) {
  const uint32_t segment = 32 - width;
  const uint32_t clamp = word == ShuffleWord::kUp ? 0 : 0x1f;
  const uint32_t last = (lane & segment) | (clamp & ~segment);
  const uint32_t first = lane & segment;
  const uint32_t b = by & 0x1f;
  int64_t j = 0;
  bool inside = false;
  switch (word) {
    case ShuffleWord::kUp:
      j = int64_t{lane} - b;
      inside = j >= last;
      break;
    case ShuffleWord::kDown:
      j = lane + b;
      inside = j <= last;
      break;
    case ShuffleWord::kXor:
      j = lane ^ b;
      inside = j <= last;
      break;
    case ShuffleWord::kIndex:
      j = first | (b & ~segment);
      inside = j <= last;
      break;
  }
  return inside ? static_cast<uint32_t>(j) : lane;
}

TEST_P(WarpTest, ShufflesReadTheLaneThatPtxSays) {
  GlobalArray<uint32_t> in(32), out32(32);
  GlobalArray<double> out64(32);
  std::iota(in.begin(), in.end(), 1000u);
  for (const auto word : {ShuffleWord::kIndex, ShuffleWord::kUp,
                          ShuffleWord::kDown, ShuffleWord::kXor}) {
    for (const uint32_t mask : {0xffffffffu, 0x0ff0f00fu}) {
      for (const int width : {2, 8, 32}) {
        for (const int by : {0, 1, 3, 5, 16, 31}) {
          ShuffleLanes(word, mask, by, width, in.data(), out32.data(),
                       out64.data());
          for (uint32_t lane = 0; lane < 32; ++lane) {
            if ((mask >> lane & 1) == 0) continue;
            const uint32_t source = SourceInPtx(word, lane, by, width);
            // PTX says nothing of what a lane that stays away would give.
            if ((mask >> source & 1) == 0) continue;
            EXPECT_EQ(out32[lane], in[source]);
            EXPECT_EQ(out64[lane], in[source] * 0x1p40);
          }
        }
      }
    }
  }
}

// The emulator's own: a GPU may give anything.
TEST_P(WarpTest, WhatALaneThatStaysAwayWouldGiveIsPoison) {
  GlobalArray<uint32_t> in(32), out32(32);
  GlobalArray<double> out64(32);
  std::iota(in.begin(), in.end(), 1000u);
  ShuffleLanes(ShuffleWord::kXor, 0x0000ffffu, 16, 32, in.data(), out32.data(),
               out64.data());
  for (int lane = 0; lane < 16; ++lane) {
    EXPECT_EQ(out32[lane], 0xffffffffu);
    EXPECT_EQ(std::bit_cast<uint64_t>(out64[lane]), ~uint64_t{0});
  }
}

TEST_P(WarpTest, VotesCountTheLanesThatHaveNotEnded) {
  GlobalArray<int> in(32);
  GlobalArray<uint32_t> out(3);
  for (const int alive : {1, 7, 32}) {
    for (const uint32_t votes : {0u, 0xffffffffu, 0x5a5a5a5au}) {
      for (int lane = 0; lane < 32; ++lane) in[lane] = votes >> lane & 1;
      VoteOfTheAlive(alive, in.data(), out.data());
      const uint32_t all =
          alive == 32 ? 0xffffffffu : (uint32_t{1} << alive) - 1;
      EXPECT_EQ(out[0], votes & all);
      EXPECT_EQ(out[1], (votes & all) != 0);
      EXPECT_EQ(out[2], (votes & all) == all);
    }
  }
}

TEST_P(WarpTest, PartsOfAWarpMeetApart) {
  GlobalArray<int> in(32), out(32);
  int sums[2] = {};
  for (int lane = 0; lane < 32; ++lane) {
    sums[lane % 2] += in[lane] = lane * lane + 1;
  }
  SumEvenAndOdd(in.data(), out.data());
  for (int lane = 0; lane < 32; ++lane) EXPECT_EQ(out[lane], sums[lane % 2]);
}

TEST_P(WarpTest, LanesThatMeetInDifferentOperationsAreNamed) {
  FailureCatcher failures;
  MeetInTwoOperations();
  EXPECT_THAT(failures.message(), StartsWith("divergent operations: "));
  EXPECT_THAT(failures.message(), HasSubstr("warp_kernels.cu:"));
}

TEST_P(WarpTest, OverlappingMasksAreNamed) {
  FailureCatcher failures;
  MeetWithTwoMasks();
  EXPECT_THAT(failures.message(), StartsWith("wrong mask: "));
}

TEST_P(WarpTest, AnAlignedOperationWantsAllLanes) {
  FailureCatcher failures;
  MultiplyWithoutAllLanes();
  EXPECT_THAT(failures.message(), StartsWith("divergent operations: "));
  EXPECT_THAT(failures.message(), HasSubstr("0x3fffffff"));
}

TEST_P(WarpTest, NamedBarriersJoinPartsOfABlock) {
  GlobalArray<int> out(129);
  TellByNamedBarriers(out.data());
  for (int i = 0; i < 128; ++i) EXPECT_EQ(out[i], i < 64 ? 63 : 127);
  EXPECT_EQ(out[128], 127);
}

}  // namespace
}  // namespace temper::simt
