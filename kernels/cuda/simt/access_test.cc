#include <numeric>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/simt/access_kernels.h"
#include "kernels/cuda/simt/emulator.h"
#include "kernels/cuda/simt/launch.h"
#include "kernels/cuda/simt/testing.h"

namespace temper::simt {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class AccessTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  AccessTest() { SetSchedule(GetParam()); }
  ~AccessTest() override { SetSchedule(0); }
};

INSTANTIATE_TEST_SUITE_P(Schedules, AccessTest,
                         ::testing::Range(uint64_t{0}, kSchedules));

TEST_P(AccessTest, GlobalMemoryEndsWithItsAllocation) {
  GlobalArray<float> in(100), out(100);
  in[99] = 5;
  CopyOne(in.data(), out.data(), 99);
  EXPECT_EQ(out[99], 5);
  for (const long at : {-1L, 100L, 1L << 40}) {
    FailureCatcher failures;
    CopyOne(in.data(), out.data(), at);
    EXPECT_THAT(failures.message(),
                AllOf(StartsWith("out of bounds: reads 4 bytes"),
                      HasSubstr("CopyOneKernel, block (0,0,0), thread (0,0,0)"),
                      ContainsRegex("access_kernels.cu:[0-9]+$")));
  }
}

TEST_P(AccessTest, TheHostsMemoryIsNotTheDevices) {
  GlobalArray<float> in(1);
  in[0] = 1;
  std::vector<float> host(1);
  FailureCatcher failures;
  CopyOne(in.data(), host.data(), 0);
  EXPECT_THAT(failures.message(), StartsWith("out of bounds: writes 4 bytes"));
}

TEST_P(AccessTest, WhatWasFreedIsNoMemory) {
  GlobalArray<float> out(1);
  auto* const in = static_cast<float*>(AllocateGlobal(4));
  CopyOne(in, out.data(), 0);
  FreeGlobal(in);
  FailureCatcher failures;
  CopyOne(in, out.data(), 0);
  EXPECT_THAT(failures.message(), StartsWith("out of bounds: reads"));
}

TEST_P(AccessTest, VectorsLieAtMultiplesOfTheirSize) {
  GlobalArray<float> in(8), out(4);
  std::iota(in.begin(), in.end(), 0.f);
  CopyVector(in.data(), 4, out.data());
  EXPECT_EQ(out[3], 7);
  FailureCatcher failures;
  CopyVector(in.data(), 1, out.data());
  EXPECT_THAT(failures.message(), StartsWith("misaligned: "));
}

TEST_P(AccessTest, DynamicSharedMemoryHasTheSizeOfTheLaunch) {
  GlobalArray<uint32_t> out(1);
  TouchShared(64, 15, out.data());
  EXPECT_EQ(out[0], 7u);
  for (const int at : {16, 1000, -1}) {
    FailureCatcher failures;
    TouchShared(64, at, out.data());
    EXPECT_THAT(failures.message(), StartsWith("out of bounds: writes 4"));
  }
}

TEST_P(AccessTest, AByteThatNobodyWroteIsFound) {
  GlobalArray<uint32_t> out(1);
  FailureCatcher failures;
  ReadHalfWritten(out.data());
  EXPECT_THAT(failures.message(), StartsWith("uninitialised: "));
}

TEST_P(AccessTest, TwoWritesRaceThoughTheyWriteTheSame) {
  GlobalArray<int> out(2);
  FailureCatcher failures;
  WriteTheSame(out.data());
  EXPECT_THAT(failures.message(),
              ContainsRegex("^race: .*thread \\([01],0,0\\) at "
                            "access_kernels.cu:.*access_kernels.cu:"));
}

TEST_P(AccessTest, NeighboursInAWordDoNotRace) {
  GlobalArray<uint32_t> out(16);
  WriteNeighbours(out.data());
  for (uint32_t i = 0; i < 16; ++i) {
    EXPECT_EQ(out[i], 0x03020100u + 0x04040404u * i);
  }
}

TEST_P(AccessTest, AStackIsItsThreadsOwn) {
  GlobalArray<int> out(2);
  FailureCatcher failures;
  ReadAnothersStack(out.data());
  EXPECT_THAT(failures.message(), StartsWith("out of bounds: reads 4 bytes"));
}

TEST_P(AccessTest, ArgumentsAndTablesMayBeRead) {
  GlobalArray<int> out(1);
  ReadArguments({{1, 2, 3, 4, 5}, 6}, out.data());
  EXPECT_EQ(out[0], 54321 + 6);
}

TEST(StarvationTest, APlainLoadThatNobodyEndsIsFound) {
  GlobalArray<int> flag(1);
  flag[0] = 0;
  for (const uint64_t seed : {0, 3}) {
    SetSchedule(seed);
    FailureCatcher failures;
    WaitForPlainLoad(flag.data());
    EXPECT_THAT(failures.message(), StartsWith("starvation: "));
  }
  SetSchedule(0);
}

TEST(LaunchDeathTest, NoGridOrBlockIsLargerThanAGpuHas) {
  const auto launch = [](dim3 grid, dim3 block) {
    LaunchGrid("large", grid, block, 0, nullptr, nullptr, 0);
  };
  EXPECT_DEATH(launch(dim3(0x80000000u), 32), "large .* grid of 2147483648");
  EXPECT_DEATH(launch(dim3(1, 65536), 32), "grid of 1 by 65536");
  EXPECT_DEATH(launch(dim3(1), dim3(1, 1, 65)), "blocks of 65 along z");
  EXPECT_DEATH(launch(dim3(1), dim3(32, 33)), "blocks of 1056 threads");
}

TEST(StarvationTest, APlainLoadWaitsForAnotherThread) {
  for (uint64_t seed = 0; seed < kSchedules; ++seed) {
    SetSchedule(seed);
    GlobalArray<int> flag(1);
    flag[0] = 0;
    WaitForPlainStore(flag.data());
    EXPECT_EQ(flag[0], 1);
  }
  SetSchedule(0);
}

}  // namespace
}  // namespace temper::simt
