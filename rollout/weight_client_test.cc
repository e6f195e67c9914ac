// A client against a publisher that this test plays by hand, so that it may
// lose, damage and refuse what it likes. The two real ends meet in
// tests/weight_sync_test.cc.

#include "rollout/weight_client.h"

#include <cstring>
#include <deque>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/checksum.h"
#include "zmq.h"

namespace temper {
namespace {

constexpr int64_t kPatienceMs = 20'000;

using Weights = absl::StatusOr<std::shared_ptr<const ReceivedWeights>>;

// The callbacks, in order, for another thread to wait for.
class Inbox {
 public:
  void Put(uint64_t version, Weights weights) {
    MutexLock lock(&mutex_);
    items_.emplace_back(version, std::move(weights));
  }
  bool empty() {
    MutexLock lock(&mutex_);
    return items_.empty();
  }
  std::pair<uint64_t, Weights> Get() {
    MutexLock lock(&mutex_);
    auto item = std::move(items_.front());
    items_.pop_front();
    return item;
  }

 private:
  Mutex mutex_;
  std::deque<std::pair<uint64_t, Weights>> items_ ABSL_GUARDED_BY(mutex_);
};

std::vector<float> Values(size_t count, float first) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = first + static_cast<float>(i);
  return values;
}

std::vector<float> ValuesOf(const ReceivedWeights& weights) {
  std::vector<float> values(weights.bytes.size() / sizeof(float));
  std::memcpy(values.data(), weights.bytes.data(), weights.bytes.size());
  return values;
}

WeightManifest ManifestOf(uint64_t version, const std::vector<float>& values) {
  WeightManifest manifest;
  manifest.set_wire_version(kWeightWireVersion);
  manifest.set_run("trial");
  manifest.set_version(version);
  WeightTensor* tensor = manifest.add_tensors();
  tensor->set_name("w");
  tensor->set_dtype("F32");
  tensor->add_shape(static_cast<int64_t>(values.size()));
  tensor->set_size_bytes(values.size() * 4);
  tensor->set_crc32c(Crc32c(values.data(), values.size() * 4));
  manifest.set_total_bytes(values.size() * 4);
  manifest.set_sha256(Sha256Of(values.data(), values.size() * 4));
  return manifest;
}

class WeightClientTest : public testing::Test {
 protected:
  void SetUp() override {
    announce_ = *ZmqSocket::Create(context_, ZMQ_PUB, 1 << 20, 64);
    ASSERT_TRUE(announce_->Bind("tcp://127.0.0.1:*").ok());
    BindChunks("tcp://127.0.0.1:*");
    options_.run = "trial";
    options_.announce_endpoint = *announce_->Endpoint();
    options_.chunk_endpoint = *chunks_->Endpoint();
    options_.chunk_bytes = 64;
    options_.requests_max = 3;
    options_.request_timeout_ms = 20;
    options_.stall_timeout_ms = kPatienceMs;
  }

  void BindChunks(const std::string& endpoint) {
    chunks_.reset();
    chunks_ = *ZmqSocket::Create(context_, ZMQ_ROUTER, 1 << 20, 64);
    absl::Status bound = chunks_->Bind(endpoint);
    for (int i = 0; i < 100 && !bound.ok(); ++i) {
      ZmqWait({}, &wakeup_, 10);  // the old socket still lets go of it
      bound = chunks_->Bind(endpoint);
    }
    ASSERT_TRUE(bound.ok()) << bound;
  }

  void StartClient() {
    client_ = *WeightClient::Start(options_,
                                   [this](uint64_t version, Weights weights) {
                                     inbox_.Put(version, std::move(weights));
                                   });
  }

  // Answers requests until the client has called back, or `requests` of them.
  // `answer` fills the reply; false loses it.
  template <typename Answer>
  int Serve(Answer answer, int requests = 1 << 20) {
    int served = 0;
    for (int64_t waits = 0;
         waits < kPatienceMs / 10 && inbox_.empty() && served < requests;
         ++waits) {
      ZmqWait({chunks_.get()}, &wakeup_, 10);
      while (served < requests) {
        auto parts = chunks_->Receive(2);
        if (!parts.has_value()) break;
        waits = 0;
        ++served;
        WeightRequest request;
        EXPECT_TRUE(request.ParseFromString((*parts)[1]));
        EXPECT_EQ(request.run(), "trial");
        WeightReply reply;
        reply.set_wire_version(kWeightWireVersion);
        reply.set_version(request.version());
        reply.set_offset(request.offset());
        if (answer(request, &reply)) {
          chunks_->Send({(*parts)[0], reply.SerializeAsString()});
        }
      }
    }
    return served;
  }

  // The honest answer out of `values`.
  static bool Honest(const WeightRequest& request,
                     const std::vector<float>& values, WeightReply* reply) {
    if (request.manifest()) {
      *reply->mutable_manifest() = ManifestOf(request.version(), values);
    } else {
      reply->set_data(
          reinterpret_cast<const char*>(values.data()) + request.offset(),
          request.size_bytes());
    }
    return true;
  }

