#include "kernels/model/transformer_memory.h"

#include <algorithm>

#include "kernels/model/rope.h"

namespace temper {

Transformer::Limits Filled(const ModelConfig& config,
                           Transformer::Limits limits) {
  if (limits.positions == 0) limits.positions = limits.tokens;
  limits.positions = std::min(limits.positions, config.max_position_embeddings);
  if (limits.table == 0) {
    limits.table = Transformer::kPackTableAToken * limits.tokens;
  }
  return limits;
}

ActivationShape LargestShape(const ModelConfig& config,
                             const Transformer::Limits& limits) {
  ActivationShape shape;
  shape.tokens = limits.tokens;
  shape.selected_width = std::min(config.index_topk, limits.positions);
  shape.sequences = 1;
  shape.blocks_max = limits.table;
  return shape;
}

int64_t ActivationBytes(const ModelConfig& config, const Numerics& numerics,
                        const ActivationShape& shape, LayerStorage storage) {
  Arena counter;
  Activations activations;
  activations.Layout(config, numerics, shape, storage, &counter);
  return counter.bytes();
}

int64_t BatchBytes(const ModelConfig& config, const ActivationShape& shape) {
  Arena counter;
  Activations activations;
  activations.LayoutBatch(config, shape, &counter);
  return counter.bytes();
}

int64_t Transformer::InferenceBytes(const ModelConfig& config,
                                    const Numerics& numerics,
                                    const Limits& limits) {
  const Limits filled = Filled(config, limits);
  const ActivationShape shape = LargestShape(config, filled);
  return ActivationBytes(config, numerics, shape, LayerStorage::kShared) +
         BatchBytes(config, shape) + BorrowedTapeBytes(config, filled.tokens) -
         RopeCache::BytesFor(config, filled.tokens) +
         RopeCache::BytesFor(config, filled.positions);
}

int64_t Transformer::BorrowedTapeBytes(const ModelConfig& config,
                                       int64_t tokens_max) {
  return ScratchBytes<LayerScratch>(config, tokens_max) +
         RopeCache::BytesFor(config, tokens_max);
}

int64_t Transformer::TrainingBytes(const ModelConfig& config,
                                   const Numerics& numerics,
                                   int64_t tokens_max) {
  // A pack reads its own rows alone, so no query has more keys than it has
  // tokens; a sampler's has as many as its cache.
  const ActivationShape shape =
      LargestShape(config, Filled(config, {.tokens = tokens_max}));
  return ActivationBytes(config, numerics, shape, LayerStorage::kPerLayer) +
         BatchBytes(config, shape) +
         ScratchBytes<BackwardScratch>(config, tokens_max) +
         LiveRoutesBytes(config, tokens_max) +
         BorrowedTapeBytes(config, tokens_max);
}

}  // namespace temper
