#include "learner/rollout_link.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "kernels/base/float_mode.h"
#include "kernels/find_backend.h"
#include "kernels/model/test_model.h"
#include "learner/intake/trajectory_fixture.h"
#include "proto/learner.grpc.pb.h"
#include "proto/wire/loopback_channel.h"
#include "proto/wire/task_file.h"
#include "proto/wire/trajectory_stream.h"

namespace temper {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int64_t kPatienceMs = 20'000;

// A link of a run with one task, and one worker's raw stream to it.
class RolloutLinkTest : public testing::Test {
 protected:
  void SetUp() override {
    static int next = 0;
    directory_ = absl::StrCat(getenv("TEST_TMPDIR"), "/link", next++);
    ASSERT_TRUE(MakeDirectories(directory_).ok());
    std::vector<Task> tasks(1);
    tasks[0].set_id("a");
    tasks[0].set_environment("math");
    tasks[0].set_split("train");
    tasks[0].add_messages()->set_role("user");
    ASSERT_TRUE(WriteTaskFile(directory_ + "/tasks.jsonl", tasks).ok());
    RunInfo info;
    info.name = "trial";
    records_ = *RunRecords::Start(directory_, info, SystemClock());
    config_.set_name("trial");
    config_.mutable_objective()->set_group_size(2);
    config_.mutable_objective()->set_prompts_per_step(1);
    SetFlushDenormals();
    backend_ = *FindBackend({.name = "scalar"});
    weights_ = RandomModel(backend_.get(), TinyConfig(), /*seed=*/7);
    auto link =
        RolloutLink::Open(directory_, config_, TinyConfig(), records_.get());
    ASSERT_TRUE(link.ok()) << link.status();
    link_ = *std::move(link);
    counters_.weight_version = 1;
    ASSERT_TRUE(link_->Publish(counters_, *weights_).ok());
    ASSERT_TRUE(link_->Serve(Device::kCpu).ok());
    Connect();
  }

