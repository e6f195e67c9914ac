#include "learner/lease_broker.h"

#include "gtest/gtest.h"

namespace temper {
namespace {

Lease MakeLease(uint64_t group, uint32_t samples, uint64_t version = 0) {
  Lease lease;
  lease.set_group(group);
  lease.set_weight_version(version);
  for (uint32_t s = 0; s < samples; ++s) lease.add_samples(s);
  return lease;
}

TEST(LeaseBrokerTest, ADeadWorkersUnfinishedSamplesWaitAgainInFront) {
  LeaseBroker broker;
  broker.Offer({MakeLease(1, 3), MakeLease(2, 3)});
  ASSERT_TRUE(broker.AddWorker("a", 3).ok());
  const auto first = broker.Take("a");
  ASSERT_TRUE(first.has_value());
  broker.Finish(1, 1);
  EXPECT_EQ(broker.RemoveWorker("a"), 2);
  ASSERT_TRUE(broker.AddWorker("b", 8).ok());
  const auto again = broker.Take("b");
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->group(), 1u);
  EXPECT_EQ(again->samples_size(), 2);
  EXPECT_EQ(again->samples(0), 0u);
  EXPECT_EQ(again->samples(1), 2u);
  EXPECT_NE(again->lease(), first->lease());
}

TEST(LeaseBrokerTest, AWorkerHoldsNoMoreThanItsCapacityUnlessIdle) {
  LeaseBroker broker;
  broker.Offer({MakeLease(1, 4), MakeLease(2, 4)});
  ASSERT_TRUE(broker.AddWorker("a", 2).ok());
  EXPECT_TRUE(broker.Take("a").has_value());
  EXPECT_FALSE(broker.Take("a").has_value());
  for (uint32_t s = 0; s < 4; ++s) broker.Finish(1, s);
  EXPECT_TRUE(broker.Take("a").has_value());
}

TEST(LeaseBrokerTest, ALeaseWaitsForTheWorkersWeights) {
  LeaseBroker broker;
  broker.Offer({MakeLease(1, 1, /*version=*/5)});
  ASSERT_TRUE(broker.AddWorker("a", 8).ok());
  EXPECT_FALSE(broker.AllAt(5));
  EXPECT_FALSE(broker.Take("a").has_value());
  broker.SetVersion("a", 5);
  EXPECT_TRUE(broker.AllAt(5));
  EXPECT_TRUE(broker.Take("a").has_value());
}

TEST(LeaseBrokerTest, ALateCopyFinishesWhatWaits) {
  LeaseBroker broker;
  broker.Offer({MakeLease(1, 1)});
  ASSERT_TRUE(broker.AddWorker("a", 8).ok());
  ASSERT_TRUE(broker.Take("a").has_value());
  broker.RemoveWorker("a");
  EXPECT_EQ(broker.waiting_samples(), 1);
  broker.Finish(1, 0);
  EXPECT_EQ(broker.waiting_samples(), 0);
}

TEST(LeaseBrokerTest, TwoWorkersOfOneNameAreRefused) {
  LeaseBroker broker;
  ASSERT_TRUE(broker.AddWorker("a", 8).ok());
  EXPECT_EQ(broker.AddWorker("a", 8).code(), absl::StatusCode::kAlreadyExists);
}

}  // namespace
}  // namespace temper
