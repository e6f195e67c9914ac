#include "tools/run/memory_plan.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/model/published_weights.h"
#include "kernels/model/test_model.h"
#include "learner/train/optimizer.h"
#include "learner/train/token_logprob.h"
#include "proto/wire/episode_limit.h"
#include "rollout/engine.h"
#include "tools/run/engine_size.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20;
constexpr int64_t kPromptTokens = 300;

RunConfig Config() {
  RunConfig config;
  config.set_workers(2);
  config.mutable_objective()->set_prompts_per_step(5);
  config.mutable_objective()->set_group_size(4);
  config.mutable_objective()->set_kl_coef(0.1);
  config.mutable_objective()->set_minibatches(1);
  config.mutable_objective()->set_kl_estimator(ObjectiveConfig::k3);
  config.mutable_objective()->set_advantage_norm(ObjectiveConfig::none);
  config.mutable_objective()->set_loss_aggregation(ObjectiveConfig::token_mean);
  config.mutable_sampling()->set_temperature(1);
  config.mutable_sampling()->set_max_tokens(100);
  return config;
}

int64_t Part(const ProcessMemory& process, const std::string& name) {
  for (const auto& [part, bytes] : process.parts) {
    if (part == name) return bytes;
  }
  return 0;
}

TEST(MemoryPlanTest, EveryPartIsWhatItsOwnerAsksFor) {
  const ModelConfig model = TinyConfig();
  const MemoryPlan plan = PlanMemory(Config(), model, kPromptTokens, false);
  ASSERT_EQ(plan.processes.size(), 2u);
  const ProcessMemory& learner = plan.processes[0];
  const ProcessMemory& worker = plan.processes[1];
  EXPECT_EQ(Part(learner, "optimizer"), Optimizer::BytesFor(model));
  EXPECT_EQ(Part(learner, "gradients"), Optimizer::BytesFor(model) / 2);
  EXPECT_GE(Part(learner, "log-probabilities"),
            TokenLogProb::BytesFor(model, kPromptTokens));
  const int64_t published = PublishedWeights::BytesFor(model, kFp32);
  const int64_t packed =
      PublishedWeights::PackingBytesFor(model, kFp32, Passes::kForward);
  EXPECT_GT(Part(learner, "reference"), published + packed);
  EXPECT_EQ(Part(worker, "weights"), published);
  EXPECT_EQ(Part(worker, "packings"), packed);
  EXPECT_LT(packed, Part(learner, "packings"));
  // Two workers share five groups: three for one of them.
  const EngineDemand demand = WorkerDemand(Config(), kPromptTokens, false);
  EXPECT_EQ(demand.samples, 12);
  EXPECT_EQ(demand.group_size, 4);
  EXPECT_EQ(Part(worker, "KV cache") + Part(worker, "activations"),
            Engine::BytesFor(model, kFp32, SizeEngine(demand, model)));
  EXPECT_EQ(plan.bytes(), learner.bytes() + 2 * worker.bytes());
}

TEST(MemoryPlanTest, WithoutKlThereIsNoReference) {
  RunConfig config = Config();
  config.mutable_objective()->set_kl_coef(0);
  EXPECT_EQ(
      Part(PlanMemory(config, TinyConfig(), kPromptTokens, false).processes[0],
           "reference"),
      0);
  DomainConfig* domain = config.add_domain();
  domain->set_domain_name("math");
  domain->set_domain_kl_coef(0.1);
  EXPECT_GT(
      Part(PlanMemory(config, TinyConfig(), kPromptTokens, false).processes[0],
           "reference"),
      0);
}