  void Connect() {
    context_ = std::make_unique<grpc::ClientContext>();
    std::string address = *ReadFile(directory_ + "/learner.address", 100);
    address.pop_back();  // the line's end
    stub_ = Learner::NewStub(NewLoopbackChannel(address));
    context_->set_deadline(std::chrono::system_clock::now() +
                           std::chrono::milliseconds(kPatienceMs));
    stream_ = stub_->Connect(context_.get());
    WorkerMessage message;
    message.mutable_hello()->set_wire_version(kWireVersion);
    message.mutable_hello()->set_worker("w0");
    message.mutable_hello()->set_capacity_samples(8);
    message.mutable_hello()->set_numerics("fp32");
    message.mutable_hello()->set_device("cpu");
    ASSERT_TRUE(stream_->Write(message));
    EXPECT_EQ(ReadUntil(LearnerMessage::kWelcome).welcome().weight_version(),
              1u);
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

  // The worker's leases are back by then.
  bool HasLeft() {
    auto transaction = *records_->db()->sqlite()->Begin();
    return *transaction->QueryInt(
               "SELECT count(*) FROM event WHERE kind = 'worker_left'", {}, 0) >
           0;
  }

  // The stream breaks, and the learner has noticed.
  void Break() {
    context_->TryCancel();
    stream_->Finish().IgnoreError();
    for (int i = 0; i < 2000 && !HasLeft(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    ASSERT_TRUE(HasLeft());
    stream_.reset();
  }

  // Says that the weights are there, and waits for a lease.
  Lease TakeLease() {
    WorkerMessage message;
    message.mutable_weight_ack()->set_version(1);
    EXPECT_TRUE(stream_->Write(message));
    return ReadUntil(LearnerMessage::kLease).lease();
  }

  // Returns once the learner has handled all that was written before.
  TrajectoryAck SendStranger() {
    Trajectory trajectory;
    trajectory.mutable_key()->set_group(77);
    return Send(trajectory);
  }
  TrajectoryAck Send(const Trajectory& trajectory) {
    const absl::Status sent =
        SendTrajectory(trajectory, [this](const WorkerMessage& message) {
          return stream_->Write(message) ? absl::OkStatus()
                                         : absl::UnavailableError("closed");
        });
    EXPECT_TRUE(sent.ok()) << sent;
    return ReadUntil(LearnerMessage::kAck).ack();
  }

  // "process name" of every wait that `temper status` would show.
  std::vector<std::string> Waits() {
    auto transaction = *records_->db()->sqlite()->Begin();
    const auto rows = *transaction->Query("SELECT process, name FROM wait");
    std::vector<std::string> waits;
    for (const SqlRow& row : rows) {
      waits.push_back(absl::StrCat(row[0].AsString(), " ", row[1].AsString()));
    }
    return waits;
  }

  std::string directory_;
  RunConfig config_;
  LearnerCounters counters_;
  std::unique_ptr<RunRecords> records_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<PublishedWeights> weights_;
  std::unique_ptr<RolloutLink> link_;
  std::unique_ptr<Learner::Stub> stub_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReaderWriter<WorkerMessage, LearnerMessage>>
      stream_;
};

TEST_F(RolloutLinkTest, AWorkersWaitsAreSeenUntilItLeaves) {
  WorkerMessage message;
  message.mutable_heartbeat()->add_waits()->set_name("lease");
  ASSERT_TRUE(stream_->Write(message));
  EXPECT_EQ(SendStranger().result(), TrajectoryAck::REJECTED);
  EXPECT_THAT(Waits(), ElementsAre("w0 lease"));
  stream_->WritesDone();
  LearnerMessage rest;
  while (stream_->Read(&rest)) {
  }
  EXPECT_TRUE(stream_->Finish().ok());
  EXPECT_THAT(Waits(), IsEmpty());
}

TEST_F(RolloutLinkTest, TheWaitForWorkersToLeaveIsSeen) {
  std::atomic<bool> seen = false;
  // The worker leaves once status shows that it is waited for.
  std::thread worker([&] {
    for (int i = 0; i < 2000 && !seen; ++i) {
      for (const std::string& wait : Waits()) {
        if (wait == "learner workers to leave") seen = true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    stream_->WritesDone();
  });
  const WaitContext context = {records_->db(), SystemClock(), {}};
  link_->Shutdown(context, "done", kPatienceMs);
  EXPECT_TRUE(seen) << "it did not wait";
  worker.join();
  EXPECT_EQ(ReadUntil(LearnerMessage::kStop).stop().reason(), "done");
  EXPECT_THAT(Waits(), IsEmpty());
}

TEST_F(RolloutLinkTest, ATaskThatGetsNoRewardIsOneRowAndOneEvent) {
  ASSERT_TRUE(link_->queue()->IssueTrain(1).ok());
  for (const uint64_t group : {1, 2}) {  // and the one in its place
    for (const uint64_t lease : {1, 2, 3}) {
      Trajectory failed = FixtureFailure(group, 0, lease);
      failed.set_task_id("a");
      ASSERT_TRUE(link_->buffer()
                      ->Receive(failed.key(), failed.SerializeAsString())
                      .ok());
    }
  }
  auto transaction = *records_->db()->sqlite()->Begin();
  const auto rows = *transaction->Query(
      "SELECT process, detail FROM event WHERE kind = 'task_failed'");
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0][0].AsString(), "learner");
  EXPECT_EQ(rows[0][1].AsString(),
            "task a of math: sample 0 got no reward in all its retries: the "
            "sandbox would not start");
  const auto failures = *transaction->Query(
      "SELECT attempt, task_id, environment, reason FROM task_failure");
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_EQ(failures[0][0].AsInt(), 1);
  EXPECT_EQ(failures[0][1].AsString(), "a");
  EXPECT_EQ(failures[0][2].AsString(), "math");
  EXPECT_EQ(failures[0][3].AsString(),
            "sample 0 got no reward in all its retries: the sandbox would not "
            "start");
}

TEST_F(RolloutLinkTest, TheWeightsAreSyncedOnceTheWorkerSaysSo) {
  bool stop = false;
  int asked = 0;
  const WaitContext context = {records_->db(), SystemClock(), [&] {
                                 if (++asked == 2) {
                                   WorkerMessage message;
                                   message.mutable_weight_ack()->set_version(1);
                                   EXPECT_TRUE(stream_->Write(message));
                                 }
                                 return stop;
                               }};
  EXPECT_TRUE(link_->AwaitWorkers(context, kPatienceMs));
  EXPECT_GE(asked, 2);
  const double seconds = link_->sync_seconds();
  EXPECT_GT(seconds, 0);
  // Later waits do not make it longer.
  EXPECT_TRUE(link_->AwaitWorkers(context, kPatienceMs));
  EXPECT_EQ(link_->sync_seconds(), seconds);

  counters_.weight_version = 2;
  counters_.step = 1;
  ASSERT_TRUE(link_->Publish(counters_, *weights_).ok());
  EXPECT_EQ(ReadUntil(LearnerMessage::kWeightUpdate).weight_update().version(),
            2u);
  stop = true;
  EXPECT_FALSE(link_->AwaitWorkers(context, kPatienceMs));
  // Too late is an event, and the run goes on.
  stop = false;
  EXPECT_TRUE(link_->AwaitWorkers(context, /*deadline_ms=*/0));
  auto transaction = *records_->db()->sqlite()->Begin();
  EXPECT_EQ(
      *transaction->QueryInt(
          "SELECT count(*) FROM event WHERE kind = 'weights_late'", {}, 0),
      1);
}

// The client leaves out of a lease what it has sent and was not acked
// (rollout/learner_client.h): so nobody would sample it.
TEST_F(RolloutLinkTest, AFailureSentAgainAfterItsNextLeaseIsLeasedOnceMore) {
  ASSERT_TRUE(link_->queue()->IssueTrain(1).ok());
  const Lease first = TakeLease();
  EXPECT_THAT(first.samples(), ElementsAre(0, 1));
  Trajectory failed;
  failed.set_wire_version(kWireVersion);
  failed.mutable_key()->set_run("trial");
  failed.mutable_key()->set_group(first.group());
  failed.mutable_key()->set_lease(first.lease());
  failed.set_purpose(PURPOSE_TRAIN);
  failed.set_task_id("a");
  failed.set_environment("math");
  failed.set_outcome(OUTCOME_ENVIRONMENT_ERROR);
  ASSERT_EQ(Send(failed).result(), TrajectoryAck::COMMITTED);
  Break();  // before the worker hears of the ack

  Connect();
  const Lease second = TakeLease();
  EXPECT_THAT(second.samples(), ElementsAre(0, 1));
  EXPECT_EQ(Send(failed).result(), TrajectoryAck::DUPLICATE);
  const Lease third = ReadUntil(LearnerMessage::kLease).lease();
  EXPECT_EQ(third.group(), first.group());
  EXPECT_THAT(third.samples(), ElementsAre(0));
}

}  // namespace
}  // namespace temper