  ZmqContext context_;
  Wakeup wakeup_;
  std::unique_ptr<ZmqSocket> announce_;
  std::unique_ptr<ZmqSocket> chunks_;
  WeightClientOptions options_;
  Inbox inbox_;
  std::unique_ptr<WeightClient> client_;
};

TEST_F(WeightClientTest, AVersionArrivesWholeThoughEverySecondReplyIsLost) {
  const std::vector<float> values = Values(403, 0.5f);
  StartClient();
  client_->Want(7);
  int count = 0;
  Serve([&](const WeightRequest& request, WeightReply* reply) {
    EXPECT_LE(request.size_bytes(), 64u);
    Honest(request, values, reply);
    return ++count % 2 == 0;
  });
  ASSERT_FALSE(inbox_.empty());
  auto [version, weights] = inbox_.Get();
  EXPECT_EQ(version, 7u);
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ(ValuesOf(**weights), values);
  EXPECT_EQ((*weights)->manifest.tensors(0).name(), "w");
}

TEST_F(WeightClientTest, AfterAnInterruptionOnlyTheMissingChunksAreAskedFor) {
  const std::vector<float> values = Values(320, 1);  // 20 chunks
  StartClient();
  client_->Want(7);
  std::set<uint64_t> before;
  Serve(
      [&](const WeightRequest& request, WeightReply* reply) {
        if (!request.manifest()) before.insert(request.offset());
        return Honest(request, values, reply);
      },
      /*requests=*/10);
  // With so many more asked for, and no more unanswered than may be, all that
  // was answered is there.
  const size_t asked = before.size() + options_.requests_max;
  std::set<uint64_t> all = before;
  for (int i = 0; i < 1000 && all.size() < asked; ++i) {
    ASSERT_EQ(Serve(
                  [&](const WeightRequest& request, WeightReply*) {
                    if (!request.manifest()) all.insert(request.offset());
                    return false;
                  },
                  /*requests=*/1),
              1);
  }
  ASSERT_EQ(all.size(), asked);
  BindChunks(options_.chunk_endpoint);
  std::set<uint64_t> after;
  Serve([&](const WeightRequest& request, WeightReply* reply) {
    if (!request.manifest()) after.insert(request.offset());
    return Honest(request, values, reply);
  });
  ASSERT_FALSE(inbox_.empty());
  auto [version, weights] = inbox_.Get();
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ(ValuesOf(**weights), values);
  for (const uint64_t offset : before) EXPECT_EQ(after.count(offset), 0u);
  EXPECT_EQ(before.size() + after.size(), 20u);
}

TEST_F(WeightClientTest, DamageIsNeverHandedOver) {
  const std::vector<float> values = Values(100, 1);
  StartClient();
  client_->Want(7);
  int manifests = 0;
  Serve([&](const WeightRequest& request, WeightReply* reply) {
    Honest(request, values, reply);
    if (request.manifest()) {
      ++manifests;
    } else if (request.offset() == 64) {
      (*reply->mutable_data())[3] ^= 1;
    }
    return true;
  });
  ASSERT_FALSE(inbox_.empty());
  EXPECT_TRUE(absl::IsDataLoss(inbox_.Get().second.status()));
  EXPECT_GE(manifests, 2);
}

TEST_F(WeightClientTest, AVersionThatIsGoneOrNonsenseIsAnError) {
  StartClient();
  client_->Want(7);
  Serve([&](const WeightRequest&, WeightReply* reply) {
    reply->set_error("weight version 7 is not served");
    return true;
  });
  ASSERT_FALSE(inbox_.empty());
  EXPECT_TRUE(absl::IsNotFound(inbox_.Get().second.status()));
  client_->Want(8);
  Serve([&](const WeightRequest& request, WeightReply* reply) {
    *reply->mutable_manifest() = ManifestOf(request.version(), Values(4, 1));
    reply->mutable_manifest()->set_total_bytes(uint64_t{1} << 60);
    return true;
  });
  ASSERT_FALSE(inbox_.empty());
  EXPECT_TRUE(absl::IsInvalidArgument(inbox_.Get().second.status()));
}

TEST_F(WeightClientTest, SilenceEndsWithADeadline) {
  options_.stall_timeout_ms = 60;
  StartClient();
  client_->Want(7);
  const int asked =
      Serve([&](const WeightRequest&, WeightReply*) { return false; });
  ASSERT_FALSE(inbox_.empty());
  const absl::Status status = inbox_.Get().second.status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status));
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr(options_.chunk_endpoint));
  EXPECT_GE(asked, 1);
}

TEST_F(WeightClientTest, OnlyLoopbackIsConnectedTo) {
  options_.chunk_endpoint = "tcp://10.0.0.1:5555";
  EXPECT_EQ(
      WeightClient::Start(options_, [](uint64_t, Weights) {}).status().code(),
      absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace temper
