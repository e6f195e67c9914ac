// The learner's publisher and the worker's client on one wire: versions arrive
// bit for bit, an announcement is enough, the newest wins, and a publisher that
// died and came back is taken up again.

#include <chrono>
#include <cstddef>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "learner/intake/weight_publisher.h"
#include "rollout/weight_client.h"

namespace temper {
namespace {

// What the client's callback said.
struct Arrival {
  uint64_t version = 0;
  absl::Status status;
  std::shared_ptr<const ReceivedWeights> weights;
};

constexpr int64_t kPatienceUs = 30'000'000;
constexpr size_t kCount = 3'000'000;  // 12 MB: a dozen chunks

// NaNs and denormals included: bytes are carried, not numbers.
std::vector<float> Values(uint32_t seed, size_t count = kCount) {
  std::vector<float> values(count);
  uint32_t state = seed;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    std::memcpy(&value, &state, sizeof(value));
  }
  return values;
}

std::vector<std::byte> BytesOf(const std::vector<float>& values) {
  const auto* const begin = reinterpret_cast<const std::byte*>(values.data());
  return {begin, begin + values.size() * sizeof(float)};
}

class WeightSyncTest : public testing::Test {
 protected:
  void StartPublisher(const std::string& announce = "tcp://127.0.0.1:*",
                      const std::string& chunks = "tcp://127.0.0.1:*") {
    publisher_.reset();
    WeightPublisherOptions options;
    options.run = "trial";
    options.announce_address = announce;
    options.chunk_address = chunks;
    auto publisher = WeightPublisher::Start(options);
    ASSERT_TRUE(publisher.ok()) << publisher.status();
    publisher_ = *std::move(publisher);
  }

  void Publish(uint64_t version, const std::vector<float>& values) {
    const std::vector<PublishedTensor> tensors = {
        {"first", "F32", {10, 10}},
        {"rest", "F32", {static_cast<int64_t>(values.size()) - 100}}};
    ASSERT_TRUE(publisher_->Publish(version, tensors, BytesOf(values)).ok());
  }

  void StartClient() {
    WeightClientOptions options;
    options.run = "trial";
    options.announce_endpoint = publisher_->announce_endpoint();
    options.chunk_endpoint = publisher_->chunk_endpoint();
    options.request_timeout_ms = 200;
    client_ = *WeightClient::Start(
        options,
        [this](uint64_t version,
               absl::StatusOr<std::shared_ptr<const ReceivedWeights>> weights) {
          Arrival arrival{version, weights.status(), nullptr};
          if (weights.ok()) arrival.weights = *weights;
          MutexLock lock(&mutex_);
          received_.push_back(arrival);
          arrived_.NotifyAll();
        });
  }

  // The next callback.
  Arrival Next() {
    const auto deadline = std::chrono::steady_clock::now() +
                          std::chrono::microseconds(kPatienceUs);
    MutexLock lock(&mutex_);
    while (received_.empty() && std::chrono::steady_clock::now() < deadline) {
      arrived_.WaitFor(&mutex_, std::chrono::microseconds(100'000));
    }
    if (received_.empty()) {
      return {0, absl::DeadlineExceededError("no callback came"), nullptr};
    }
    const Arrival next = received_.front();
    received_.pop_front();
    return next;
  }

  void ExpectNext(uint64_t version, const std::vector<float>& values) {
    const Arrival next = Next();
    EXPECT_EQ(next.version, version);
    ASSERT_TRUE(next.status.ok()) << next.status;
    EXPECT_TRUE(next.weights->bytes == BytesOf(values));
    EXPECT_EQ(next.weights->manifest.tensors(1).name(), "rest");
  }

  Mutex mutex_;
  CondVar arrived_;
  std::deque<Arrival> received_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<WeightPublisher> publisher_;
  std::unique_ptr<WeightClient> client_;
};

TEST_F(WeightSyncTest, EveryBitOfAWantedVersionArrives) {
  StartPublisher();
  const auto values = Values(1);
  Publish(1, values);
  StartClient();
  client_->Want(1);
  ExpectNext(1, values);
}

TEST_F(WeightSyncTest, AnAnnouncementIsEnoughForAHigherVersion) {
  StartPublisher();
  StartClient();
  const auto first = Values(1, 1000);
  Publish(1, first);
  ExpectNext(1, first);
  const auto second = Values(2, 1000);
  Publish(2, second);
  ExpectNext(2, second);
}

TEST_F(WeightSyncTest, ALowerVersionIsReceivedWhenItIsWanted) {
  StartPublisher();
  const auto lower = Values(4, 1000);
  const auto higher = Values(5, 1000);
  Publish(4, lower);
  Publish(5, higher);
  StartClient();
  client_->Want(5);
  ExpectNext(5, higher);
  client_->Want(4);
  ExpectNext(4, lower);
}

TEST_F(WeightSyncTest, AVersionNoLongerServedIsNotFound) {
  StartPublisher();
  Publish(8, Values(1, 1000));
  Publish(9, Values(2, 1000));
  Publish(10, Values(3, 1000));
  StartClient();
  client_->Want(8);
  Arrival next = Next();
  if (next.version == 10) next = Next();  // announced
  EXPECT_EQ(next.version, 8u);
  EXPECT_TRUE(absl::IsNotFound(next.status)) << next.status;
}

TEST_F(WeightSyncTest, APublisherThatCameBackIsTakenUpAgain) {
  StartPublisher();
  const auto values = Values(7);
  Publish(1, values);
  const std::string announce = publisher_->announce_endpoint();
  const std::string chunks = publisher_->chunk_endpoint();
  StartClient();
  publisher_.reset();
  client_->Want(1);
  StartPublisher(announce, chunks);
  Publish(1, values);
  ExpectNext(1, values);
}

}  // namespace
}  // namespace temper
