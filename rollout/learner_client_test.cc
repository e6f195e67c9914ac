#include "rollout/learner_client.h"

#include <atomic>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "proto/wire/trajectory_stream.h"
#include "rollout/testing/scripted_learner.h"

namespace temper {
namespace {

using ServerStream = ScriptedLearner::Stream;

LearnerClientOptions OptionsFor(const std::string& address) {
  LearnerClientOptions options;
  options.address = address;
  options.worker = "w0";
  options.heartbeat_ms = 20;
  options.peer_timeout_ms = 20000;
  options.backoff_ms_min = 1;
  options.backoff_ms_max = 10;
  options.give_up_ms = 20000;
  return options;
}

void Welcome(ServerStream* stream, uint32_t credits = 64) {
  LearnerWelcome welcome;
  welcome.set_run("run");
  Welcome(stream, welcome, credits);
}

Trajectory MakeTrajectory(uint64_t group, size_t bytes) {
  Trajectory trajectory;
  trajectory.set_wire_version(kWireVersion);
  trajectory.mutable_key()->set_run("run");
  trajectory.mutable_key()->set_group(group);
  trajectory.add_branches()->set_routes(std::string(bytes, 'r'));
  return trajectory;
}

TEST(LearnerClientTest, LeasesAndStopArriveInOrder) {
  ScriptedLearner learner([](int, ServerStream* stream) {
    Welcome(stream);
    LearnerMessage message;
    message.mutable_lease()->set_group(7);
    message.mutable_lease()->add_samples(0);
    stream->Write(message);
    SayStop(stream, "done");
    return grpc::Status::OK;
  });
  auto client = LearnerClient::Connect(OptionsFor(learner.address()));
  ASSERT_TRUE(client.ok()) << client.status();
  EXPECT_EQ((*client)->welcome().run(), "run");
  auto lease = (*client)->Next(20000);
  ASSERT_TRUE(lease.ok() && lease->has_value());
  EXPECT_EQ((*lease)->lease().group(), 7u);
  auto stop = (*client)->Next(20000);
  ASSERT_TRUE(stop.ok() && stop->has_value());
  EXPECT_TRUE((*stop)->has_stop());
  EXPECT_EQ((*client)->Next(20000).status().code(),
            absl::StatusCode::kCancelled)
      << "no new stream after a stop";
}

TEST(LearnerClientTest, TrajectoryTravelsInChunksAndIsKeptUntilAcked) {
  ScriptedLearner learner([](int, ServerStream* stream) {
    Welcome(stream);
    Trajectory trajectory;
    EXPECT_TRUE(ReadTrajectory(stream, &trajectory));
    EXPECT_EQ(trajectory.branches(0).routes().size(), size_t{3} << 20);
    LearnerMessage message;
    message.mutable_lease()->set_group(1);  // says: read, not yet acked
    message.mutable_lease()->add_samples(0);
    stream->Write(message);
    WorkerMessage worker;
    while (stream->Read(&worker) && !worker.has_weight_ack()) {
    }
    EXPECT_EQ(worker.weight_ack().version(), 9u);
    Ack(stream, trajectory.key());
    DrainUntilClosed(stream);
    return grpc::Status::OK;
  });
  auto client = LearnerClient::Connect(OptionsFor(learner.address()));
  ASSERT_TRUE(client.ok()) << client.status();
  ASSERT_TRUE((*client)->Send(MakeTrajectory(5, size_t{3} << 20)).ok());
  auto read = (*client)->Next(20000);
  ASSERT_TRUE(read.ok() && read->has_value());
  EXPECT_EQ((*client)->unacked(), 1);
  (*client)->AckWeights(9);
  EXPECT_TRUE((*client)->WaitAcked(20000).ok());
  EXPECT_EQ((*client)->unacked(), 0);
}

// Counts the trajectories that come before a heartbeat says that the next one
// waits for a credit.
int ReadUntilCreditWait(ServerStream* stream) {
  WorkerMessage message;
  int trajectories = 0;
  while (stream->Read(&message)) {
    trajectories += message.has_end();
    for (const WaitState& wait : message.heartbeat().waits()) {
      if (wait.name() == "credit") return trajectories;
    }
  }
  return -1;
}

// The same once some have come: the wait may be said before the credit that was
// granted is there.
int ReadSomeUntilCreditWait(ServerStream* stream) {
  int trajectories = 0;
  for (int i = 0; trajectories == 0 && i < 1000; ++i) {
    trajectories = ReadUntilCreditWait(stream);
  }
  return trajectories;
}

TEST(LearnerClientTest, WithoutCreditNoTrajectoryIsBegunAndTheWaitIsReported) {
  ScriptedLearner learner([](int, ServerStream* stream) {
    Welcome(stream, /*credits=*/2);
    EXPECT_EQ(ReadSomeUntilCreditWait(stream), 2);
    // Acks alone are no credit.
    for (const uint64_t group : {1, 2}) {
      TrajectoryKey key;
      key.set_group(group);
      Ack(stream, key);
    }
    EXPECT_EQ(ReadUntilCreditWait(stream), 0);
    GrantCredit(stream, 1);
    EXPECT_EQ(ReadSomeUntilCreditWait(stream), 1);
    SayStop(stream, "");
    return grpc::Status::OK;
  });
  auto client = LearnerClient::Connect(OptionsFor(learner.address()));
  ASSERT_TRUE(client.ok()) << client.status();
  for (uint64_t group = 1; group <= 5; ++group) {
    ASSERT_TRUE((*client)->Send(MakeTrajectory(group, 10)).ok());
  }
  auto stop = (*client)->Next(20000);
  ASSERT_TRUE(stop.ok() && stop->has_value());
  EXPECT_TRUE((*stop)->has_stop());
  EXPECT_EQ((*client)->unacked(), 3);
}

TEST(LearnerClientTest, AStreamThatGrantsNoMoreCreditIsLeftForANewOne) {
  std::atomic<int> streams = 0;
  ScriptedLearner learner([&](int number, ServerStream* stream) {
    streams = number;
    Welcome(stream, /*credits=*/number == 1 ? 0 : 1);
    Trajectory trajectory;
    if (ReadTrajectory(stream, &trajectory)) Ack(stream, trajectory.key());
    DrainUntilClosed(stream);
    return grpc::Status::OK;
  });
  LearnerClientOptions options = OptionsFor(learner.address());
  options.credit_timeout_ms = 50;
  auto client = LearnerClient::Connect(options);
  ASSERT_TRUE(client.ok()) << client.status();
  ASSERT_TRUE((*client)->Send(MakeTrajectory(1, 10)).ok());
  EXPECT_TRUE((*client)->WaitAcked(20000).ok());
  EXPECT_EQ(streams, 2);
}

TEST(LearnerClientTest, UnackedTrajectoryIsSentAgainOnTheNextStream) {
  std::atomic<int> streams = 0;
  ScriptedLearner learner([&](int number, ServerStream* stream) {
    streams = number;
    Welcome(stream);
    Trajectory trajectory;
    EXPECT_TRUE(ReadTrajectory(stream, &trajectory));
    EXPECT_EQ(trajectory.key().group(), 5u);
    if (number == 1) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone");
    Ack(stream, trajectory.key());
    DrainUntilClosed(stream);
    return grpc::Status::OK;
  });
  auto client = LearnerClient::Connect(OptionsFor(learner.address()));
  ASSERT_TRUE(client.ok()) << client.status();
  ASSERT_TRUE((*client)->Send(MakeTrajectory(5, 10)).ok());
  EXPECT_TRUE((*client)->WaitAcked(20000).ok());
  EXPECT_EQ(streams, 2);
}

TEST(LearnerClientTest, LeaseOfWhatIsUnderWayIsNotHandedOut) {
  ScriptedLearner learner([](int, ServerStream* stream) {
    Welcome(stream);
    Trajectory trajectory;
    EXPECT_TRUE(ReadTrajectory(stream, &trajectory));
    LearnerMessage message;
    message.mutable_lease()->set_group(5);
    message.mutable_lease()->add_samples(0);
    stream->Write(message);  // wholly under way
    message.mutable_lease()->add_samples(1);
    stream->Write(message);
    Ack(stream, trajectory.key());
    DrainUntilClosed(stream);
    return grpc::Status::OK;
  });
  auto client = LearnerClient::Connect(OptionsFor(learner.address()));
  ASSERT_TRUE(client.ok()) << client.status();
  ASSERT_TRUE((*client)->Send(MakeTrajectory(5, 10)).ok());
  auto lease = (*client)->Next(20000);
  ASSERT_TRUE(lease.ok() && lease->has_value());
  ASSERT_EQ((*lease)->lease().samples_size(), 1);
  EXPECT_EQ((*lease)->lease().samples(0), 1u);
}

TEST(LearnerClientTest, SilentLearnerIsLeftAndFoundAgain) {
  ScriptedLearner learner([](int number, ServerStream* stream) {
    Welcome(stream);
    if (number > 1) {
      LearnerMessage message;
      message.mutable_lease()->set_group(3);
      message.mutable_lease()->add_samples(0);
      stream->Write(message);
    }
    DrainUntilClosed(stream);
    return grpc::Status::OK;
  });
  LearnerClientOptions options = OptionsFor(learner.address());
  options.peer_timeout_ms = 300;
  auto client = LearnerClient::Connect(options);
  ASSERT_TRUE(client.ok()) << client.status();
  auto welcome = (*client)->Next(20000);
  ASSERT_TRUE(welcome.ok() && welcome->has_value());
  EXPECT_TRUE((*welcome)->has_welcome());
  auto lease = (*client)->Next(20000);
  ASSERT_TRUE(lease.ok() && lease->has_value());
  EXPECT_EQ((*lease)->lease().group(), 3u);
}

TEST(LearnerClientTest, HeartbeatsCarryWhatWasSet) {
  ScriptedLearner learner([](int, ServerStream* stream) {
    Welcome(stream);
    WorkerMessage message;
    while (stream->Read(&message)) {
      if (message.heartbeat().running_samples() == 4) break;
    }
    SayStop(stream, "");
    return grpc::Status::OK;
  });
  auto client = LearnerClient::Connect(OptionsFor(learner.address()));
  ASSERT_TRUE(client.ok()) << client.status();
  Heartbeat heartbeat;
  heartbeat.set_running_samples(4);
  (*client)->SetHeartbeat(heartbeat);
  auto stop = (*client)->Next(20000);
  ASSERT_TRUE(stop.ok() && stop->has_value());
  EXPECT_TRUE((*stop)->has_stop());
}

TEST(LearnerClientTest, AHungWorkersStreamEndsForGood) {
  ScriptedLearner learner([](int number, ServerStream* stream) {
    EXPECT_EQ(number, 1);
    Welcome(stream);
    DrainUntilClosed(stream);
    return grpc::Status::OK;
  });
  LearnerClientOptions options = OptionsFor(learner.address());
  options.hung_ms = 50;
  auto client = LearnerClient::Connect(options);
  ASSERT_TRUE(client.ok()) << client.status();
  // Setting up may take its time.
  EXPECT_TRUE((*client)->Next(200).ok());
  (*client)->SetHeartbeat(Heartbeat());
  EXPECT_EQ((*client)->Next(5000).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST(LearnerClientTest, AWorkerMayBeBusyForAsLongAsItSays) {
  ScriptedLearner learner([](int, ServerStream* stream) {
    Welcome(stream);
    DrainUntilClosed(stream);
    return grpc::Status::OK;
  });
  LearnerClientOptions options = OptionsFor(learner.address());
  options.hung_ms = 50;
  auto client = LearnerClient::Connect(options);
  ASSERT_TRUE(client.ok()) << client.status();
  (*client)->SetHungLimit(3'600'000);
  (*client)->SetHeartbeat(Heartbeat());
  EXPECT_TRUE((*client)->Next(500).ok());
}

TEST(LearnerClientTest, RefusalForGoodIsReturnedAtOnce) {
  ScriptedLearner learner([](int, ServerStream*) {
    return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "wrong run");
  });
  const auto client = LearnerClient::Connect(OptionsFor(learner.address()));
  EXPECT_EQ(client.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(std::string(client.status().message()), "wrong run");
}

TEST(LearnerClientTest, UnreachableLearnerIsGivenUpInTime) {
  std::string address;
  {
    ScriptedLearner learner(
        [](int, ServerStream*) { return grpc::Status::OK; });
    address = learner.address();
  }
  LearnerClientOptions options = OptionsFor(address);
  options.give_up_ms = 50;
  EXPECT_EQ(LearnerClient::Connect(options).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST(LearnerClientTest, StopEndsTheWaitForAWelcome) {
  ScriptedLearner silent([](int, ServerStream* stream) {
    DrainUntilClosed(stream);
    return grpc::Status::OK;
  });
  std::string nobody;
  {
    ScriptedLearner gone([](int, ServerStream*) { return grpc::Status::OK; });
    nobody = gone.address();
  }
  for (const std::string& address : {silent.address(), nobody}) {
    std::atomic<bool> stop{false};
    std::thread presser([&stop] { stop = true; });
    LearnerClientOptions options = OptionsFor(address);
    options.give_up_ms = 3'600'000;  // above this test's own limit
    options.peer_timeout_ms = 3'600'000;
    options.stop = &stop;
    EXPECT_EQ(LearnerClient::Connect(options).status().code(),
              absl::StatusCode::kCancelled);
    presser.join();
  }
}

TEST(LearnerClientTest, AddressBeyondLoopbackIsRefused) {
  EXPECT_EQ(LearnerClient::Connect(OptionsFor("10.0.0.1:4000")).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(LearnerClientTest, WhatTheWireDoesNotTakeIsDeliveredAsAFailure) {
  Trajectory delivered;
  ScriptedLearner learner([&delivered](int, ServerStream* stream) {
    Welcome(stream);
    EXPECT_TRUE(ReadTrajectory(stream, &delivered));
    Ack(stream, delivered.key());
    DrainUntilClosed(stream);
    return grpc::Status::OK;
  });
  auto client = LearnerClient::Connect(OptionsFor(learner.address()));
  ASSERT_TRUE(client.ok()) << client.status();
  Trajectory large = MakeTrajectory(7, kTrajectoryBytesMax);
  large.mutable_key()->set_sample(2);
  large.mutable_key()->set_lease(5);
  large.set_purpose(PURPOSE_TRAIN);
  large.set_task_id("task");
  large.set_environment("echo");
  large.set_domain("sums");
  large.set_outcome(OUTCOME_OK);
  large.mutable_verdict()->set_verified(true);
  large.set_has_reward(true);
  large.set_reward(1);
  large.add_reward_parts()->set_value(1);
  large.add_turns()->set_text("answer");
  ASSERT_TRUE((*client)->Send(large).ok());
  ASSERT_TRUE((*client)->WaitAcked(20000).ok());
  client->reset();
  learner.Shutdown();
  EXPECT_EQ(delivered.key().SerializeAsString(),
            large.key().SerializeAsString());
  EXPECT_EQ(delivered.purpose(), PURPOSE_TRAIN);
  EXPECT_EQ(delivered.task_id(), "task");
  EXPECT_EQ(delivered.environment(), "echo");
  EXPECT_EQ(delivered.domain(), "sums");
  EXPECT_EQ(delivered.outcome(), OUTCOME_ENVIRONMENT_ERROR);
  EXPECT_NE(delivered.error().find(absl::StrCat(kTrajectoryBytesMax)),
            std::string::npos)
      << delivered.error();
  EXPECT_FALSE(delivered.has_reward() || delivered.reward() != 0 ||
               delivered.has_verdict());
  EXPECT_EQ(delivered.branches_size() + delivered.turns_size() +
                delivered.reward_parts_size(),
            0);
}

TEST(LearnerClientTest, MoreUnackedThanTheLimitIsRefused) {
  ScriptedLearner learner([](int, ServerStream* stream) {
    Welcome(stream);
    DrainUntilClosed(stream);
    return grpc::Status::OK;
  });
  LearnerClientOptions options = OptionsFor(learner.address());
  options.capacity_samples = 1;
  auto client = LearnerClient::Connect(options);
  ASSERT_TRUE(client.ok()) << client.status();
  EXPECT_TRUE((*client)->Send(MakeTrajectory(1, 1)).ok());
  EXPECT_TRUE((*client)->Send(MakeTrajectory(2, 1)).ok());
  EXPECT_EQ((*client)->Send(MakeTrajectory(3, 1)).code(),
            absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace temper
