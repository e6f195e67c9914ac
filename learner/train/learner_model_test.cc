#include "learner/train/learner_model.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "kernels/base/float_mode.h"
#include "kernels/find_backend.h"
#include "kernels/model/safetensors.h"
#include "kernels/model/test_model.h"
#include "learner/train/train_step_oracle.h"

namespace temper {
namespace {

using testing::HasSubstr;

RunConfig Config(const std::string& model) {
  RunConfig config;
  config.set_model(model);
  ObjectiveConfig* objective = config.mutable_objective();
  objective->set_minibatches(1);
  objective->set_clip_ratio_low(0.2);
  objective->set_clip_ratio_high(0.28);
  objective->set_kl_coef(0.1);
  objective->set_kl_estimator(ObjectiveConfig::unbiased_k3);
  objective->set_off_policy_mask_threshold(0.1);
  objective->set_keep_routing(true);
  objective->set_keep_sampling_mask(true);
  objective->set_advantage_norm(ObjectiveConfig::none);
  objective->set_loss_aggregation(ObjectiveConfig::seq_mean_token_mean);
  config.mutable_sampling()->set_temperature(1);
  OptimizerConfig* optimizer = config.mutable_optimizer();
  optimizer->set_learning_rate(0x1p-7);
  optimizer->set_warmup_steps(4);
  optimizer->set_beta1(0.9);
  optimizer->set_beta2(0.95);
  optimizer->set_adam_eps(1e-8);
  optimizer->set_grad_clip(1);
  return config;
}

// A run's model directory, and a batch of one group.
class LearnerModelTest : public testing::Test {
 protected:
  LearnerModelTest()
      : directory_(absl::StrCat(
            getenv("TEST_TMPDIR"), "/",
            testing::UnitTest::GetInstance()->current_test_info()->name())) {
    SetFlushDenormals();
    backend_ = *FindBackend({});
    base_ = RandomMasters(backend_.get(), TinyConfig(), /*seed=*/7);
    EXPECT_TRUE(MakeDirectories(Model()).ok());
    EXPECT_TRUE(base_->Save(Model(), "F32").ok());
    EXPECT_TRUE(WriteFileDurably(Model() + "/tokenizer.json", "{}").ok());
    published_ = RandomModel(backend_.get(), TinyConfig(), /*seed=*/7);
    for (const uint32_t sample : {0u, 1u}) {
      DrawnEpisode spec;
      spec.sample = sample;
      spec.reward = sample;
      episodes_.push_back(MakeEpisode(backend_.get(), *published_, spec));
    }
  }

  std::string Run() const { return directory_ + "/run"; }
  std::string Model() const { return directory_ + "/model"; }

  std::unique_ptr<LearnerModel> Open(
      const RunConfig& config,
      const std::optional<std::string>& checkpoint = std::nullopt,
      const LearnerCounters& counters = {}) {
    auto model =
        LearnerModel::Open(Run(), config, checkpoint, counters, backend_.get());
    EXPECT_TRUE(model.ok()) << model.status();
    return model.ok() ? *std::move(model) : nullptr;
  }

  StepMetrics Train(LearnerModel* model) {
    const auto metrics = model->Train(episodes_, /*version=*/1);
    EXPECT_TRUE(metrics.ok()) << metrics.status();
    return metrics.ok() ? *metrics : StepMetrics();
  }

  void ExpectGoesOnBitForBit(ScheduleConfig::CheckpointDtype dtype);

