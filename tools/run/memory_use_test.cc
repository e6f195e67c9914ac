// What a learner holds while it saves and publishes, measured against the plan
// that its user was shown: on a model large enough to stand out.

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/sanitized.h"
#include "kernels/find_backend.h"
#include "kernels/model/gradients.h"
#include "kernels/model/master_weights.h"
#include "kernels/model/published_weights.h"
#include "kernels/model/test_model.h"
#include "learner/intake/weight_publisher.h"
#include "learner/store/checkpoint.h"
#include "learner/train/learner_state.h"
#include "learner/train/optimizer.h"
#include "tools/run/memory_plan.h"

namespace temper {
namespace {

// Of this process, in bytes, since it began.
int64_t PeakBytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  int64_t kib = 0;
  while (status >> word) {
    if (word == "VmHWM:" && status >> kib) return kib << 10;
  }
  return 0;
}

RunConfig Config() {
  RunConfig config;
  config.set_workers(1);
  ObjectiveConfig* objective = config.mutable_objective();
  objective->set_prompts_per_step(1);
  objective->set_group_size(2);
  objective->set_minibatches(1);
  objective->set_kl_estimator(ObjectiveConfig::k3);
  objective->set_advantage_norm(ObjectiveConfig::none);
  objective->set_loss_aggregation(ObjectiveConfig::token_mean);
  config.mutable_sampling()->set_temperature(1);
  config.mutable_sampling()->set_max_tokens(100);
  return config;
}

// 15 million parameters, 60 MB.
ModelConfig Model() {
  ModelConfig config = TinyConfig();
  config.hidden_size = 256;
  config.moe_intermediate_size = 512;
  config.n_routed_experts = 16;
  config.vocab_size = 4096;
  return config;
}

TEST(MemoryUseTest, ALearnerThatSavesAndPublishesStaysWithinItsPlan) {
  if (kSanitized) {
    GTEST_SKIP() << "a sanitized process holds its shadow's memory too";
  }
  SetFlushDenormals();
  int64_t planned = 0;
  const MemoryPlan plan =
      PlanMemory(Config(), Model(), /*prompt_tokens=*/100, false);
  for (const auto& [name, bytes] : plan.processes[0].parts) {
    if (name != "activations") planned += bytes;  // no step is made here
  }
  const std::string base = absl::StrCat(getenv("TEST_TMPDIR"), "/base");
  ASSERT_TRUE(MakeDirectories(base).ok());
  const auto backend = *FindBackend({});
  ASSERT_TRUE(RandomMasters(backend.get(), Model(), /*seed=*/1)
                  ->Save(base, "F32")
                  .ok());
  for (const char* name : {"/tokenizer.json", "/data.jsonl", "/more.jsonl"}) {
    ASSERT_TRUE(WriteFileDurably(base + name, "").ok());
    ASSERT_EQ(truncate((base + name).c_str(), 64 << 20), 0);
  }

  const auto masters = *MasterWeights::Load(backend.get(), Model(), base);
  const auto weights =
      *PublishedWeights::Of(masters.get(), kFp32, Passes::kForwardAndBackward);
  const auto gradients = *ModelGradients::Create(backend.get(), Model());
  const auto optimizer = *Optimizer::Create(
      backend.get(), masters.get(), weights.get(), {ParameterGroup::kMain});
  const auto store =
      *CheckpointStore::Create({absl::StrCat(getenv("TEST_TMPDIR"), "/saved")});
  LearnerCounters counters;
  const auto save = [&](int64_t step) {
    const auto saved = store->Save(step, [&](const std::string& directory) {
      // What is written in pieces, whatever the type.
      return SaveLearnerState(directory, base,
                              step % 2 == 0 ? "BF16" : "F8_E4M3", *masters,
                              *optimizer, counters);
    });
    EXPECT_TRUE(saved.ok()) << saved.status();
    return saved.value_or("");
  };
  // As a resume does, before anything is published.
  ASSERT_TRUE(LoadOptimizerState(save(0), counters, optimizer.get()).ok());
  WeightPublisherOptions options;
  options.run = "r";
  const auto publisher = *WeightPublisher::Start(options);
  std::vector<PublishedTensor> tensors;
  for (const PublishedParameter& tensor : weights->tensors()) {
    tensors.push_back({tensor.name, FileTypeName(tensor.dtype), tensor.shape});
  }
  for (uint64_t version = 1; version <= 4; ++version) {
    ASSERT_TRUE(
        publisher->Publish(version, tensors, *weights->GetBytes()).ok());
    save(static_cast<int64_t>(version));
  }
  EXPECT_LE(PeakBytes(), planned);
  EXPECT_GT(PeakBytes(), planned * 3 / 4);
}

}  // namespace
}  // namespace temper
