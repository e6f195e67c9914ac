// Plays the worker by hand; the two real ends meet in
// tests/weight_sync_test.cc.

#include "learner/intake/weight_publisher.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "zmq.h"

namespace temper {
namespace {

using testing::HasSubstr;

std::vector<std::byte> BytesOf(const std::vector<float>& values) {
  const auto* const begin = reinterpret_cast<const std::byte*>(values.data());
  return {begin, begin + values.size() * sizeof(float)};
}

class WeightPublisherTest : public testing::Test {
 protected:
  void SetUp() override {
    WeightPublisherOptions options;
    options.run = "trial";
    publisher_ = *WeightPublisher::Start(options);
    dealer_ = *ZmqSocket::Create(context_, ZMQ_DEALER, 1 << 22, 64);
    ASSERT_TRUE(dealer_->Connect(publisher_->chunk_endpoint()).ok());
  }

  absl::StatusOr<WeightManifest> Publish(uint64_t version, size_t count,
                                         float value) {
    return publisher_->Publish(
        version,
        {{"a", "F32", {2}}, {"b", "F32", {static_cast<int64_t>(count) - 2}}},
        BytesOf(std::vector<float>(count, value)));
  }

  WeightReply Ask(WeightRequest request) {
    request.set_wire_version(kWeightWireVersion);
    if (request.run().empty()) request.set_run("trial");
    return AskRaw(request.SerializeAsString());
  }

  WeightReply AskRaw(const std::string& bytes) {
    EXPECT_TRUE(dealer_->Send({bytes}));
    WeightReply reply;
    for (int i = 0; i < 200; ++i) {
      ZmqWait({dealer_.get()}, &wakeup_, 100);
      if (auto parts = dealer_->Receive(1)) {
        EXPECT_TRUE(reply.ParseFromString((*parts)[0]));
        return reply;
      }
    }
    ADD_FAILURE() << "no answer";
    return reply;
  }

  WeightReply Chunk(uint64_t version, uint64_t offset, uint32_t size) {
    WeightRequest request;
    request.set_version(version);
    request.set_offset(offset);
    request.set_size_bytes(size);
    return Ask(request);
  }

  ZmqContext context_;
  Wakeup wakeup_;
  std::unique_ptr<WeightPublisher> publisher_;
  std::unique_ptr<ZmqSocket> dealer_;
};

TEST_F(WeightPublisherTest, AManifestAndChunksMakeTheVersion) {
  const WeightManifest manifest = *Publish(3, 10, 1.5f);
  WeightRequest request;
  request.set_version(3);
  request.set_manifest(true);
  const WeightManifest served = Ask(request).manifest();
  EXPECT_EQ(served.SerializeAsString(), manifest.SerializeAsString());
  EXPECT_TRUE(CheckWeightManifest(served, "trial", 3, 40).ok());
  const std::string bytes = Chunk(3, 0, 24).data() + Chunk(3, 24, 16).data();
  EXPECT_TRUE(VerifyWeights(served, bytes.data()).ok());
}

TEST_F(WeightPublisherTest, TheLastTwoVersionsAreServed) {
  for (uint64_t version : {1, 2, 3}) ASSERT_TRUE(Publish(version, 4, 1).ok());
  EXPECT_THAT(Chunk(1, 0, 4).error(), HasSubstr("version 1 is not served"));
  EXPECT_EQ(Chunk(2, 0, 4).error(), "");
  EXPECT_EQ(Chunk(3, 0, 4).error(), "");
}

TEST_F(WeightPublisherTest, WhatIsOutsideTheVersionOrTooLargeIsAnError) {
  ASSERT_TRUE(Publish(1, 1 << 20, 1).ok());
  EXPECT_NE(Chunk(1, 4 << 20, 1).error(), "");
  EXPECT_NE(Chunk(1, UINT64_MAX - 1, 8).error(), "");
  EXPECT_NE(Chunk(1, 0, 0).error(), "");
  EXPECT_NE(Chunk(1, 0, (1 << 20) + 1).error(), "");
  EXPECT_EQ(Chunk(1, 3 << 20, 1 << 20).data().size(), size_t{1} << 20);
  WeightRequest request;
  request.set_run("other");
  EXPECT_NE(Ask(request).error(), "");
  EXPECT_NE(AskRaw("\xff\xff garbage").error(), "");
}

TEST_F(WeightPublisherTest, SizesMustAgreeAndANumberMeansOneSetOfBytes) {
  const std::vector<std::byte> eight = BytesOf({1.f, 2.f});
  const auto refused = [&](const std::string& dtype, int64_t elements) {
    return absl::IsInvalidArgument(
        publisher_->Publish(1, {{"a", dtype, {elements}}}, eight).status());
  };
  EXPECT_TRUE(refused("F32", 3));
  EXPECT_TRUE(refused("F32", 1));
  EXPECT_TRUE(refused("BF16", 2));
  EXPECT_TRUE(refused("F64", 1));
  EXPECT_FALSE(refused("BF16", 4)) << "half as wide, twice as many";
  ASSERT_TRUE(Publish(2, 4, 1).ok());
  EXPECT_TRUE(Publish(2, 4, 1).ok());
  EXPECT_EQ(Publish(2, 4, 2).status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(WeightPublisherTest, ASubscriberThatCameLateStillHearsOfTheVersion) {
  ASSERT_TRUE(Publish(5, 4, 1).ok());
  auto subscriber = *ZmqSocket::Create(context_, ZMQ_SUB, 4096, 8);
  ASSERT_TRUE(subscriber->Connect(publisher_->announce_endpoint()).ok());
  ASSERT_TRUE(subscriber->Subscribe().ok());
  std::optional<std::vector<std::string>> parts;
  for (int i = 0; i < 200 && !parts.has_value(); ++i) {
    ZmqWait({subscriber.get()}, &wakeup_, 100);
    parts = subscriber->Receive(1);
  }
  ASSERT_TRUE(parts.has_value());
  WeightAnnouncement announcement;
  ASSERT_TRUE(announcement.ParseFromString((*parts)[0]));
  EXPECT_EQ(announcement.version(), 5u);
  EXPECT_EQ(announcement.run(), "trial");
}

TEST(WeightPublisherBindTest, OnlyLoopbackIsBound) {
  WeightPublisherOptions options;
  options.run = "trial";
  options.chunk_address = "tcp://0.0.0.0:*";
  const absl::Status status = WeightPublisher::Start(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("not loopback"));
}

}  // namespace
}  // namespace temper