TEST(MemoryPlanTest, AnEngineHoldsAtMost256EpisodesAtOnce) {
  const ModelConfig model = TinyConfig();
  EXPECT_EQ(SizeEngine({.samples = 10'000}, model).sequences_max, 256);
  EXPECT_EQ(SizeEngine({.samples = 0}, model).sequences_max, 1);
  RunConfig config = Config();
  config.mutable_objective()->set_group_size(2000);
  for (const bool open_steps : {false, true}) {
    const EngineDemand demand = WorkerDemand(config, 0, open_steps);
    EXPECT_EQ(demand.samples, 256);
    EXPECT_EQ(demand.open, open_steps ? 4096 : 256);
    EXPECT_EQ(SizeEngine(demand, model).sequences_max, demand.open);
    EXPECT_EQ(SizeEngine(demand, model).sample_rows_max, 256);
  }
}

TEST(MemoryPlanTest, EpisodesInOpenStepsAreCounted) {
  RunConfig config = Config();
  config.mutable_objective()->set_group_size(2000);
  const auto worker = [&](bool open_steps) {
    return PlanMemory(config, TinyConfig(), kPromptTokens, open_steps)
        .processes[1];
  };
  EXPECT_EQ(Part(worker(true), "open episodes"),
            (4096 - 256) * kOpenEpisodeBytes);
  EXPECT_EQ(Part(worker(false), "open episodes"), 0);
  // A forward may be of more of them: of as many as it has tokens.
  EXPECT_GT(Part(worker(true), "activations"),
            Part(worker(false), "activations"));
  EXPECT_EQ(Part(worker(true), "KV cache"), Part(worker(false), "KV cache"));
}

TEST(MemoryPlanTest, TheCacheHoldsTheLongestPromptsAndAnyOneEpisode) {
  ModelConfig model = TinyConfig();
  model.max_position_embeddings = 8192;
  EXPECT_EQ(EpisodeTokens(model), 8192);
  EngineDemand demand{
      .samples = 32, .group_size = 8, .prompt_tokens = 5000, .max_tokens = 64};
  // Four prompts, and of each sample what it samples and reads.
  EXPECT_EQ(SizeEngine(demand, model).pages, 4 * 79 + 32 * 4);
  demand.max_turns = 6;  // 5 tool results of 128 tokens
  EXPECT_EQ(SizeEngine(demand, model).pages, 4 * 79 + 32 * 13);
  // However few samples there are: an episode may grow as long.
  demand.samples = 1;
  EXPECT_EQ(SizeEngine(demand, model).pages, 128);
  model.max_position_embeddings = 1 << 20;
  EXPECT_EQ(EpisodeTokens(model), kEpisodeTokensMax);
  // And more than all of them at their longest is never asked for.
  demand = {.samples = 4, .max_tokens = kEpisodeTokensMax, .max_turns = 256};
  EXPECT_EQ(SizeEngine(demand, model).pages, 4 * 256);
}

TEST(MemoryPlanTest, APlanAboveWhatIsThereWarnsAndNamesWhatToLower) {
  const MemoryPlan plan = {{{"learner", 1, {{"weights", 300 * kMiB}}},
                            {"each worker", 2, {{"weights", 100 * kMiB}}}}};
  EXPECT_EQ(MemoryWarning(plan, {500 * kMiB}), "");
  EXPECT_EQ(MemoryWarning(plan, {}), "");
  EXPECT_THAT(MemoryWarning(plan, {499 * kMiB}),
              AllOf(HasSubstr("500 MiB"), HasSubstr("499 MiB"),
                    HasSubstr("Lower workers")));
  const auto lines = DescribeMemory(plan, {800 * kMiB});
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0].second, "about 500 MiB of the 800 MiB available here");
  EXPECT_EQ(lines[2].first, "  each worker");
  EXPECT_EQ(lines[2].second, "100 MiB: weights 100");
}

// One GPU, which learner and workers share; what the host keeps stays the
// host's.
TEST(MemoryPlanTest, OnCudaWhatTheBackendHoldsIsTheGpus) {
  const ModelConfig model = TinyConfig();
  const MemoryPlan cpu = PlanMemory(Config(), model, kPromptTokens, false);
  RunConfig config = Config();
  config.set_device(RunConfig::cuda);
  const MemoryPlan plan = PlanMemory(config, model, kPromptTokens, false);
  const ProcessMemory& learner = plan.processes[0];
  const ProcessMemory& worker = plan.processes[1];
  EXPECT_EQ(Part(learner, "optimizer"), 0);
  EXPECT_EQ(Part(learner, "publication"),
            Part(cpu.processes[0], "publication"));
  EXPECT_EQ(Part(worker, "new weights"), Part(cpu.processes[1], "new weights"));
  EXPECT_EQ(worker.bytes() + worker.gpu_bytes(),
            cpu.processes[1].bytes() + kGpuProcessBytes);
  // Of a matrix that goes both ways there is one on a GPU.
  EXPECT_EQ(
      learner.bytes() + learner.gpu_bytes(),
      cpu.processes[0].bytes() + kGpuProcessBytes -
          PublishedWeights::PackingBytesFor(model, kFp32,
                                            Passes::kForwardAndBackward) +
          PublishedWeights::PackingBytesFor(model, kFp32, Passes::kForward));
  EXPECT_EQ(plan.gpu_bytes(), learner.gpu_bytes() + 2 * worker.gpu_bytes());
  EXPECT_EQ(cpu.gpu_bytes(), 0);
}

TEST(MemoryPlanTest, APlanAboveTheGpuWarns) {
  const MemoryPlan plan = {
      {{"learner", 1, {{"process", kMiB}}, {{"weights", 300 * kMiB}}},
       {"each worker", 2, {{"process", kMiB}}, {{"weights", 100 * kMiB}}}}};
  EXPECT_EQ(MemoryWarning(plan, {10 * kMiB, 500 * kMiB}), "");
  EXPECT_THAT(MemoryWarning(plan, {10 * kMiB, 499 * kMiB}),
              AllOf(HasSubstr("500 MiB of the GPU's memory"),
                    HasSubstr("499 MiB are all")));
  const auto lines = DescribeMemory(plan, {10 * kMiB, 800 * kMiB});
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_EQ(lines[0].second, "about 3 MiB of the 10 MiB available here");
  EXPECT_EQ(lines[3].first, "GPU memory");
  EXPECT_EQ(lines[3].second, "about 500 MiB of the 800 MiB of the GPU");
  EXPECT_EQ(lines[5].second, "100 MiB: weights 100");
}

TEST(MemoryPlanTest, ThisMachineSaysWhatItHas) {
  EXPECT_GT(AvailableMemoryBytes(), kMiB);
}

}  // namespace
}  // namespace temper
