#include "learner/intake/worker_stream.h"

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "kernels/base/clock.h"
#include "learner/intake/call_watchdog.h"
#include "learner/intake/lease_broker.h"
#include "proto/learner.grpc.pb.h"
#include "proto/wire/loopback_channel.h"

namespace temper {
namespace {

using testing::HasSubstr;

constexpr auto kPatience = std::chrono::seconds(20);
constexpr int64_t kLongMs = 60'000, kShortMs = 100;

LearnerMessage StopFor(const std::string& reason) {
  LearnerMessage message;
  message.mutable_stop()->set_reason(reason);
  return message;
}

// One stream: the learner's end is what `serve` makes of a WorkerStream, the
// worker's end is the test's.
class WorkerStreamTest : public testing::Test, public Learner::Service {
 protected:
  void TearDown() override {
    context_.TryCancel();
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();  // joins its threads: they call this object
  }

  void Serve(std::function<void(WorkerStream*)> serve,
             int64_t deadline_ms = kLongMs) {
    serve_ = std::move(serve);
    watchdog_ = std::make_unique<CallWatchdog>(deadline_ms, SystemClock());
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    stub_ =
        Learner::NewStub(NewLoopbackChannel(absl::StrCat("127.0.0.1:", port)));
    context_.set_deadline(std::chrono::system_clock::now() + kPatience);
    stream_ = stub_->Connect(&context_);
  }

  grpc::Status Connect(grpc::ServerContext* context,
                       WorkerStream::Stream* stream) override {
    WorkerStream worker(&broker_, watchdog_.get(),
                        /*heartbeat_interval_ms=*/20, context, stream);
    serve_(&worker);
    return grpc::Status::OK;
  }

  LearnerMessage NextBesideHeartbeats() {
    LearnerMessage message;
    while (stream_->Read(&message)) {
      if (!message.has_heartbeat()) return message;
    }
    ADD_FAILURE() << "the stream ended";
    return LearnerMessage();
  }

  // Reads to the end; how the stream ended.
  grpc::StatusCode End() {
    LearnerMessage message;
    while (stream_->Read(&message)) {
    }
    return stream_->Finish().error_code();
  }

  // Knows no worker, so it has no lease for any.
  LeaseBroker broker_{/*queue=*/nullptr, SamplingConfig(), /*seed=*/1};
  std::function<void(WorkerStream*)> serve_;
  std::unique_ptr<CallWatchdog> watchdog_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Learner::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<WorkerMessage, LearnerMessage>>
      stream_;
};

TEST_F(WorkerStreamTest, ATrajectoryIsBegunOnlyOnACreditThatWasGranted) {
  Serve([](WorkerStream* worker) {
    EXPECT_TRUE(absl::IsInvalidArgument(worker->SpendCredit()));
    worker->Grant(2);
    worker->Grant(1);
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(worker->SpendCredit().ok());
    EXPECT_TRUE(absl::IsInvalidArgument(worker->SpendCredit()));
  });
  EXPECT_EQ(End(), grpc::StatusCode::OK);
}

TEST_F(WorkerStreamTest, WhatWasSentIsWrittenInOrderAndHeartbeatsFollow) {
  Serve([](WorkerStream* worker) {
    worker->Grant(7);
    worker->Send(StopFor("first"));
    worker->Send(StopFor("second"));
    std::thread writer([worker] { worker->WriteLoop("w0"); });
    WorkerMessage message;
    EXPECT_TRUE(worker->Read(&message));  // the test has seen a heartbeat
    worker->EndWriting();
    writer.join();
    EXPECT_EQ(worker->EndReason(), "the stream ended");
  });
  EXPECT_EQ(NextBesideHeartbeats().credit().trajectories(), 7u);
  EXPECT_EQ(NextBesideHeartbeats().stop().reason(), "first");
  EXPECT_EQ(NextBesideHeartbeats().stop().reason(), "second");
  LearnerMessage message;
  ASSERT_TRUE(stream_->Read(&message));
  EXPECT_TRUE(message.has_heartbeat());
  EXPECT_TRUE(stream_->Write(WorkerMessage()));
  EXPECT_EQ(End(), grpc::StatusCode::OK);
}

TEST_F(WorkerStreamTest, AWorkerThatLeavesTooMuchUnreadIsCutOff) {
  Serve([](WorkerStream* worker) {
    for (size_t i = 0; i < WorkerStream::kOutboxMax; ++i) {
      worker->Send(LearnerMessage());
    }
    EXPECT_EQ(worker->EndReason(), "the stream ended") << "not yet too much";
    worker->Send(LearnerMessage());
    EXPECT_THAT(worker->EndReason(), HasSubstr("left 4096 messages unread"));
    WorkerMessage message;
    EXPECT_FALSE(worker->Read(&message));
  });
  EXPECT_EQ(End(), grpc::StatusCode::CANCELLED);
}

TEST_F(WorkerStreamTest, TheFirstReasonOfAnEndIsKept) {
  Serve([](WorkerStream* worker) {
    worker->Cancel("first");
    worker->Cancel("second");
    EXPECT_EQ(worker->EndReason(), "first");
    // Nothing is written any more, and the loop ends by itself.
    worker->WriteLoop("w0");
  });
  EXPECT_EQ(End(), grpc::StatusCode::CANCELLED);
}

TEST_F(WorkerStreamTest, AReadOnWhichNothingComesIsCutOff) {
  Serve(
      [](WorkerStream* worker) {
        WorkerMessage message;
        EXPECT_FALSE(worker->Read(&message));
        EXPECT_EQ(worker->EndReason(), "it was silent for 100 ms");
      },
      kShortMs);
  EXPECT_EQ(End(), grpc::StatusCode::CANCELLED);
}

TEST_F(WorkerStreamTest, AHelloHasItsOwnDeadline) {
  CallWatchdog hello(kShortMs, SystemClock());
  Serve([&hello](WorkerStream* worker) {
    WorkerMessage message;
    EXPECT_FALSE(worker->ReadHello(&hello, &message));
    EXPECT_EQ(worker->EndReason(), "it was silent for 100 ms");
  });
  EXPECT_EQ(End(), grpc::StatusCode::CANCELLED);
  server_->Shutdown(std::chrono::system_clock::now());  // before `hello` goes
  server_.reset();
}

}  // namespace
}  // namespace temper
