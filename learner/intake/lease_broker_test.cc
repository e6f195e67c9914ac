#include "learner/intake/lease_broker.h"

#include <memory>
#include <optional>

#include "gtest/gtest.h"
#include "learner/store/run_db_fixture.h"

namespace temper {
namespace {

// A run of two tasks with groups of three, in a fresh directory.
class LeaseBrokerTest : public RunDbFixture {
 protected:
  void SetUp() override {
    RunDbFixture::SetUp();
    std::vector<Task> tasks(2);
    for (int i = 0; i < 2; ++i) {
      tasks[i].set_id(i == 0 ? "a" : "b");
      tasks[i].set_environment("math");
      tasks[i].set_split("train");
    }
    TaskQueueOptions options;
    options.group_size = 3;
    auto queue = TaskQueue::Create(tasks, options, ledger_.get());
    ASSERT_TRUE(queue.ok()) << queue.status();
    queue_ = std::move(*queue);
    ASSERT_TRUE(queue_->IssueTrain(2).ok());
    broker_ = std::make_unique<LeaseBroker>(queue_.get(), SamplingConfig(), 7,
                                            &clock_);
  }

  std::optional<Lease> Take(const std::string& worker) {
    auto lease = broker_->Take(worker);
    EXPECT_TRUE(lease.ok()) << lease.status();
    return lease.ok() ? *lease : std::nullopt;
  }

  void Deliver(const std::string& worker, const Lease& lease, uint32_t sample) {
    TrajectoryKey key;
    key.set_group(lease.group());
    key.set_sample(sample);
    key.set_lease(lease.lease());
    broker_->Delivered(worker, key);
  }

  std::unique_ptr<TaskQueue> queue_;
  std::unique_ptr<LeaseBroker> broker_;
};

TEST_F(LeaseBrokerTest, ADeadWorkersUndeliveredSamplesAreLeasedAgain) {
  ASSERT_TRUE(broker_->AddWorker("a", 3).ok());
  const auto first = Take("a");
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->seed(), 7u);
  EXPECT_EQ(broker_->RemoveWorker("a"), 3);
  ASSERT_TRUE(broker_->AddWorker("b", 8).ok());
  const auto again = Take("b");
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->group(), first->group());
  EXPECT_EQ(again->samples_size(), 3);
  EXPECT_NE(again->lease(), first->lease());
}

TEST_F(LeaseBrokerTest, AWorkerHoldsNoMoreThanItsCapacityUnlessIdle) {
  ASSERT_TRUE(broker_->AddWorker("a", 2).ok());
  const auto lease = Take("a");
  ASSERT_TRUE(lease.has_value());
  EXPECT_FALSE(Take("a").has_value());
  for (uint32_t s = 0; s < 3; ++s) {
    Deliver("a", *lease, s);
  }
  EXPECT_TRUE(Take("a").has_value());
}

// The worker's copy of what it was not acked: it does not run it under the next
// lease, and has nothing of it any more.
TEST_F(LeaseBrokerTest, ASampleThatComesAgainUnderItsOldLeaseIsLeasedAnew) {
  ASSERT_TRUE(broker_->AddWorker("a", 8).ok());
  const auto first = Take("a");
  ASSERT_TRUE(first.has_value());
  queue_->Retry(first->group(), 1);  // its outcome had no reward
  const auto retry = Take("a");
  ASSERT_TRUE(retry.has_value());
  ASSERT_EQ(retry->group(), first->group());
  Deliver("a", *first, 1);
  const auto again = Take("a");
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->group(), first->group());
  ASSERT_EQ(again->samples_size(), 1);
  EXPECT_EQ(again->samples(0), 1u);
  // Two of the first lease and this one are out.
  EXPECT_EQ(broker_->RemoveWorker("a"), 3);
}

TEST_F(LeaseBrokerTest, WhatAnotherWorkerRetriesIsLeftToIt) {
  ASSERT_TRUE(broker_->AddWorker("a", 8).ok());
  ASSERT_TRUE(broker_->AddWorker("b", 8).ok());
  const auto first = Take("a");
  ASSERT_TRUE(first.has_value());
  queue_->Retry(first->group(), 1);
  const auto retry = Take("b");
  ASSERT_TRUE(retry.has_value());
  ASSERT_EQ(retry->group(), first->group());
  Deliver("a", *first, 1);
  EXPECT_EQ(queue_->LeaseOf(first->group(), 1), retry->lease());
  EXPECT_EQ(broker_->RemoveWorker("a"), 2);
  EXPECT_EQ(broker_->RemoveWorker("b"), 1);
}

// The worker goes on with what it runs and says so under the lease it knows.
TEST_F(LeaseBrokerTest, AfterABrokenStreamADeliveryUnderTheOldLeaseMakesRoom) {
  ASSERT_TRUE(broker_->AddWorker("a", 3).ok());
  const auto old = Take("a");
  ASSERT_TRUE(old.has_value());
  EXPECT_EQ(broker_->RemoveWorker("a"), 3);
  ASSERT_TRUE(broker_->AddWorker("a", 3).ok());
  const auto anew = Take("a");
  ASSERT_TRUE(anew.has_value());
  ASSERT_EQ(anew->group(), old->group());
  ASSERT_EQ(anew->samples_size(), 3);
  for (uint32_t s = 0; s < 3; ++s) {
    EXPECT_FALSE(Take("a").has_value());
    queue_->Settle(old->group(), s);
    Deliver("a", *old, s);
  }
  const auto next = Take("a");
  ASSERT_TRUE(next.has_value());
  EXPECT_NE(next->group(), old->group());
}

TEST_F(LeaseBrokerTest, ALeaseWaitsForTheWorkersWeights) {
  broker_->RequireVersion(5);
  ASSERT_TRUE(broker_->AddWorker("a", 8).ok());
  EXPECT_FALSE(broker_->AllConfirmedUs().has_value());
  EXPECT_FALSE(Take("a").has_value());
  broker_->ConfirmVersion("a", 5);
  EXPECT_TRUE(broker_->AllConfirmedUs().has_value());
  const auto lease = Take("a");
  ASSERT_TRUE(lease.has_value());
  EXPECT_EQ(lease->weight_version(), 5u);
}

TEST_F(LeaseBrokerTest, AllHaveConfirmedWhenTheLastFirstSaidSo) {
  clock_.AdvanceMicros(10);
  broker_->RequireVersion(5);
  EXPECT_EQ(broker_->AllConfirmedUs(), 10);
  ASSERT_TRUE(broker_->AddWorker("a", 8).ok());
  ASSERT_TRUE(broker_->AddWorker("b", 8).ok());
  clock_.AdvanceMicros(10);
  broker_->ConfirmVersion("a", 5);
  EXPECT_EQ(broker_->AllConfirmedUs(), std::nullopt);
  clock_.AdvanceMicros(10);
  broker_->ConfirmVersion("b", 5);
  EXPECT_EQ(broker_->AllConfirmedUs(), 30);
  clock_.AdvanceMicros(10);
  broker_->ConfirmVersion("a", 5);
  EXPECT_EQ(broker_->AllConfirmedUs(), 30);
}

TEST_F(LeaseBrokerTest, TwoWorkersOfOneNameAreRefused) {
  ASSERT_TRUE(broker_->AddWorker("a", 8).ok());
  EXPECT_EQ(broker_->AddWorker("a", 8).code(),
            absl::StatusCode::kAlreadyExists);
}

}  // namespace
}  // namespace temper
