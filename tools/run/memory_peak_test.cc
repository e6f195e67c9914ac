// What each process of a run takes at most, measured against the plan that its
// user is shown: on a model of 100 million parameters, under a load that fills
// the cache and the largest pack. Minutes, and some gigabytes.

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "kernels/base/float_mode.h"
#include "kernels/find_backend.h"
#include "kernels/model/test_model.h"
#include "learner/intake/weight_publisher.h"
#include "learner/train/init_weights.h"
#include "learner/train/learner_model.h"
#include "proto/wire/run_numerics.h"
#include "rollout/engine.h"
#include "tools/run/engine_size.h"
#include "tools/run/memory_plan.h"

namespace temper {
namespace {

constexpr int64_t kPromptTokens = 300;
constexpr uint32_t kSampled = 200;

ModelConfig Model() {
  ModelConfig c = TinyConfig();
  c.vocab_size = 8192;
  c.hidden_size = 512;
  c.intermediate_size = 1408;
  c.moe_intermediate_size = 256;
  c.num_hidden_layers = 8;
  c.num_attention_heads = 8;
  c.q_lora_rank = 256;
  c.kv_lora_rank = 128;
  c.qk_nope_head_dim = 64;
  c.qk_rope_head_dim = 32;
  c.v_head_dim = 64;
  c.index_n_heads = 8;
  c.index_head_dim = 64;
  c.index_topk = 128;
  c.n_routed_experts = 28;
  c.num_experts_per_tok = 4;
  c.n_group = 4;
  c.topk_group = 2;
  c.max_position_embeddings = 2048;
  return c;
}

RunConfig Config(const std::string& model_dir, RunConfig::Numerics numerics) {
  RunConfig config;
  config.set_numerics(numerics);
  config.set_name("peak");
  config.set_model(model_dir);
  config.set_workers(1);
  ObjectiveConfig* objective = config.mutable_objective();
  objective->set_prompts_per_step(8);
  objective->set_group_size(4);
  objective->set_minibatches(1);
  objective->set_kl_coef(0.001);
  objective->set_kl_estimator(ObjectiveConfig::k3);
  objective->set_advantage_norm(ObjectiveConfig::none);
  objective->set_loss_aggregation(ObjectiveConfig::token_mean);
  objective->set_keep_routing(true);
  objective->set_keep_sampling_mask(true);
  objective->set_clip_ratio_low(0.2);
  objective->set_clip_ratio_high(0.2);
  objective->set_off_policy_mask_threshold(1e9);
  config.mutable_sampling()->set_temperature(1);
  config.mutable_sampling()->set_max_tokens(kSampled);
  config.mutable_sampling()->set_max_turns(1);
  OptimizerConfig* optimizer = config.mutable_optimizer();
  optimizer->set_learning_rate(1e-6);
  optimizer->set_beta1(0.9);
  optimizer->set_beta2(0.95);
  optimizer->set_adam_eps(1e-8);
  optimizer->set_grad_clip(1);
  return config;
}

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

// The peak of a process of its own that runs `role`; 0 if it failed.
int64_t PeakOf(const std::function<void()>& role) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    SetFlushDenormals();
    role();
    const int64_t peak = testing::Test::HasFailure() ? 0 : PeakBytes();
    const bool told = write(ends[1], &peak, sizeof(peak)) == sizeof(peak);
    _exit(told ? 0 : 1);
  }
  close(ends[1]);
  int64_t peak = 0;
  if (read(ends[0], &peak, sizeof(peak)) != sizeof(peak)) peak = 0;
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  return peak;
}

void ExpectWithin15Percent(const ProcessMemory& planned, int64_t peak) {
  const double ratio =
      static_cast<double>(peak) / static_cast<double>(planned.bytes());
  printf("%s: planned %lld MiB, peak %lld MiB, %.3f\n", planned.name.c_str(),
         static_cast<long long>(planned.bytes() >> 20),
         static_cast<long long>(peak >> 20), ratio);
  for (const auto& [name, bytes] : planned.parts) {
    printf("  %s %lld\n", name.c_str(), static_cast<long long>(bytes >> 20));
  }
  EXPECT_GT(ratio, 0.85);
  EXPECT_LT(ratio, 1.15);
}

// Branches that share nothing and fill a pack of the longest episode's tokens.
std::vector<Episode> FullPack(const ModelConfig& config) {
  const int64_t length = config.max_position_embeddings;
  const int64_t count = TrainStepOptions().tokens_max / (length - 1);
  std::vector<Episode> episodes(count);
  for (int64_t e = 0; e < count; ++e) {
    episodes[e].group = static_cast<uint64_t>(e / 4);
    episodes[e].sample = static_cast<uint32_t>(e % 4);
    episodes[e].reward = static_cast<double>(e % 4);
    EpisodeBranch branch;
    branch.tokens = RandomTokens(config, static_cast<uint64_t>(e), length);
    for (int64_t t = length - kSampled; t < length; ++t) {
      branch.sampled.push_back(static_cast<int32_t>(t));
      branch.logprobs.push_back(-9.0f);
    }
    branch.kept_offsets.assign(branch.sampled.size() + 1, 0);
    for (int64_t t = 0; t + 1 < length; ++t) {
      for (int64_t m = 0; m < config.moe_layers(); ++m) {
        for (int64_t a = 0; a < config.num_experts_per_tok; ++a) {
          branch.routes.push_back(static_cast<int32_t>(7 * a + (t + m) % 7));
        }
      }
    }
    branch.versions = {{0, kSampled, 1}};
    episodes[e].branches.push_back(std::move(branch));
  }
  return episodes;
}

