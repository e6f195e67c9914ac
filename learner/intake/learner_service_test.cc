#include "learner/intake/learner_service.h"

#include <unistd.h>

#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "kernels/base/clock.h"
#include "learner/store/run_db_fixture.h"
#include "proto/learner.grpc.pb.h"
#include "proto/wire/loopback_channel.h"
#include "proto/wire/testing/health_probe.h"
#include "proto/wire/trajectory_stream.h"

namespace temper {
namespace {

using testing::HasSubstr;
using ClientStream = grpc::ClientReaderWriter<WorkerMessage, LearnerMessage>;

constexpr auto kPatience = std::chrono::seconds(10);
constexpr int64_t kDeadlineMs = 200;
constexpr uint32_t kGroupSize = 3;
constexpr uint64_t kGroup = 1;  // the ledger's first
constexpr int kStreamsMax = 4;

// Commits whatever comes, and notes why the worker left.
class Observer : public WorkerObserver {
 public:
  absl::StatusOr<TrajectoryAck> OnTrajectory(const TrajectoryKey&,
                                             const std::string&) override {
    TrajectoryAck ack;
    ack.set_result(TrajectoryAck::COMMITTED);
    return ack;
  }
  void OnJoined(const std::string&, const std::string& computes) override {
    joined = computes;
  }
  void OnLeft(const std::string&, const std::string& why,
              int samples) override {
    left.set_value(absl::StrCat(why, "; ", samples, " samples return"));
  }
  void OnHeartbeat(const std::string&, const Heartbeat&) override {}

  std::string joined;  // what it computes; read once it has left
  std::promise<std::string> left;
};

// A learner's service over a queue with one open group, and raw streams to it.
class LearnerServiceTest : public RunDbFixture {
 protected:
  void Start(const std::string& prompt, int64_t deadline_ms,
             int64_t hello_deadline_ms = kDeadlineMs) {
    std::vector<Task> tasks(1);
    tasks[0].set_id("a");
    tasks[0].set_split("train");
    tasks[0].add_messages()->set_content(prompt);
    queue_ = *TaskQueue::Create(tasks, {1, kGroupSize}, ledger_.get());
    ASSERT_TRUE(queue_->IssueTrain(1).ok());
    broker_ = std::make_unique<LeaseBroker>(queue_.get(), SamplingConfig(), 7);
    LearnerServiceOptions options;
    options.heartbeat_interval_ms = 20;
    options.heartbeat_deadline_ms = deadline_ms;
    options.hello_deadline_ms = hello_deadline_ms;
    options.streams_max = kStreamsMax;
    LearnerWelcome welcome;
    welcome.set_run("trial");
    welcome.mutable_config()->set_numerics(run_numerics_);
    welcome.set_device("cuda");
    auto service =
        LearnerService::Start(options, welcome, broker_.get(), &observer_);
    ASSERT_TRUE(service.ok()) << service.status();
    service_ = *std::move(service);
    stub_ = Learner::NewStub(
        NewLoopbackChannel(absl::StrCat("127.0.0.1:", service_->port())));
    // A service that cuts nothing off fails the test instead of stopping it.
    context_.set_deadline(std::chrono::system_clock::now() + kPatience);
    stream_ = stub_->Connect(&context_);
  }

  // False if the stream has ended.
  bool SayHello() {
    WorkerMessage message;
    message.mutable_hello()->set_wire_version(kWireVersion);
    message.mutable_hello()->set_worker("w0");
    message.mutable_hello()->set_capacity_samples(8);
    message.mutable_hello()->set_numerics(numerics_);
    message.mutable_hello()->set_device(device_);
    return stream_->Write(message);
  }

  std::string Refusal() {
    EXPECT_TRUE(SayHello());
    LearnerMessage message;
    EXPECT_FALSE(stream_->Read(&message));
    const grpc::Status status = stream_->Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    return status.error_message();
  }

  // Reads up to the next message with this body.
  LearnerMessage ReadUntil(LearnerMessage::BodyCase body) {
    LearnerMessage message;
    while (stream_->Read(&message)) {
      if (message.body_case() == body) return message;
    }
    ADD_FAILURE() << "the stream ended";
    return LearnerMessage();
  }

  // Why the worker left; its leases are back by then.
  std::string AwaitLeft() {
    auto left = observer_.left.get_future();
    if (left.wait_for(kPatience) != std::future_status::ready) return "no";
    EXPECT_EQ(broker_->workers(), 0);
    for (uint32_t sample = 0; sample < kGroupSize; ++sample) {
      EXPECT_EQ(queue_->LeaseOf(kGroup, sample), std::nullopt);
    }
    const auto back = queue_->Acquire(kGroupSize);
    if (!back.ok() || !back->has_value()) return "but its leases are out";
    EXPECT_EQ((*back)->samples.size(), kGroupSize);
    queue_->Release((*back)->lease);
    return left.get();
  }

