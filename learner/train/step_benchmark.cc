// Times the model's steps at the quickstart's dimensions on random tokens: a
// preamble shared by the batch and one branch a sample, as training packs them.
// Counters: rows a second, and GFLOP/s over the matrix products and attention.
//
//   bazel run -c opt //learner/train:step_benchmark

#include <vector>

#include "benchmark/benchmark.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/log.h"
#include "kernels/base/rng.h"
#include "kernels/find_backend.h"
#include "learner/train/init_weights.h"
#include "learner/train/sft_step.h"

namespace temper {
namespace {

ModelConfig QuickstartConfig() {
  ModelConfig config;
  config.vocab_size = 512;
  config.hidden_size = 128;
  config.intermediate_size = 384;
  config.moe_intermediate_size = 128;
  config.num_hidden_layers = 4;
  config.first_k_dense_replace = 1;
  config.num_attention_heads = 4;
  config.q_lora_rank = 96;
  config.kv_lora_rank = 64;
  config.qk_nope_head_dim = 32;
  config.qk_rope_head_dim = 16;
  config.v_head_dim = 32;
  config.index_n_heads = 2;
  config.index_head_dim = 32;
  config.index_topk = 64;
  config.n_routed_experts = 8;
  config.n_shared_experts = 1;
  config.num_experts_per_tok = 2;
  config.n_group = 2;
  config.topk_group = 2;
  config.max_position_embeddings = 4096;
  return config;
}

std::vector<Episode> RandomEpisodes(int samples, int preamble, int own) {
  std::vector<Episode> episodes(samples);
  for (int s = 0; s < samples; ++s) {
    EpisodeBranch branch;
    branch.kept_offsets.push_back(0);
    for (int t = 0; t < preamble + own; ++t) {
      RngKey key;
      key.sample = t < preamble ? 0 : static_cast<uint32_t>(s + 1);
      key.ordinal = static_cast<uint32_t>(t);
      branch.tokens.push_back(static_cast<int32_t>(UniformBelow(key, 512)));
      if (t < preamble + 20) continue;
      branch.sampled.push_back(t);
      branch.logprobs.push_back(0);
      branch.kept_offsets.push_back(0);
    }
    episodes[s].group = static_cast<uint64_t>(s);
    episodes[s].branches.push_back(std::move(branch));
  }
  return episodes;
}

// Arguments: samples, threads, dense attention, backward.
void BM_Step(benchmark::State& state) {
  SetFlushDenormals();
  auto backend = *FindBackend({.threads = static_cast<int>(state.range(1))});
  auto weights = *MasterWeights::Create(backend.get(), QuickstartConfig());
  CHECK(InitWeights(1, 0.05, weights.get()).ok());
  auto step = *SftStep::Create(backend.get(), weights.get(), 16384);
  const std::vector<Episode> episodes =
      RandomEpisodes(static_cast<int>(state.range(0)), 400, 80);
  std::vector<const Episode*> batch;
  for (const Episode& episode : episodes) batch.push_back(&episode);
  SftStepOptions options;
  options.dense_attention = state.range(2) != 0;
  options.train_model = state.range(3) != 0;
  options.train_indexer = state.range(3) == 2;
  options.model.learning_rate = options.indexer.learning_rate = 1e-3;
  int64_t rows = 0;
  for (auto _ : state) {
    const auto metrics = step->Run(batch, options);
    CHECK(metrics.ok()) << metrics.status();
    rows += metrics->rows;
  }
  const double passes = options.train_model ? 3 : 1;
  const double flops =
      2.0 * static_cast<double>(QuickstartConfig().active_parameter_count());
  state.counters["rows"] = benchmark::Counter(static_cast<double>(rows),
                                              benchmark::Counter::kIsRate);
  state.counters["matmul_GFLOPs"] =
      benchmark::Counter(static_cast<double>(rows) * passes * flops * 1e-9,
                         benchmark::Counter::kIsRate);
}
BENCHMARK(BM_Step)
    ->ArgNames({"samples", "threads", "dense", "train"})
    ->Args({32, 1, 0, 0})
    ->Args({32, 1, 0, 1})
    ->Args({32, 1, 1, 1})
    ->Args({32, 1, 0, 2})
    ->Args({32, 2, 0, 1})
    ->Args({128, 2, 0, 1})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace temper

BENCHMARK_MAIN();
