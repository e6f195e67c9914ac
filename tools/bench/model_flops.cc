#include "tools/bench/model_flops.h"

#include <algorithm>

namespace temper {
namespace {

double AsDouble(int64_t value) { return static_cast<double>(value); }

// Multiplications with the indexer's own matrices, all layers.
double IndexerMatrices(const ModelConfig& config) {
  const double heads = AsDouble(config.index_n_heads);
  const double width = AsDouble(config.index_head_dim);
  const double hidden = AsDouble(config.hidden_size);
  return AsDouble(config.num_hidden_layers) *
         (AsDouble(config.q_lora_rank) * heads * width + hidden * width +
          hidden * heads);
}

// Pairs of a head and a key that it attends to, all layers.
double AttendedPairs(const ModelConfig& config, int64_t position) {
  return AsDouble(config.num_hidden_layers) *
         AsDouble(config.num_attention_heads) *
         AsDouble(std::min<int64_t>(config.index_topk, position + 1));
}

}  // namespace

double ForwardFlops(const ModelConfig& config, int64_t position) {
  const double latent = AsDouble(config.kv_lora_rank);
  const double key = latent + AsDouble(config.qk_rope_head_dim);
  // Of every key in sight: the indexer scores all to select few.
  const double scores =
      AsDouble(config.num_hidden_layers) * AsDouble(config.index_n_heads) *
      AsDouble(config.index_head_dim) * AsDouble(position + 1);
  return 2 * (AsDouble(config.active_parameter_count()) + scores +
              AttendedPairs(config, position) * (key + latent));
}

double BackwardFlops(const ModelConfig& config, int64_t position) {
  const double latent = AsDouble(config.kv_lora_rank);
  const double key = latent + AsDouble(config.qk_rope_head_dim);
  // Scores again, and their gradient by query and by key: K = C + R each; the
  // gradient of p, and by the value: K = C.
  return 2 * (2 * (AsDouble(config.active_parameter_count()) -
                   IndexerMatrices(config)) +
              AttendedPairs(config, position) * (3 * key + 2 * latent));
}

}  // namespace temper