class MemoryPeakTest : public testing::TestWithParam<RunConfig::Numerics> {
 protected:
  // The base model and what is published of it, made by a process of its own.
  void SetUp() override {
    directory_ = absl::StrCat(getenv("TEST_TMPDIR"), "/peak");
    ASSERT_TRUE(MakeDirectories(directory_ + "/model").ok());
    ASSERT_GT(PeakOf([&] {
                const auto backend = *FindBackend({});
                const auto masters =
                    *MasterWeights::Create(backend.get(), Model());
                ASSERT_TRUE(InitWeights(1, 0.02, masters.get()).ok());
                ASSERT_TRUE(masters->Save(directory_ + "/model", "F32").ok());
                ASSERT_TRUE(
                    WriteFileDurably(directory_ + "/model/tokenizer.json", "{}")
                        .ok());
                const auto published = *PublishedWeights::Of(
                    masters.get(), numerics(), Passes::kForward);
                const std::vector<std::byte> bytes = *published->GetBytes();
                ASSERT_TRUE(WriteFileDurably(directory_ + "/published",
                                             bytes.data(), bytes.size())
                                .ok());
              }),
              0);
    const MemoryPlan plan = PlanMemory(config(), Model(), kPromptTokens, false);
    learner_ = plan.processes[0];
    worker_ = plan.processes[1];
  }

  RunConfig config() const { return Config(directory_ + "/model", GetParam()); }
  Numerics numerics() const { return NumericsOf(config()); }

  std::string directory_;
  ProcessMemory learner_, worker_;
};

TEST(MemoryPeakModelTest, Has100MillionParameters) {
  EXPECT_NEAR(static_cast<double>(Model().parameter_count()), 1e8, 5e6);
}

TEST_P(MemoryPeakTest, ALearnerThatTrainsAFullPackSavesAndPublishes) {
  const int64_t peak = PeakOf([&] {
    const auto backend = *FindBackend({.threads = 2});
    auto model = LearnerModel::Open(directory_ + "/run", config(), std::nullopt,
                                    {}, backend.get());
    ASSERT_TRUE(model.ok()) << model.status();
    const std::vector<Episode> episodes = FullPack(Model());
    const auto publisher = *WeightPublisher::Start({.run = "peak"});
    std::vector<PublishedTensor> tensors;
    for (const PublishedParameter& tensor : (*model)->weights().tensors()) {
      tensors.push_back(
          {tensor.name, FileTypeName(tensor.dtype), tensor.shape});
    }
    for (uint64_t version = 1; version <= 4; ++version) {
      ASSERT_TRUE(
          publisher->Publish(version, tensors, *(*model)->weights().GetBytes())
              .ok());
      if (version > 1) continue;  // one step is as large as the next
      const auto metrics = (*model)->Train(episodes, version);
      ASSERT_TRUE(metrics.ok()) << metrics.status();
      ASSERT_GT(metrics->rows, TrainStepOptions().tokens_max * 9 / 10);
      const std::string saved = absl::StrCat(directory_, "/saved", version);
      ASSERT_TRUE(MakeDirectories(saved).ok());
      ASSERT_TRUE((*model)->Save(saved, {}).ok());
    }
  });
  ExpectWithin15Percent(learner_, peak);
}

TEST_P(MemoryPeakTest, AWorkerWithAFullCacheThatTakesNewWeights) {
  const int64_t peak = PeakOf([&] {
    const ModelConfig model = Model();
    const auto backend = *FindBackend({.threads = 2});
    const auto weights = *PublishedWeights::Create(
        backend.get(), model, numerics(), Passes::kForward);
    const EngineDemand demand = WorkerDemand(config(), kPromptTokens, false);
    const EngineOptions options = SizeEngine(demand, model);
    auto engine = *Engine::Create(backend.get(), weights.get(), 0, options);
    // As they come over the wire: the one to take, and the next behind it.
    std::vector<std::byte> first(PublishedWeights::BytesFor(model, numerics()));
    std::ifstream file(directory_ + "/published", std::ios::binary);
    file.read(reinterpret_cast<char*>(first.data()),
              static_cast<std::streamsize>(first.size()));
    ASSERT_TRUE(file.good());
    const std::vector<std::byte> next = first;
    ASSERT_TRUE(engine->SetWeights(1, first).ok());
    const int64_t each = options.pages / demand.samples * kPageTokens;
    for (int64_t i = 0; i < demand.samples; ++i) {
      SequenceOptions sequence;
      sequence.key = {1, static_cast<uint64_t>(i), 0};
      sequence.stop_token = -1;
      sequence.sampling.top_p = 0.95f;
      const int64_t id = *engine->Open(sequence);
      ASSERT_TRUE(
          engine
              ->Extend(id,
                       RandomTokens(model, static_cast<uint64_t>(i), each - 20),
                       20)
              .ok());
    }
    while (engine->has_running()) ASSERT_TRUE(engine->Step().ok());
    ASSERT_TRUE(engine->SetWeights(2, next).ok());
  });
  ExpectWithin15Percent(worker_, peak);
}

INSTANTIATE_TEST_SUITE_P(Numerics, MemoryPeakTest,
                         testing::Values(RunConfig::fp32, RunConfig::bf16,
                                         RunConfig::fp8),
                         [](const auto& tested) {
                           return RunConfig::Numerics_Name(tested.param);
                         });

}  // namespace
}  // namespace temper
