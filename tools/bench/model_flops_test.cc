#include "tools/bench/model_flops.h"

#include "gtest/gtest.h"

namespace temper {
namespace {

// One dense layer with every dimension another prime.
ModelConfig PrimesConfig() {
  ModelConfig config;
  config.vocab_size = 101;
  config.hidden_size = 53;
  config.intermediate_size = 47;
  config.num_hidden_layers = config.first_k_dense_replace = 1;
  config.num_attention_heads = 3;
  config.q_lora_rank = 43;
  config.kv_lora_rank = 41;
  config.qk_nope_head_dim = 37;
  config.qk_rope_head_dim = 31;
  config.v_head_dim = 29;
  config.index_n_heads = 5;
  config.index_head_dim = 23;
  config.index_topk = 7;
  return config;
}

// Every product written out, as the architecture has them.
constexpr double kQA = 43 * 53, kQB = 3 * (37 + 31) * 43, kKvA = (41 + 31) * 53,
                 kUk = 3 * 37 * 41, kUv = 3 * 41 * 29, kO = 53 * 3 * 29,
                 kIndexer = 5 * 23 * 43 + 23 * 53 + 5 * 53, kMlp = 3 * 47 * 53,
                 kHead = 101 * 53;
constexpr double kOthers = kQA + kQB + kKvA + kUk + kUv + kO + kMlp + kHead;

TEST(ModelFlopsTest, AForwardIsItsProductsAndAttention) {
  // Position 2 sees three keys, all selected; position 99 selects seven.
  EXPECT_DOUBLE_EQ(
      ForwardFlops(PrimesConfig(), 2),
      2 * (kOthers + kIndexer + 5 * 23 * 3 + 3 * 3 * (41 + 31 + 41)));
  EXPECT_DOUBLE_EQ(
      ForwardFlops(PrimesConfig(), 99),
      2 * (kOthers + kIndexer + 5 * 23 * 100 + 3 * 7 * (41 + 31 + 41)));
}

TEST(ModelFlopsTest, ABackwardLeavesTheIndexerOut) {
  EXPECT_DOUBLE_EQ(BackwardFlops(PrimesConfig(), 99),
                   2 * (2 * kOthers + 3 * 7 * (3 * (41 + 31) + 2 * 41)));
}

}  // namespace
}  // namespace temper
