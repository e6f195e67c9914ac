// A whole rollout worker against a scripted learner on real wires: gRPC for
// leases and trajectories, ZeroMQ for weights.

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "environments/testing/echo_environment.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "kernels/base/float_mode.h"
#include "kernels/find_backend.h"
#include "kernels/model/bpe_trainer.h"
#include "kernels/model/test_model.h"
#include "kernels/model/tokenizer_file.h"
#include "learner/intake/weight_publisher.h"
#include "proto/wire/trajectory_stream.h"
#include "rollout/local_rollout.h"
#include "rollout/sampling_fixture.h"
#include "rollout/testing/scripted_learner.h"
#include "rollout/worker.h"

namespace temper {
namespace {

using Stream = ScriptedLearner::Stream;
using Id = std::pair<uint64_t, uint32_t>;

constexpr int64_t kResetMs = 30'000;

std::unique_ptr<Environment> NewEcho(std::shared_future<void> ready = {}) {
  return std::make_unique<EchoEnvironment>(std::move(ready));
}

Task MakeTask() {
  Task task;
  task.set_id("t");
  task.set_environment("echo");
  Message* const user = task.add_messages();
  user->set_role("user");
  user->set_content("a question of some length");
  return task;
}

SamplingConfig Sampling() { return FixtureSampling(/*max_tokens=*/20); }

LearnerMessage LeaseOf(uint64_t group, uint32_t samples, uint64_t version) {
  LearnerMessage message;
  Lease* const lease = message.mutable_lease();
  lease->set_lease(group);
  lease->set_group(group);
  lease->set_purpose(PURPOSE_TRAIN);
  *lease->mutable_task() = MakeTask();
  for (uint32_t i = 0; i < samples; ++i) lease->add_samples(i);
  lease->set_weight_version(version);
  *lease->mutable_sampling() = Sampling();
  lease->set_seed(7);
  return message;
}

class RolloutWorkerTest : public ::testing::Test {
 protected:
  RolloutWorkerTest() {
    SetFlushDenormals();
    BpeTrainerOptions tokens;
    tokens.vocab_size = 264;
    spec_ = *TrainBpe({}, tokens);
    config_ = TinyConfig();
    config_.vocab_size = 264;
    model_dir_ = absl::StrCat(
        ::testing::TempDir(), "/",
        ::testing::UnitTest::GetInstance()->current_test_info()->name());
    EXPECT_TRUE(MakeDirectories(model_dir_).ok());
    EXPECT_TRUE(WriteFileDurably(model_dir_ + "/config.json",
                                 ModelConfigToJson(config_))
                    .ok());
    EXPECT_TRUE(
        WriteFileDurably(model_dir_ + "/tokenizer.json", TokenizerJson(spec_))
            .ok());
    publisher_ = *WeightPublisher::Start({.run = "run"});
    Publish(1);
    backend_ = *FindBackend({.name = "scalar"});
  }

  void Publish(uint64_t version) { Publish(version, config_, version); }

  void Publish(uint64_t version, const ModelConfig& config, uint64_t seed) {
    std::vector<PublishedTensor> tensors;
    for (const PublishedParameter& tensor : ListPublished(config, kFp32)) {
      tensors.push_back(
          {tensor.name, FileTypeName(tensor.dtype), tensor.shape});
    }
    const auto manifest = publisher_->Publish(
        version, tensors, BytesOf(RandomValues(config, seed)));
    EXPECT_TRUE(manifest.ok()) << manifest.status();
  }

  void Welcome(Stream* stream, uint64_t version) {
    LearnerWelcome welcome;
    welcome.set_run("run");
    welcome.set_weights_announce(publisher_->announce_endpoint());
    welcome.set_weights_chunks(publisher_->chunk_endpoint());
    welcome.set_weight_version(version);
    welcome.set_model_dir(model_dir_);
    *welcome.mutable_config()->mutable_rewards() = FixtureRewards();
    welcome.mutable_config()->mutable_objective()->set_keep_sampling_mask(
        keep_sampling_mask_);
    temper::Welcome(stream, welcome);
  }