  const std::string directory_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<MasterWeights> base_;
  std::unique_ptr<PublishedWeights> published_;  // of base_, to sample
  std::vector<Episode> episodes_;
};

TEST_F(LearnerModelTest,
       BeginsWithTheConfiguredModelAndTrainsAtEachUpdatesRate) {
  const auto model = Open(Config(Model()));
  EXPECT_EQ(model->masters().GetValues(), base_->GetValues());
  EXPECT_EQ(Train(model.get()).values.at("lr"), 0x1p-9);
  EXPECT_EQ(Train(model.get()).values.at("lr"), 0x1p-8);
  EXPECT_EQ(Train(model.get()).values.at("lr"), 0x1.8p-8);
  EXPECT_EQ(Train(model.get()).values.at("lr"), 0x1p-7);
  EXPECT_EQ(Train(model.get()).values.at("lr"), 0x1p-7);
  EXPECT_NE(model->masters().GetValues(), base_->GetValues());
}

// By updates, as its key says: two a step here, and a step in the middle of the
// warm-up has two rates.
TEST_F(LearnerModelTest, TheWarmUpIsOverUpdatesNotSteps) {
  for (const uint32_t sample : {0u, 1u}) {
    DrawnEpisode spec;
    spec.group = 2;
    spec.sample = sample;
    spec.reward = sample;
    episodes_.push_back(MakeEpisode(backend_.get(), *published_, spec));
  }
  RunConfig config = Config(Model());
  config.mutable_optimizer()->set_learning_rate(0.75);
  config.mutable_optimizer()->set_warmup_steps(3);
  config.mutable_objective()->set_minibatches(2);
  const auto model = Open(config);
  EXPECT_EQ(Train(model.get()).values.at("lr"), 0.5);
  // The same by steps of one update.
  const std::vector<Episode> episodes = std::exchange(episodes_, {});
  config.mutable_objective()->set_minibatches(1);
  const auto other = Open(config);
  episodes_ = {episodes[0], episodes[1]};
  EXPECT_EQ(Train(other.get()).values.at("lr"), 0.25);
  episodes_ = {episodes[2], episodes[3]};
  EXPECT_EQ(Train(other.get()).values.at("lr"), 0.5);
  EXPECT_EQ(model->masters().GetValues(), other->masters().GetValues());
  episodes_ = episodes;
  EXPECT_EQ(Train(model.get()).values.at("lr"), 0.75);
}

// Whatever its model/ was rounded to.
TEST_F(LearnerModelTest, FromACheckpointItGoesOnBitForBitWithTheSameReference) {
  for (const auto dtype :
       {ScheduleConfig::BF16, ScheduleConfig::F8_E4M3, ScheduleConfig::F32}) {
    ExpectGoesOnBitForBit(dtype);
  }
}

void LearnerModelTest::ExpectGoesOnBitForBit(
    ScheduleConfig::CheckpointDtype dtype) {
  RunConfig config = Config(Model());
  config.mutable_schedule()->set_checkpoint_dtype(dtype);
  const auto model = Open(config);
  Train(model.get());
  LearnerCounters counters;
  counters.step = 1;
  counters.optimizer_steps = 1;
  const std::string checkpoint =
      absl::StrCat(directory_, "/checkpoint", static_cast<int>(dtype));
  ASSERT_TRUE(MakeDirectories(checkpoint).ok());
  const absl::Status saved = model->Save(checkpoint, counters);
  ASSERT_TRUE(saved.ok()) << saved;
  const auto file = Safetensors::OpenModel(checkpoint + "/model");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->Find("model.layers.0.mlp.up_proj.weight")->dtype,
            ScheduleConfig::CheckpointDtype_Name(dtype));
  const auto read = ReadLearnerCounters(checkpoint);
  ASSERT_TRUE(read.ok()) << read.status();
  const auto resumed = Open(config, checkpoint, *read);
  EXPECT_EQ(resumed->masters().GetValues(), model->masters().GetValues());
  const StepMetrics metrics = Train(model.get());
  EXPECT_EQ(Train(resumed.get()).values, metrics.values);
  EXPECT_EQ(resumed->masters().GetValues(), model->masters().GetValues());
  // Against the configured model the policy has moved; against itself not.
  EXPECT_GT(metrics.values.at("kl"), 1e-6);
}

TEST_F(LearnerModelTest, AfterAnUpdateFarAstrayEveryMetricIsFinite) {
  RunConfig config = Config(Model());
  config.mutable_optimizer()->set_learning_rate(6);
  config.mutable_optimizer()->set_warmup_steps(0);
  const auto model = Open(config);
  Train(model.get());
  const StepMetrics metrics = Train(model.get());
  float least = 0;
  for (const TrainedEpisode& one : metrics.trained) {
    for (const float logp : one.logp) least = std::min(least, logp);
  }
  ASSERT_LT(least, -800) << "nothing here would overflow";
  for (const auto& [name, value] : metrics.values) {
    EXPECT_TRUE(std::isfinite(value)) << name << " is " << value;
  }
}

TEST_F(LearnerModelTest, AtFirstThePolicyIsTheReference) {
  EXPECT_EQ(Train(Open(Config(Model())).get()).values.at("kl"), 0);
}

TEST_F(LearnerModelTest, WithoutABetaThereIsNoReference) {
  RunConfig config = Config(Model());
  config.mutable_objective()->set_kl_coef(0);
  EXPECT_EQ(Train(Open(config).get()).values.count("kl"), 0u);
  DomainConfig* domain = config.add_domain();
  domain->set_domain_name("math");
  domain->set_domain_kl_coef(0.1);
  EXPECT_EQ(Train(Open(config).get()).values.count("kl"), 1u);
}

TEST_F(LearnerModelTest, WhatLayBesideTheFirstModelIsInEveryCheckpoint) {
  const std::map<std::string, std::string> texts = {
      {"tokenizer.json", "{}"},
      {"tokenizer_config.json", "{\"eos_token\": \"a\"}"},
      {"generation_config.json", "{}"},
      {"chat_template.jinja", "{{ messages }}"}};
  for (const auto& [name, text] : texts) {
    ASSERT_TRUE(WriteFileDurably(Model() + "/" + name, text).ok());
  }
  std::string config_json = *ReadFile(Model() + "/config.json", 1 << 20);
  config_json.insert(1, "\"pad_token_id\": 3,");
  ASSERT_TRUE(WriteFileDurably(Model() + "/config.json", config_json).ok());
  RunConfig config = Config(Model());
  config.mutable_objective()->set_kl_coef(0);  // no reference
  const std::string first = directory_ + "/first", second = directory_ + "/2";
  ASSERT_TRUE(MakeDirectories(first).ok() && MakeDirectories(second).ok());
  ASSERT_TRUE(Open(config)->Save(first, {}).ok());
  // A resume finds no base model, and a pruned checkpoint; of a run of the
  // first version nothing else either.
  ASSERT_TRUE(RemoveAll(Run()).ok());
  ASSERT_TRUE(RemoveAll(Model()).ok());
  const auto resumed = Open(config, first);
  ASSERT_NE(resumed, nullptr);
  ASSERT_TRUE(RemoveAll(first).ok());
  const absl::Status saved = resumed->Save(second, {});
  ASSERT_TRUE(saved.ok()) << saved;
  for (const auto& [name, text] : texts) {
    EXPECT_EQ(*ReadFile(second + "/model/" + name, 1 << 20), text) << name;
  }
  EXPECT_THAT(*ReadFile(second + "/model/config.json", 1 << 20),
              AllOf(HasSubstr("\"pad_token_id\": 3"),
                    HasSubstr("\"torch_dtype\": \"bfloat16\"")));
}

TEST_F(LearnerModelTest, WhatCannotBeOpenedIsNamed) {
  const auto error = [&](const RunConfig& config,
                         const std::optional<std::string>& checkpoint) {
    const auto model =
        LearnerModel::Open(Run(), config, checkpoint, {}, backend_.get());
    EXPECT_FALSE(model.ok());
    return std::string(model.status().message());
  };
  EXPECT_THAT(error(Config(directory_ + "/nothing"), std::nullopt),
              HasSubstr(directory_ + "/nothing"));
  EXPECT_THAT(error(Config(Model()), directory_ + "/nothing"),
              HasSubstr(directory_ + "/nothing"));
  RunConfig config = Config(Model());
  config.mutable_sampling()->set_temperature(-3);
  EXPECT_THAT(error(config, std::nullopt), HasSubstr("temperature -3"));
}

}  // namespace
}  // namespace temper
