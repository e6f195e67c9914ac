#include "tests/golden_batches.h"

#include <cmath>

namespace temper {

TokenBatch OneSequence(const ModelConfig& config,
                       const std::vector<int32_t>& tokens) {
  TokenBatch batch;
  batch.tokens = tokens;
  for (int32_t i = 0; i < static_cast<int32_t>(tokens.size()); ++i) {
    batch.position.push_back(i);
    batch.slot.push_back(i);
    batch.blocks.push_back(i);
  }
  batch.sequence.assign(tokens.size(), 0);
  batch.blocks_max = static_cast<int32_t>(tokens.size());
  batch.page_tokens = 1;
  batch.routes.assign(
      tokens.size() * config.moe_layers() * config.num_experts_per_tok, -1);
  return batch;
}

PackedBatch NextTokens(const ModelConfig& config,
                       const std::vector<int32_t>& tokens) {
  PackedBatch packed;
  packed.batch = OneSequence(config, tokens);
  packed.kept_offsets = {0};
  for (int32_t i = 1; i < static_cast<int32_t>(tokens.size()); ++i) {
    packed.sampled.push_back({i - 1, 0, tokens[i]});
    packed.kept_offsets.push_back(0);
  }
  return packed;
}

PackedBatch SampledTokens(const ModelConfig& config,
                          const GoldenGrpoSequence& sequence) {
  PackedBatch packed;
  packed.batch = OneSequence(config, sequence.tokens);
  packed.kept_offsets = {0};
  for (int32_t p = 1; p < static_cast<int32_t>(sequence.tokens.size()); ++p) {
    if (sequence.loss_mask[p] == 0) continue;
    packed.sampled.push_back({p - 1, 0, sequence.tokens[p]});
    packed.logp_old.push_back(sequence.logp_sampler[p]);
    packed.kept_ids.insert(packed.kept_ids.end(), sequence.keep[p].begin(),
                           sequence.keep[p].end());
    packed.kept_offsets.push_back(static_cast<int32_t>(packed.kept_ids.size()));
  }
  return packed;
}

std::vector<double> ByLayer(const std::vector<int32_t>& routes, int64_t tokens,
                            int64_t layers, int64_t chosen) {
  std::vector<double> out(routes.size());
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t m = 0; m < layers; ++m) {
      for (int64_t a = 0; a < chosen; ++a) {
        out[(m * tokens + t) * chosen + a] =
            routes[(t * layers + m) * chosen + a];
      }
    }
  }
  return out;
}

double Norm(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * value;
  return std::sqrt(sum);
}

}  // namespace temper