  // Takes `count` trajectories in, acking them or not.
  void Take(Stream* stream, int count, bool ack) {
    const auto hear = [this](const WorkerMessage& message) {
      if (message.has_weight_ack()) acked_ = message.weight_ack().version();
    };
    Trajectory trajectory;
    while (count > 0 && ReadTrajectory(stream, &trajectory, hear)) {
      const Id id{trajectory.key().group(), trajectory.key().sample()};
      received_[id] = trajectory;
      ++deliveries_[id];
      --count;
      if (ack) Ack(stream, trajectory.key());
    }
    EXPECT_EQ(count, 0) << "the stream ended early";
  }

  static void Stop(Stream* stream) {
    SayStop(stream, "done");
    DrainUntilClosed(stream);
  }

  absl::Status RunAgainst(ScriptedLearner* learner) {
    WorkerOptions options;
    options.learner.address = learner->address();
    options.learner.worker = "w";
    options.learner.capacity_samples = capacity_;
    options.busy_max = busy_max_;
    options.learner.backoff_ms_min = 1;
    options.learner.backoff_ms_max = 10;
    options.learner.give_up_ms = 20000;
    options.engine.pages = 64;
    options.learner.heartbeat_ms = 20;
    options.new_environment = [this](const std::string&) {
      return NewEcho(environments_ready_);
    };
    options.environment_limits = [](const std::string&) {
      EnvironmentLimits limits;
      limits.reset_ms = kResetMs;
      return limits;
    };
    options.job_threads = 2;
    const absl::Status status = RunWorker(options, backend_.get(), &stop_);
    learner->Shutdown();
    return status;
  }

