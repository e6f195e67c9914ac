#include "kernels/cuda/simt/bugs.h"

#include <bit>
#include <cstring>
#include <numeric>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/simt/emulator.h"
#include "kernels/cuda/simt/testing.h"

namespace temper::simt {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

// Small integers, whose sums are exact in any order.
uint16_t SmallBf16(int i) {
  const auto value = static_cast<float>(i * 7 % 5 - 2);
  return static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
}

float Value(uint16_t bf16) {
  return std::bit_cast<float>(uint32_t{bf16} << 16);
}

// A product c = a b^T of a kernel with `bug`, and whether it is right.
template <typename Kernel>
bool ProductIsRight(Bug bug, int side, int depth, Kernel kernel) {
  GlobalArray<uint16_t> a(side * depth), b(side * depth);
  GlobalArray<float> c(side * side);
  for (int i = 0; i < side * depth; ++i) {
    a[i] = SmallBf16(i);
    b[i] = SmallBf16(3 * i + i / depth);
  }
  kernel(bug, a.data(), b.data(), c.data());
  for (int row = 0; row < side; ++row) {
    for (int column = 0; column < side; ++column) {
      float sum = 0;
      for (int k = 0; k < depth; ++k) {
        sum += Value(a[row * depth + k]) * Value(b[column * depth + k]);
      }
      if (c[row * side + column] != sum) return false;
    }
  }
  return true;
}

bool SumIsRight(Bug bug) {
  GlobalArray<int> values(512), out(2);
  std::iota(values.begin(), values.end(), 3);
  SumWithBug(bug, values.data(), out.data());
  return out[0] ==
             1 + std::accumulate(values.begin(), values.begin() + 256, 0) &&
         out[1] == 1 + std::accumulate(values.begin() + 256, values.end(), 0);
}

bool CopiedProductIsRight(Bug bug) {
  return ProductIsRight(bug, 32, 96, &CopiedProductWithBug);
}

bool TensorProductIsRight(Bug bug) {
  return ProductIsRight(bug, 64, 320, &TensorProductWithBug);
}

struct Seeded {
  Bug bug;
  const char* name;
  bool (*is_right)(Bug bug);
  // The failure's name; several where the schedule decides which comes first.
  const char* failure;
};

constexpr Seeded kSeeded[] = {
    {Bug::kNoBarrierBeforeRead, "NoBarrierBeforeRead", &SumIsRight,
     "race|uninitialised"},
    {Bug::kNoBarrierBeforeReuse, "NoBarrierBeforeReuse", &SumIsRight, "race"},
    {Bug::kNoInitialisation, "NoInitialisation", &SumIsRight, "uninitialised"},
    {Bug::kNoSyncwarp, "NoSyncwarp", &SumIsRight, "race|uninitialised"},
    {Bug::kMaskWithoutTheLane, "MaskWithoutTheLane", &SumIsRight, "wrong mask"},
    {Bug::kMaskOfMoreThanCome, "MaskOfMoreThanCome", &SumIsRight, "deadlock"},
    {Bug::kBarrierInABranch, "BarrierInABranch", &SumIsRight,
     "divergent barrier"},
    {Bug::kOneBarrierTooMany, "OneBarrierTooMany", &SumIsRight, "deadlock"},
    {Bug::kWaitsForTooFewGroups, "WaitsForTooFewGroups", &CopiedProductIsRight,
     "read before its wait"},
    {Bug::kCopiesWithoutCommit, "CopiesWithoutCommit", &CopiedProductIsRight,
     "read before its wait"},
    {Bug::kNoBarrierAfterWait, "NoBarrierAfterWait", &CopiedProductIsRight,
     "race|read before its wait|uninitialised"},
    {Bug::kNoBarrierBeforeRefill, "NoBarrierBeforeRefill",
     &CopiedProductIsRight, "race|read before its wait"},
    {Bug::kReadsTheOtherStage, "ReadsTheOtherStage", &CopiedProductIsRight,
     "read before its wait|uninitialised"},
    {Bug::kNamedBarrierOfTooMany, "NamedBarrierOfTooMany",
     &CopiedProductIsRight, "deadlock"},
    {Bug::kNamedBarrierOfAnother, "NamedBarrierOfAnother",
     &CopiedProductIsRight, "deadlock"},
    {Bug::kInitNotFenced, "InitNotFenced", &TensorProductIsRight,
     "missing proxy fence"},
    {Bug::kInitNotAnnounced, "InitNotAnnounced", &TensorProductIsRight,
     "mbarrier misuse|race"},
    {Bug::kExpectsTooFewBytes, "ExpectsTooFewBytes", &TensorProductIsRight,
     "read before its wait"},
    {Bug::kExpectsTooManyBytes, "ExpectsTooManyBytes", &TensorProductIsRight,
     "deadlock"},
    {Bug::kConsumerDoesNotWait, "ConsumerDoesNotWait", &TensorProductIsRight,
     "read before its wait|uninitialised"},
    {Bug::kConsumerWaitsForTheOtherParity, "ConsumerWaitsForTheOtherParity",
     &TensorProductIsRight, "read before its wait|uninitialised"},
    {Bug::kProducerDoesNotWait, "ProducerDoesNotWait", &TensorProductIsRight,
     "mbarrier misuse"},
    {Bug::kProducerWaitsForTheOtherParity, "ProducerWaitsForTheOtherParity",
     &TensorProductIsRight, "deadlock"},
    {Bug::kConsumerDoesNotArrive, "ConsumerDoesNotArrive",
     &TensorProductIsRight, "deadlock"},
    {Bug::kReleasesBeforeItsWgmmaEnds, "ReleasesBeforeItsWgmmaEnds",
     &TensorProductIsRight, "overwritten too early"},
    {Bug::kMultipliesTheWrongStage, "MultipliesTheWrongStage",
     &TensorProductIsRight,
     "read before its wait|uninitialised|overwritten too early"},
    {Bug::kNoWgmmaFence, "NoWgmmaFence", &TensorProductIsRight,
     "missing wgmma fence"},
    {Bug::kNoWgmmaCommit, "NoWgmmaCommit", &TensorProductIsRight,
     "overwritten too early|read before its wait"},
    {Bug::kNoWgmmaWait, "NoWgmmaWait", &TensorProductIsRight,
     "overwritten too early|read before its wait"},
    {Bug::kResultNotFenced, "ResultNotFenced", &TensorProductIsRight,
     "missing proxy fence"},
    {Bug::kNoBarrierBeforeStore, "NoBarrierBeforeStore", &TensorProductIsRight,
     "race|uninitialised|overwritten too early"},
    {Bug::kResultOverwrittenTooEarly, "ResultOverwrittenTooEarly",
     &TensorProductIsRight, "overwritten too early"},
    {Bug::kStoreNotCommitted, "StoreNotCommitted", &TensorProductIsRight,
     "overwritten too early|unfinished"},
    {Bug::kStoreNotWaitedFor, "StoreNotWaitedFor", &TensorProductIsRight,
     "unfinished"},
};

class BugTest : public ::testing::TestWithParam<Seeded> {};

INSTANTIATE_TEST_SUITE_P(Seeded, BugTest, ::testing::ValuesIn(kSeeded),
                         [](const auto& info) {
                           return std::string(info.param.name);
                         });

TEST_P(BugTest, IsFoundUnderEverySchedule) {
  const std::string expected =
      std::string("^(") + GetParam().failure + "): .*_bugs\\.cu:[0-9]+$";
  for (uint64_t seed = 0; seed < kSchedules; ++seed) {
    SetSchedule(seed);
    FailureCatcher failures;
    GetParam().is_right(GetParam().bug);
    EXPECT_THAT(failures.message(), ContainsRegex(expected)) << seed;
  }
}

TEST(TwinTest, WithoutABugEveryKernelIsRightUnderEverySchedule) {
  for (uint64_t seed = 0; seed < 2 * kSchedules; ++seed) {
    SetSchedule(seed);
    EXPECT_TRUE(SumIsRight(Bug::kNone)) << seed;
    EXPECT_TRUE(CopiedProductIsRight(Bug::kNone)) << seed;
    EXPECT_TRUE(TensorProductIsRight(Bug::kNone)) << seed;
  }
}

}  // namespace
}  // namespace temper::simt
