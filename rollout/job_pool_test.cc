#include "rollout/job_pool.h"

#include <algorithm>
#include <atomic>
#include <future>

#include "gtest/gtest.h"

namespace temper {
namespace {

constexpr int64_t kLongUs = 20'000'000;

TEST(JobPoolTest, EveryJobRunsOnceAndIsAnnouncedOnce) {
  JobPool pool(3, 100);
  std::atomic<int> ran{0};
  for (int64_t tag = 0; tag < 50; ++tag) {
    ASSERT_TRUE(pool.Post(tag, [&ran] { ++ran; }).ok());
  }
  std::vector<int64_t> tags;
  while (tags.size() < 50) {
    for (const int64_t tag : pool.TakeFinished(kLongUs)) tags.push_back(tag);
  }
  std::sort(tags.begin(), tags.end());
  for (int64_t tag = 0; tag < 50; ++tag) EXPECT_EQ(tags[tag], tag);
  EXPECT_EQ(ran, 50);
  EXPECT_EQ(pool.pending(), 0);
  EXPECT_TRUE(pool.TakeFinished(0).empty());
}

TEST(JobPoolTest, SlowJobDoesNotHoldUpAQuickOne) {
  JobPool pool(2, 10);
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  ASSERT_TRUE(pool.Post(1, [released] { released.wait(); }).ok());
  ASSERT_TRUE(pool.Post(2, [] {}).ok());
  EXPECT_EQ(pool.TakeFinished(kLongUs), std::vector<int64_t>{2});
  release.set_value();
  EXPECT_EQ(pool.TakeFinished(kLongUs), std::vector<int64_t>{1});
}

TEST(JobPoolTest, JobsAboveTheLimitAreRefused) {
  JobPool pool(1, 1);
  ASSERT_TRUE(pool.Post(1, [] {}).ok());
  EXPECT_EQ(pool.Post(2, [] {}).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(pool.TakeFinished(kLongUs).size(), 1u);
  EXPECT_TRUE(pool.Post(3, [] {}).ok());
}

}  // namespace
}  // namespace temper