  TokenizerSpec spec_;
  ModelConfig config_;
  std::string model_dir_;
  std::unique_ptr<WeightPublisher> publisher_;
  std::unique_ptr<Backend> backend_;
  bool keep_sampling_mask_ = true;
  uint32_t capacity_ = 4;
  int busy_max_ = 0;
  std::shared_future<void> environments_ready_;  // empty: at once
  std::atomic<bool> stop_{false};
  // Of the script's thread while a worker runs.
  std::map<Id, Trajectory> received_;
  std::map<Id, int> deliveries_;
  uint64_t acked_ = 0;
};

TEST_F(RolloutWorkerTest, EachGroupIsSampledWithTheWeightsItsLeaseNames) {
  ScriptedLearner learner([this](int, Stream* stream) {
    Welcome(stream, 1);
    stream->Write(LeaseOf(1, 3, 1));
    Take(stream, 3, true);
    Publish(2);
    LearnerMessage update;
    update.mutable_weight_update()->set_version(2);
    stream->Write(update);
    stream->Write(LeaseOf(2, 6, 2));  // more than the capacity
    Take(stream, 6, true);
    Stop(stream);
    return grpc::Status::OK;
  });
  const absl::Status status = RunAgainst(&learner);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(acked_, 2u);
  ASSERT_EQ(received_.size(), 9u);
  for (const auto& [id, trajectory] : received_) {
    EXPECT_EQ(deliveries_[id], 1);
    EXPECT_TRUE(trajectory.has_reward()) << trajectory.error();
    ASSERT_EQ(trajectory.branches(0).versions_size(), 1);
    EXPECT_EQ(trajectory.branches(0).versions(0).version(), id.first);
  }
}

TEST_F(RolloutWorkerTest, TokensAreThoseOfALocalRollout) {
  ScriptedLearner learner([this](int, Stream* stream) {
    Welcome(stream, 1);
    stream->Write(LeaseOf(5, 4, 1));
    Take(stream, 4, true);
    Stop(stream);
    return grpc::Status::OK;
  });
  ASSERT_TRUE(RunAgainst(&learner).ok());
  const auto weights = RandomModel(backend_.get(), config_, 1);
  const auto tokenizer = *Tokenizer::Create(spec_);
  LocalRolloutOptions options;
  options.engine.pages = 64;
  options.samples = 4;
  options.seed = 7;
  options.first_group = 5;
  options.weight_version = 1;
  options.sampling = Sampling();
  options.rewards = FixtureRewards();
  const auto local = RunLocalRollout(
      backend_.get(), weights.get(), *tokenizer, {MakeTask()},
      [](const std::string&) { return NewEcho(); }, options);
  ASSERT_TRUE(local.ok()) << local.status();
  for (const Trajectory& trajectory : *local) {
    const Id id{5, trajectory.key().sample()};
    EXPECT_EQ(trajectory.branches(0).SerializeAsString(),
              received_[id].branches(0).SerializeAsString());
  }
}

TEST_F(RolloutWorkerTest, TheRunsSwitchSaysWhetherKeptSetsAreRecorded) {
  int64_t kept_bytes[2] = {0, 0};
  for (const bool keep : {false, true}) {
    keep_sampling_mask_ = keep;
    ScriptedLearner learner([this](int, Stream* stream) {
      Welcome(stream, 1);
      stream->Write(LeaseOf(1, 4, 1));
      Take(stream, 4, true);
      Stop(stream);
      return grpc::Status::OK;
    });
    ASSERT_TRUE(RunAgainst(&learner).ok());
    ASSERT_EQ(received_.size(), 4u);
    for (const auto& [id, trajectory] : received_) {
      kept_bytes[keep] +=
          static_cast<int64_t>(trajectory.branches(0).kept_ids().size());
    }
  }
  EXPECT_EQ(kept_bytes[false], 0);
  EXPECT_GT(kept_bytes[true], 0);
}

TEST_F(RolloutWorkerTest, StopBeforeAnyWelcomeIsAnOrderlyEnd) {
  ScriptedLearner learner([this](int, Stream* stream) {
    stop_ = true;
    WorkerMessage message;
    while (stream->Read(&message)) {
    }
    return grpc::Status::OK;
  });
  const absl::Status status = RunAgainst(&learner);
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(RolloutWorkerTest, LostStreamLosesNoTrajectory) {
  ScriptedLearner learner([this](int number, Stream* stream) {
    Welcome(stream, 1);
    stream->Write(LeaseOf(1, 3, 1));  // again on the second stream
    if (number == 1) {
      Take(stream, 1, false);
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone");
    }
    Take(stream, 3, true);
    Stop(stream);
    return grpc::Status::OK;
  });
  const absl::Status status = RunAgainst(&learner);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(received_.size(), 3u);
  int total = 0;
  for (const auto& [id, count] : deliveries_) total += count;
  EXPECT_EQ(total, 4) << "one was sent again, none sampled again";
}

TEST_F(RolloutWorkerTest, AWaitForAnEnvironmentIsReportedWithItsLimit) {
  std::promise<void> release;
  environments_ready_ = release.get_future().share();
  WaitState seen;
  ScriptedLearner learner([&](int, Stream* stream) {
    Welcome(stream, 1);
    stream->Write(LeaseOf(1, 2, 1));
    WorkerMessage message;
    for (int beats = 0; beats < 1000 && seen.name().empty(); ++beats) {
      if (!stream->Read(&message)) break;
      for (const WaitState& wait : message.heartbeat().waits()) {
        if (wait.name() == "echo Reset, 2 episodes") seen = wait;
      }
    }
    release.set_value();
    Take(stream, 2, true);
    Stop(stream);
    return grpc::Status::OK;
  });
  const absl::Status status = RunAgainst(&learner);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(seen.name(), "echo Reset, 2 episodes");
  EXPECT_GE(seen.elapsed_ms(), 500u) << "shorter waits are the rule";
  EXPECT_EQ(seen.deadline_ms(), static_cast<uint64_t>(kResetMs));
}

// Room for more is for those in a Step that holds no thread; the host of
// environments has as many places as a worker may have others.
TEST_F(RolloutWorkerTest, AGroupAboveWhatMayBeBusyIsRunInParts) {
  capacity_ = 100;
  busy_max_ = 2;
  std::promise<void> release;
  environments_ready_ = release.get_future().share();
  uint32_t running = 0;
  ScriptedLearner learner([&](int, Stream* stream) {
    Welcome(stream, 1);
    stream->Write(LeaseOf(1, 5, 1));
    WorkerMessage message;
    while (running == 0 && stream->Read(&message)) {
      running = message.heartbeat().running_samples();
    }
    release.set_value();
    Take(stream, 5, true);
    Stop(stream);
    return grpc::Status::OK;
  });
  const absl::Status status = RunAgainst(&learner);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(running, 2u);
}

TEST_F(RolloutWorkerTest, AStoppingWorkersStreamEndsBeforeItsEnvironmentsDo) {
  std::promise<void> release, ended;
  environments_ready_ = release.get_future().share();
  ScriptedLearner learner([&](int, Stream* stream) {
    Welcome(stream, 1);
    stream->Write(LeaseOf(1, 2, 1));
    WorkerMessage message;
    bool waits = false;
    while (!waits && stream->Read(&message)) {
      waits = message.heartbeat().waits_size() > 0 &&
              message.heartbeat().waits(0).name() == "echo Reset, 2 episodes";
    }
    stop_ = true;
    while (stream->Read(&message)) {
    }
    ended.set_value();
    return grpc::Status::OK;
  });
  auto in_time = std::async(std::launch::async, [&] {
    const auto state = ended.get_future().wait_for(std::chrono::seconds(10));
    release.set_value();
    return state == std::future_status::ready;
  });
  const absl::Status status = RunAgainst(&learner);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_TRUE(in_time.get()) << "the leases wait for an environment";
}

TEST_F(RolloutWorkerTest, ALearnerBackAtEarlierWeightsEndsTheWorker) {
  Publish(2);
  ScriptedLearner learner([this](int number, Stream* stream) {
    Welcome(stream, number == 1 ? 2 : 1);
    if (number == 1) {
      stream->Write(LeaseOf(1, 1, 2));
      Take(stream, 1, true);
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone");
    }
    WorkerMessage message;
    while (stream->Read(&message)) {
    }
    return grpc::Status::OK;
  });
  const absl::Status status = RunAgainst(&learner);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_NE(std::string(status.message()).find("weight version 1"),
            std::string::npos)
      << status;
}

// Two minutes are too short for one forward of a model of billions.
TEST_F(RolloutWorkerTest, ALargeModelIsNotTakenForHung) {
  EXPECT_LT(LoopLimitMs(config_, EngineOptions()), 121'000);
  ModelConfig large = config_;
  large.hidden_size = 2048;
  large.moe_intermediate_size = 1408;
  large.n_routed_experts = 64;
  large.num_hidden_layers = 27;
  const int64_t parameters = large.parameter_count();
  ASSERT_GT(parameters, 10'000'000'000);
  EXPECT_GT(LoopLimitMs(large, EngineOptions()), 600'000);
  EngineOptions small;
  small.batch_tokens_max = 1;
  EXPECT_GT(LoopLimitMs(large, small), 600'000) << "taking weights in";
}

TEST_F(RolloutWorkerTest, WeightsOfAnotherModelAreRefused) {
  ModelConfig other = config_;
  other.moe_intermediate_size += 4;
  Publish(2, other, 1);
  ScriptedLearner learner([this](int, Stream* stream) {
    Welcome(stream, 2);
    WorkerMessage message;
    while (stream->Read(&message)) {
    }
    return grpc::Status::OK;
  });
  EXPECT_EQ(RunAgainst(&learner).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace temper
