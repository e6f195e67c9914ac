#include "rollout/job_pool.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <memory>
#include <thread>

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

TEST(JobPoolTest, ALaneWhoseThreadsAllBlockHoldsUpNoOther) {
  JobPool pool(2, 10);
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  // More than it has threads: one waits for its turn.
  for (int64_t tag = 1; tag <= 3; ++tag) {
    ASSERT_TRUE(pool.Post(
                        tag, [released] { released.wait(); }, "slow")
                    .ok());
  }
  ASSERT_TRUE(pool.Post(4, [] {}).ok());
  EXPECT_EQ(pool.TakeFinished(kLongUs), std::vector<int64_t>{4});
  ASSERT_TRUE(pool.Post(
                      5, [] {}, "quick")
                  .ok());
  EXPECT_EQ(pool.TakeFinished(kLongUs), std::vector<int64_t>{5});
  release.set_value();
  size_t ended = 0;
  while (ended < 3) ended += pool.TakeFinished(kLongUs).size();
  EXPECT_EQ(pool.pending(), 0);
}

TEST(JobPoolTest, JobsAboveTheLimitAreRefused) {
  JobPool pool(1, 1);
  ASSERT_TRUE(pool.Post(1, [] {}).ok());
  EXPECT_EQ(pool.Post(2, [] {}).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(pool.TakeFinished(kLongUs).size(), 1u);
  EXPECT_TRUE(pool.Post(3, [] {}).ok());
}

// Says on which thread it went.
class Mourned {
 public:
  explicit Mourned(std::promise<std::thread::id>* gone) : gone_(gone) {}
  ~Mourned() { gone_->set_value(std::this_thread::get_id()); }

 private:
  std::promise<std::thread::id>* const gone_;
};

TEST(JobPoolTest, ReleasedObjectGoesOnAnotherThreadUnannounced) {
  std::promise<std::thread::id> gone;
  JobPool pool(1, 2);
  pool.Release(std::make_shared<Mourned>(&gone));
  EXPECT_NE(gone.get_future().get(), std::this_thread::get_id());
  EXPECT_EQ(pool.pending(), 0);
  EXPECT_TRUE(pool.TakeFinished(0).empty());
}

TEST(JobPoolTest, ReleasesAboveTheLimitGoOnTheCallersThread) {
  std::promise<std::thread::id> first, second;
  std::promise<void> release;
  JobPool pool(1, 1);
  ASSERT_TRUE(
      pool.Post(1, [gate = release.get_future().share()] { gate.wait(); })
          .ok());
  pool.Release(std::make_shared<Mourned>(&first));
  pool.Release(std::make_shared<Mourned>(&second));
  EXPECT_EQ(second.get_future().get(), std::this_thread::get_id());
  release.set_value();
  EXPECT_NE(first.get_future().get(), std::this_thread::get_id());
}

TEST(JobPoolTest, AnOpenJobHoldsNoThreadAndIsWaitedFor) {
  std::vector<JobPool::Finish> finishes;
  std::thread late;
  {
    JobPool pool(1, 10);
    for (int64_t tag = 1; tag <= 3; ++tag) {
      ASSERT_TRUE(pool.PostOpen(tag,
                                [&](JobPool::Finish finish) {
                                  finishes.push_back(std::move(finish));
                                })
                      .ok());
    }
    // The only thread is free again.
    ASSERT_TRUE(pool.Post(4, [] {}).ok());
    EXPECT_EQ(pool.TakeFinished(kLongUs), std::vector<int64_t>{4});
    ASSERT_EQ(finishes.size(), 3u);
    finishes[1]();
    EXPECT_EQ(pool.TakeFinished(kLongUs), std::vector<int64_t>{2});
    EXPECT_EQ(pool.pending(), 2);
    late = std::thread([&] {
      finishes[0]();
      finishes[2]();
    });
  }
  late.join();
}

// Whoever looks for jobs by itself is not woken for them; who blocks looks no
// more.
TEST(JobPoolTest, NoJobWaitsWhileAThreadIsFree) {
  JobPool pool(3, 1000);
  int64_t tag = 0;
  const auto run_some = [&] {
    int posted = 0;
    for (; posted < 4; posted += 2) {
      EXPECT_TRUE(
          pool.PostOpen(++tag, [](JobPool::Finish finish) { finish(); }).ok());
      EXPECT_TRUE(pool.Post(++tag, [] {}).ok());
    }
    while (posted > 0) {
      const auto finished = pool.TakeFinished(kLongUs);
      ASSERT_FALSE(finished.empty());
      posted -= static_cast<int>(finished.size());
    }
  };
  for (int blocked = 0; blocked < 3; ++blocked) {
    for (int i = 0; i < 300; ++i) run_some();
    std::promise<void> release;
    std::vector<std::promise<void>> in(static_cast<size_t>(blocked));
    const auto gate = release.get_future().share();
    for (std::promise<void>& one : in) {
      ASSERT_TRUE(pool.Post(0,
                            [&one, gate] {
                              one.set_value();
                              gate.wait();
                            })
                      .ok());
    }
    for (std::promise<void>& one : in) one.get_future().wait();
    for (int i = 0; i < 300; ++i) run_some();
    release.set_value();
    for (int left = blocked; left > 0;) {
      left -= static_cast<int>(pool.TakeFinished(kLongUs).size());
    }
  }
}

TEST(JobPoolTest, WhatDroppedJobsHoldGoesOnThePoolsThreads) {
  std::promise<std::thread::id> held, released;
  std::promise<void> release;
  {
    JobPool pool(1, 4);
    const auto gate = release.get_future().share();
    ASSERT_TRUE(pool.Post(1, [gate] { gate.wait(); }).ok());
    ASSERT_TRUE(
        pool.Post(2, [object = std::make_shared<Mourned>(&held)] {}).ok());
    pool.Release(std::make_shared<Mourned>(&released));
    release.set_value();  // the destructor comes first, or the only thread
  }
  EXPECT_NE(held.get_future().get(), std::this_thread::get_id());
  EXPECT_NE(released.get_future().get(), std::this_thread::get_id());
}

}  // namespace
}  // namespace temper