  std::unique_ptr<TaskQueue> queue_;
  std::unique_ptr<LeaseBroker> broker_;
  Observer observer_;
  std::unique_ptr<LearnerService> service_;
  std::unique_ptr<Learner::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<ClientStream> stream_;
  // The learner is of cuda.
  RunConfig::Numerics run_numerics_ = RunConfig::fp32;
  std::string numerics_ = "fp32";
  std::string device_ = "cuda";
};

TEST_F(LearnerServiceTest, AWorkerOfAnotherDeviceIsTakenInFp32AndKnown) {
  device_ = "cpu";
  Start("question", kDeadlineMs);
  ASSERT_TRUE(SayHello());
  EXPECT_EQ(ReadUntil(LearnerMessage::kWelcome).welcome().device(), "cuda");
  context_.TryCancel();
  EXPECT_THAT(AwaitLeft(), HasSubstr("the stream ended"));
  EXPECT_EQ(observer_.joined, "fp32 on cpu");
}

class NarrowLearnerServiceTest
    : public LearnerServiceTest,
      public testing::WithParamInterface<RunConfig::Numerics> {
 protected:
  NarrowLearnerServiceTest() {
    run_numerics_ = GetParam();
    numerics_ = RunConfig::Numerics_Name(run_numerics_);
  }
};

TEST_P(NarrowLearnerServiceTest, AWorkerOfAnotherDeviceIsRefused) {
  device_ = "cpu";
  Start("question", kDeadlineMs);
  EXPECT_THAT(Refusal(), HasSubstr("computes on \"cpu\" and this learner on "
                                   "cuda, whose bits differ in " +
                                   numerics_));
}

TEST_P(NarrowLearnerServiceTest, AWorkerOfFp32IsRefused) {
  const std::string ours = std::exchange(numerics_, "fp32");
  Start("question", kDeadlineMs);
  EXPECT_THAT(Refusal(),
              HasSubstr("computes in \"fp32\"; this run in " + ours));
}

TEST_P(NarrowLearnerServiceTest, AWorkerOfTheSameDeviceIsTaken) {
  Start("question", kDeadlineMs);
  ASSERT_TRUE(SayHello());
  ReadUntil(LearnerMessage::kWelcome);
  context_.TryCancel();
  EXPECT_THAT(AwaitLeft(), HasSubstr("the stream ended"));
}

INSTANTIATE_TEST_SUITE_P(, NarrowLearnerServiceTest,
                         testing::Values(RunConfig::bf16, RunConfig::fp8),
                         [](const auto& tested) {
                           return RunConfig::Numerics_Name(tested.param);
                         });

// One of an older program, which says nothing, too.
TEST_F(LearnerServiceTest, AWorkerOfOtherNumericsIsRefused) {
  numerics_ = "";
  Start("question", kDeadlineMs);
  EXPECT_THAT(Refusal(), HasSubstr("computes in \"\"; this run in fp32"));
}

TEST_F(LearnerServiceTest, AnswersTheStandardHealthCheck) {
  Start("1+1", kDeadlineMs);
  const auto serving = IsServing(absl::StrCat("127.0.0.1:", service_->port()));
  ASSERT_TRUE(serving.ok()) << serving.status();
  EXPECT_TRUE(*serving);
}

TEST_F(LearnerServiceTest, AStreamWithoutAHelloIsCutOff) {
  Start("question", /*deadline_ms=*/60'000);  // only the hello's is shorter
  LearnerMessage message;
  EXPECT_FALSE(stream_->Read(&message));
  EXPECT_EQ(stream_->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(LearnerServiceTest, StreamsWithoutAHelloAreFewAndHoldNoWorkerUp) {
  // Long enough for all of them to be there at once.
  Start("question", /*deadline_ms=*/60'000, /*hello_deadline_ms=*/3000);
  struct Silent {
    std::unique_ptr<Learner::Stub> stub;
    grpc::ClientContext context;
    std::unique_ptr<ClientStream> stream;
  };
  grpc::ChannelArguments own_connection;
  own_connection.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  std::vector<std::unique_ptr<Silent>> silent;
  for (int i = 0; i < 4 * kStreamsMax; ++i) {
    Silent& one = *silent.emplace_back(std::make_unique<Silent>());
    one.stub = Learner::NewStub(NewLoopbackChannel(
        absl::StrCat("127.0.0.1:", service_->port()), own_connection));
    one.context.set_deadline(std::chrono::system_clock::now() + kPatience);
    one.stream = one.stub->Connect(&one.context);
  }
  int refused = 0, cut_off = 0;
  for (const auto& one : silent) {
    LearnerMessage message;
    EXPECT_FALSE(one->stream->Read(&message));
    const grpc::StatusCode code = one->stream->Finish().error_code();
    refused += code == grpc::StatusCode::RESOURCE_EXHAUSTED;
    cut_off += code == grpc::StatusCode::CANCELLED;
  }
  EXPECT_EQ(refused + cut_off, 4 * kStreamsMax);
  EXPECT_GE(refused, 1);
  EXPECT_GE(cut_off, 1);
  context_.TryCancel();
  // A stream's place is free a moment after its client was told of its end:
  // like a worker, this one asks again until then.
  std::unique_ptr<Silent> worker;
  LearnerMessage first;
  for (int attempt = 0; !first.has_welcome() && attempt < 100; ++attempt) {
    if (attempt > 0) usleep(20'000);
    worker = std::make_unique<Silent>();
    worker->context.set_deadline(std::chrono::system_clock::now() + kPatience);
    stream_ = stub_->Connect(&worker->context);
    if (SayHello()) stream_->Read(&first);
  }
  ASSERT_TRUE(first.has_welcome());
  worker->context.TryCancel();
  EXPECT_THAT(AwaitLeft(), HasSubstr("the stream ended"));
}

TEST_F(LearnerServiceTest, ASilentWorkerIsCutOffAndItsLeasesReturn) {
  Start("question", kDeadlineMs);
  ASSERT_TRUE(SayHello());
  EXPECT_EQ(ReadUntil(LearnerMessage::kLease).lease().samples_size(),
            static_cast<int>(kGroupSize));
  const std::string left = AwaitLeft();
  EXPECT_THAT(left, HasSubstr("silent for 200 ms; 3 samples return"));
}

TEST_F(LearnerServiceTest, AWorkerThatReadsNothingIsCutOffAndItsLeasesReturn) {
  // More than the transport holds for a reader that does not read.
  Start(std::string(8 << 20, 'q'), kDeadlineMs);
  ASSERT_TRUE(SayHello());
  std::thread beats([this] {
    WorkerMessage beat;
    beat.mutable_heartbeat();
    while (stream_->Write(beat)) {
    }
  });
  const std::string left = AwaitLeft();
  EXPECT_THAT(left, HasSubstr("read nothing for 200 ms; 3 samples return"));
  beats.join();
}

TEST_F(LearnerServiceTest, CreditComesWithTheWelcomeAndWithEveryAckAndIsAll) {
  Start("question", 20'000);
  ASSERT_TRUE(SayHello());
  EXPECT_EQ(ReadUntil(LearnerMessage::kCredit).credit().trajectories(),
            LearnerService::kCredits);
  Trajectory trajectory;
  trajectory.mutable_key()->set_group(1);
  ASSERT_TRUE(SendTrajectory(trajectory, [this](const WorkerMessage& message) {
                return stream_->Write(message)
                           ? absl::OkStatus()
                           : absl::UnavailableError("closed");
              }).ok());
  EXPECT_EQ(ReadUntil(LearnerMessage::kAck).ack().key().group(), 1u);
  EXPECT_EQ(ReadUntil(LearnerMessage::kCredit).credit().trajectories(), 1u);
  // One that was acked was paid back: so many may be begun, and not one more.
  for (uint32_t i = 0; i < LearnerService::kCredits + 1; ++i) {
    WorkerMessage message;
    message.mutable_header()->mutable_key()->set_group(i + 2);
    message.mutable_header()->set_size_bytes(1);
    ASSERT_TRUE(stream_->Write(message));
  }
  EXPECT_THAT(AwaitLeft(), HasSubstr("without a credit"));
}

TEST_F(LearnerServiceTest, AWorkerWhoseHeartbeatsComeIsKept) {
  Start("question", kDeadlineMs);
  ASSERT_TRUE(SayHello());
  ReadUntil(LearnerMessage::kLease);
  const int64_t until =
      SystemClock()->MonotonicMicros() + 3 * kDeadlineMs * 1000;
  WorkerMessage beat;
  beat.mutable_heartbeat();
  while (SystemClock()->MonotonicMicros() < until) {
    ASSERT_TRUE(stream_->Write(beat));
    ReadUntil(LearnerMessage::kHeartbeat);
  }
  EXPECT_EQ(broker_->workers(), 1);
  context_.TryCancel();
  EXPECT_THAT(AwaitLeft(), HasSubstr("the stream ended"));
}

}  // namespace
}  // namespace temper
