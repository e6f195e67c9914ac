#include "tools/memory_plan.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/model/test_model.h"
#include "learner/optimizer.h"
#include "rollout/engine.h"
#include "tools/engine_size.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20;

RunConfig Config() {
  RunConfig config;
  config.set_workers(2);
  config.mutable_objective()->set_prompts_per_step(5);
  config.mutable_objective()->set_group_size(4);
  config.mutable_objective()->set_kl_coef(0.1);
  config.mutable_objective()->set_minibatches(1);
  config.mutable_objective()->set_kl_estimator("k3");
  config.mutable_objective()->set_advantage_norm("none");
  config.mutable_objective()->set_loss_aggregation("token_mean");
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
  const MemoryPlan plan = PlanMemory(Config(), model);
  ASSERT_EQ(plan.processes.size(), 2u);
  const ProcessMemory& learner = plan.processes[0];
  const ProcessMemory& worker = plan.processes[1];
  EXPECT_EQ(Part(learner, "optimizer"), Optimizer::BytesFor(model));
  EXPECT_EQ(Part(learner, "gradients"), Optimizer::BytesFor(model) / 2);
  EXPECT_GT(Part(learner, "reference"), 3 * Part(learner, "weights"));
  // Two workers share five groups: three for one of them.
  EXPECT_EQ(WorkerSamples(Config()), 12);
  EXPECT_EQ(Part(worker, "KV cache") + Part(worker, "activations"),
            Engine::BytesFor(model, SizeEngine(12, 100)));
  EXPECT_EQ(plan.bytes(), learner.bytes() + 2 * worker.bytes());
}

TEST(MemoryPlanTest, WithoutKlThereIsNoReference) {
  RunConfig config = Config();
  config.mutable_objective()->set_kl_coef(0);
  EXPECT_EQ(Part(PlanMemory(config, TinyConfig()).processes[0], "reference"),
            0);
  DomainConfig* domain = config.add_domain();
  domain->set_domain_name("math");
  domain->set_domain_kl_coef(0.1);
  EXPECT_GT(Part(PlanMemory(config, TinyConfig()).processes[0], "reference"),
            0);
}

TEST(MemoryPlanTest, AnEngineHoldsAtMost256EpisodesAtOnce) {
  EXPECT_EQ(SizeEngine(10'000, 64).sequences_max, 256);
  EXPECT_EQ(SizeEngine(0, 64).sequences_max, 1);
  RunConfig config = Config();
  config.mutable_objective()->set_group_size(1000);
  EXPECT_EQ(WorkerSamples(config), 256);
}

TEST(MemoryPlanTest, APlanAboveWhatIsThereWarnsAndNamesWhatToLower) {
  const MemoryPlan plan = {{{"learner", 1, {{"weights", 300 * kMiB}}},
                            {"each worker", 2, {{"weights", 100 * kMiB}}}}};
  EXPECT_EQ(MemoryWarning(plan, 500 * kMiB), "");
  EXPECT_EQ(MemoryWarning(plan, 0), "");
  EXPECT_THAT(MemoryWarning(plan, 499 * kMiB),
              AllOf(HasSubstr("500 MiB"), HasSubstr("499 MiB"),
                    HasSubstr("Lower workers")));
  const auto lines = DescribeMemory(plan, 800 * kMiB);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0].second, "about 500 MiB of the 800 MiB available here");
  EXPECT_EQ(lines[2].first, "  each worker");
  EXPECT_EQ(lines[2].second, "100 MiB: weights 100");
}

TEST(MemoryPlanTest, ThisMachineSaysWhatItHas) {
  EXPECT_GT(AvailableMemoryBytes(), kMiB);
}

}  // namespace
}  // namespace temper
