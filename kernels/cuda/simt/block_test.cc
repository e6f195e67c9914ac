#include <cstring>
#include <memory>
#include <numeric>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/simt/block_kernels.h"
#include "kernels/cuda/simt/emulator.h"
#include "kernels/cuda/simt/testing.h"

namespace temper::simt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class BlockTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  BlockTest() { SetSchedule(GetParam()); }
  ~BlockTest() override { SetSchedule(0); }
};

INSTANTIATE_TEST_SUITE_P(Schedules, BlockTest,
                         ::testing::Range(uint64_t{0}, kSchedules));

TEST_P(BlockTest, EveryThreadKnowsItsPlace) {
  GlobalArray<Place> places(3 * 2 * 2 * 5 * 3 * 2);
  WritePlaces(places.data());
  for (uint32_t i = 0; i < places.size(); ++i) {
    const uint32_t thread = i % 30, block = i / 30;
    const Place expected = {{block % 3, block / 3 % 2, block / 6},
                            {thread % 5, thread / 5 % 3, thread / 15},
                            {3, 2, 2},
                            {5, 3, 2}};
    EXPECT_EQ(std::memcmp(&places[i], &expected, sizeof(Place)), 0) << i;
  }
}

TEST_P(BlockTest, ABlockSumsBySharedMemoryAndShuffles) {
  constexpr int kBlocks = 5;
  GlobalArray<int> values(kBlocks * 256), out(kBlocks);
  std::iota(values.begin(), values.end(), 7);
  SumBlocks(values.data(), kBlocks, out.data());
  for (int b = 0; b < kBlocks; ++b) {
    EXPECT_EQ(out[b], std::accumulate(values.begin() + b * 256,
                                      values.begin() + (b + 1) * 256, 0));
  }
}

TEST_P(BlockTest, BlocksOfAnySizeMeetAtABarrier) {
  for (const int threads : {1, 31, 32, 33, 100, 1024}) {
    constexpr int kBlocks = 3;
    GlobalArray<uint32_t> in(kBlocks * threads), out(kBlocks * threads);
    std::iota(in.begin(), in.end(), 1u);
    ReverseBlocks(in.data(), kBlocks, threads, out.data());
    for (int i = 0; i < kBlocks * threads; ++i) {
      const int block = i / threads;
      EXPECT_EQ(out[i], in[block * threads + threads - 1 - i % threads]);
    }
  }
}

TEST_P(BlockTest, BarriersDoNotWaitForThreadsThatHaveEnded) {
  for (const int alive : {1, 20, 32, 33, 96}) {
    GlobalArray<int> out(128);
    CountAfterExit(128, alive, out.data());
    for (int i = 0; i < alive; ++i) EXPECT_EQ(out[i], alive);
  }
}

TEST_P(BlockTest, AtomicsLoseNothing) {
  constexpr int kValues = 5000;
  GlobalArray<int> values(kValues), counts(64);
  std::vector<int> expected(64);
  for (int i = 0; i < kValues; ++i) ++expected[values[i] = i * i % 64];
  std::fill(counts.begin(), counts.end(), 0);
  Histogram(values.data(), kValues, 7, counts.data());
  EXPECT_EQ(std::vector<int>(counts.begin(), counts.end()), expected);
}

TEST_P(BlockTest, PollingForWhatNobodySetsIsStarvation) {
  GlobalArray<int> flag(1);
  flag[0] = 0;
  FailureCatcher failures;
  PollForever(flag.data());
  EXPECT_THAT(failures.message(), HasSubstr("starvation: "));
  EXPECT_THAT(failures.message(), HasSubstr("PollKernel, block (0,0,0), "));
  EXPECT_THAT(failures.message(), HasSubstr("block_kernels.cu:"));
}

TEST_P(BlockTest, WhoWaitsForNobodyIsADeadlockThatNamesTheLines) {
  FailureCatcher failures;
  WaitApart();
  EXPECT_THAT(
      failures.message(),
      AllOf(HasSubstr("deadlock: "), HasSubstr("1 wait for __syncwarp at "),
            HasSubstr("63 wait for a barrier of the block at ")));
}

TEST_P(BlockTest, AWarpAtTwoBarriersIsNamed) {
  FailureCatcher failures;
  DivergeAtBarrier();
  EXPECT_THAT(failures.message(), HasSubstr("divergent barrier: "));
}

TEST_P(BlockTest, AfterAFailureTheNextLaunchRunsAsEver) {
  {
    FailureCatcher failures;
    DivergeAtBarrier();
  }
  GlobalArray<int> out(128);
  CountAfterExit(128, 77, out.data());
  EXPECT_EQ(out[76], 77);
}

TEST(BlockDeathTest, AFailureThatNobodyCatchesEndsTheProcess) {
  EXPECT_DEATH(DivergeAtBarrier(), "simt: divergent barrier: ");
}

}  // namespace
}  // namespace temper::simt
