#include "kernels/base/thread_pool.h"

#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"

namespace temper {
namespace {

class ThreadPoolTest : public testing::TestWithParam<int> {
 protected:
  void SetUp() override { SetFlushDenormals(); }
};

TEST_P(ThreadPoolTest, EveryIndexIsVisitedOnceInWholeGrains) {
  ThreadPool pool(GetParam());
  for (int64_t count = 0; count < 70; ++count) {
    std::vector<int> visits(count, 0);
    pool.ParallelFor(count, 6, [&](int thread, int64_t begin, int64_t end) {
      EXPECT_EQ(begin % 6, 0);
      EXPECT_LT(thread, GetParam());
      for (int64_t i = begin; i < end; ++i) ++visits[i];
    });
    EXPECT_EQ(visits, std::vector<int>(count, 1));
  }
}

TEST_P(ThreadPoolTest, ManyRoundsInARowLoseNone) {
  ThreadPool pool(GetParam());
  std::vector<int64_t> sums(64, 0);
  for (int round = 0; round < 20000; ++round) {
    pool.ParallelFor(64, 1, [&](int, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) sums[i] += i;
    });
  }
  for (int64_t i = 0; i < 64; ++i) EXPECT_EQ(sums[i], 20000 * i);
}

TEST_P(ThreadPoolTest, WorkersFlushDenormals) {
  ThreadPool pool(GetParam());
  std::vector<int> flushed(GetParam(), 0);
  pool.ParallelFor(GetParam(), 1, [&](int thread, int64_t, int64_t) {
    flushed[thread] = FlushDenormalsSet();
  });
  EXPECT_EQ(flushed, std::vector<int>(GetParam(), 1));
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, testing::Values(1, 2, 3));

TEST(ThreadPoolDeathTest, ACallerWithAnotherFloatModeIsRefused) {
  EXPECT_DEATH(
      {
        _mm_setcsr(_mm_getcsr() & ~kFlushDenormalsBits);
        ThreadPool pool(1);
      },
      "SetFlushDenormals");
}

}  // namespace
}  // namespace temper
