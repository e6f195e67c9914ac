#include "rollout/local_rollout.h"

#include <atomic>
#include <memory>

#include "absl/strings/str_cat.h"
#include "environments/testing/echo_environment.h"
#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/find_backend.h"
#include "kernels/model/bpe_trainer.h"
#include "kernels/model/test_model.h"
#include "rollout/sampling_fixture.h"

namespace temper {
namespace {

class LocalRolloutTest : public ::testing::Test {
 protected:
  LocalRolloutTest() {
    SetFlushDenormals();
    BpeTrainerOptions tokens;
    tokens.vocab_size = 264;
    tokenizer_ = *Tokenizer::Create(*TrainBpe({}, tokens));
    backend_ = *FindBackend({.name = "scalar"});
    ModelConfig config = TinyConfig();
    config.vocab_size = 264;
    weights_ = RandomModel(backend_.get(), config, 1);
    for (int i = 0; i < 3; ++i) {
      Task task;
      task.set_id(absl::StrCat("t", i));
      task.set_environment("echo");
      Message* const system = task.add_messages();
      system->set_role("system");
      system->set_content(std::string(80, 's'));
      Message* const user = task.add_messages();
      user->set_role("user");
      user->set_content(absl::StrCat("question ", i));
      tasks_.push_back(task);
    }
    options_.engine.pages = 64;
    options_.engine.sequences_max = 8;
    options_.samples = 2;
    options_.sampling = FixtureSampling(/*max_tokens=*/24);
    options_.rewards = FixtureRewards();
    options_.first_group = 10;
  }

  absl::StatusOr<std::vector<Trajectory>> Run() {
    return RunLocalRollout(
        backend_.get(), weights_.get(), *tokenizer_, tasks_,
        [](const std::string&) { return std::make_unique<EchoEnvironment>(); },
        options_);
  }

  // Records without what the clock says.
  std::vector<std::string> Records() {
    auto trajectories = Run();
    EXPECT_TRUE(trajectories.ok()) << trajectories.status();
    std::vector<std::string> records;
    for (Trajectory& t : *trajectories) {
      t.clear_generate_us();
      t.clear_environment_us();
      t.clear_environment_calls();
      t.clear_reward_us();
      records.push_back(t.SerializeAsString());
    }
    return records;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<PublishedWeights> weights_;
  std::vector<Task> tasks_;
  LocalRolloutOptions options_;
};

TEST_F(LocalRolloutTest, EverySampleOfEveryTaskComesBackInOrder) {
  int64_t reported = 0;
  options_.progress = [&reported](int64_t done, int64_t total) {
    EXPECT_EQ(total, 6);
    reported = done;
  };
  const auto trajectories = Run();
  ASSERT_TRUE(trajectories.ok()) << trajectories.status();
  ASSERT_EQ(trajectories->size(), 6u);
  for (size_t i = 0; i < 6; ++i) {
    const Trajectory& t = (*trajectories)[i];
    EXPECT_EQ(t.key().group(), 10 + i / 2);
    EXPECT_EQ(t.key().sample(), i % 2);
    EXPECT_EQ(t.task_id(), absl::StrCat("t", i / 2));
    EXPECT_TRUE(t.has_reward()) << t.error();
    EXPECT_EQ(t.purpose(), PURPOSE_EVAL);
  }
  EXPECT_EQ(reported, 6);
}

TEST_F(LocalRolloutTest, SameSeedSameRecordsHoweverManyRunAtOnce) {
  const std::vector<std::string> together = Records();
  options_.engine.sequences_max = 1;
  options_.engine.batch_tokens_max = 64;
  options_.job_threads = 1;
  EXPECT_EQ(Records(), together);
}

TEST_F(LocalRolloutTest, SamplesAndSeedsDiffer) {
  const auto first = Run();
  ASSERT_TRUE(first.ok());
  EXPECT_NE((*first)[0].branches(0).tokens(), (*first)[1].branches(0).tokens());
  options_.seed = 2;
  const auto second = Run();
  ASSERT_TRUE(second.ok());
  EXPECT_NE((*first)[0].branches(0).tokens(),
            (*second)[0].branches(0).tokens());
}

TEST_F(LocalRolloutTest, StopEndsItEarly) {
  const std::atomic<bool> stop{true};
  options_.stop = &stop;
  EXPECT_EQ(Run().status().code(), absl::StatusCode::kCancelled);
}

TEST_F(LocalRolloutTest, TokenizerLargerThanTheModelIsRefused) {
  BpeTrainerOptions tokens;
  tokens.vocab_size = 265;
  tokens.trailing_tokens.push_back("<more>");
  tokenizer_ = *Tokenizer::Create(*TrainBpe({}, tokens));
  EXPECT_EQ(Run().status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace temper
