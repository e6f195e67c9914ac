#include "rollout/delivery_queue.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Trajectory Of(uint64_t group, uint32_t sample, uint64_t lease = 1) {
  Trajectory trajectory;
  trajectory.mutable_key()->set_group(group);
  trajectory.mutable_key()->set_sample(sample);
  trajectory.mutable_key()->set_lease(lease);
  return trajectory;
}

class DeliveryQueueTest : public testing::Test {
 protected:
  DeliveryQueueTest() { queue_.StartStream(); }

  // What the queue leaves of a lease of these samples of group 1.
  std::vector<uint32_t> Take(uint64_t lease, std::vector<uint32_t> samples) {
    Lease message;
    message.set_lease(lease);
    message.set_group(1);
    for (const uint32_t sample : samples) message.add_samples(sample);
    queue_.TakeLease(&message);
    return {message.samples().begin(), message.samples().end()};
  }

  // The samples sent, all that can be.
  std::vector<uint32_t> SendAll() {
    std::vector<uint32_t> samples;
    while (const Trajectory* next = queue_.SendNext()) {
      samples.push_back(next->key().sample());
    }
    EXPECT_FALSE(queue_.has_unsent());
    return samples;
  }

  // Leases sample `sample` of group 1, begins it and ends it.
  void Play(uint64_t lease, uint32_t sample) {
    ASSERT_THAT(Take(lease, {sample}), ElementsAre(sample));
    ASSERT_TRUE(queue_.Begin(lease, 1, sample));
    ASSERT_TRUE(queue_.Add(Of(1, sample, lease)).ok());
  }

  DeliveryQueue queue_{4};
};

TEST_F(DeliveryQueueTest, EachIsSentOnceAStreamInOrderUntilItsAck) {
  for (const uint32_t sample : {2, 0, 1}) Play(1, sample);
  EXPECT_TRUE(queue_.has_unsent());
  EXPECT_THAT(SendAll(), ElementsAre(2, 0, 1));
  EXPECT_THAT(SendAll(), IsEmpty());
  queue_.Ack(Of(1, 0).key());
  EXPECT_EQ(queue_.unacked(), 2u);
  queue_.StartStream();
  EXPECT_THAT(SendAll(), ElementsAre(2, 1));
  queue_.Ack(Of(1, 2).key());
  queue_.Ack(Of(1, 1).key());
  EXPECT_EQ(queue_.unacked(), 0u);
  queue_.StartStream();
  EXPECT_THAT(SendAll(), IsEmpty());
}

TEST_F(DeliveryQueueTest, AnAckFreesTheSampleForItsNextTry) {
  Play(1, 0);
  EXPECT_THAT(Take(2, {0}), IsEmpty()) << "it is not acked";
  queue_.Ack(Of(1, 0).key());
  Play(3, 0);
  EXPECT_THAT(SendAll(), ElementsAre(0));
}

TEST_F(DeliveryQueueTest, WhatIsRunningIsLeftOutOfALeaseOfANewStream) {
  ASSERT_THAT(Take(1, {0, 1, 2}), ElementsAre(0, 1, 2));
  ASSERT_TRUE(queue_.Begin(1, 1, 0));
  ASSERT_TRUE(queue_.Begin(1, 1, 1));
  ASSERT_TRUE(queue_.Add(Of(1, 1)).ok());
  queue_.StartStream();
  EXPECT_THAT(Take(2, {0, 1, 2}), ElementsAre(2));
  // The copy's ack is here before the lease's turn comes: it is still left out.
  EXPECT_THAT(SendAll(), ElementsAre(1));
  queue_.Ack(Of(1, 1).key());
  EXPECT_FALSE(queue_.Begin(2, 1, 1));
  EXPECT_FALSE(queue_.Begin(2, 1, 0));
  EXPECT_TRUE(queue_.Begin(2, 1, 2));
  EXPECT_FALSE(queue_.Begin(2, 1, 2)) << "begun twice";
}

TEST_F(DeliveryQueueTest, WhatWaitedLapsesWithItsStream) {
  ASSERT_THAT(Take(1, {0, 1}), ElementsAre(0, 1));
  queue_.StartStream();
  EXPECT_FALSE(queue_.Begin(1, 1, 0));
  EXPECT_THAT(Take(2, {0}), ElementsAre(0));
  EXPECT_FALSE(queue_.Begin(1, 1, 0)) << "by the old lease";
  EXPECT_TRUE(queue_.Begin(2, 1, 0));
}

TEST_F(DeliveryQueueTest, AStrayAckFreesNothingThatRuns) {
  ASSERT_THAT(Take(1, {0}), ElementsAre(0));
  ASSERT_TRUE(queue_.Begin(1, 1, 0));
  queue_.Ack(Of(1, 0).key());
  EXPECT_THAT(Take(2, {0}), IsEmpty());
  ASSERT_TRUE(queue_.Add(Of(1, 0)).ok());
  EXPECT_THAT(SendAll(), ElementsAre(0));
}

TEST_F(DeliveryQueueTest, MoreThanItsLimitIsRefusedAndChangesNothing) {
  for (uint32_t sample = 0; sample < 4; ++sample) Play(1, sample);
  ASSERT_THAT(Take(1, {9}), ElementsAre(9));
  ASSERT_TRUE(queue_.Begin(1, 1, 9));
  EXPECT_EQ(queue_.Add(Of(1, 9)).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(SendAll(), ElementsAre(0, 1, 2, 3));
  queue_.Ack(Of(1, 3).key());
  EXPECT_TRUE(queue_.Add(Of(1, 9)).ok());
  EXPECT_THAT(SendAll(), ElementsAre(9));
}

}  // namespace
}  // namespace temper
