#include "kernels/model/transformer_memory.h"

#include <algorithm>

#include "kernels/model/number_range.h"
#include "kernels/model/rope.h"
#include "kernels/model/transformer.h"

namespace temper {

ActivationShape PlannedShape(const ModelConfig& config, int64_t tokens_max) {
  ActivationShape shape;
  shape.tokens = tokens_max;
  shape.selected_width =
      std::min(config.index_topk, config.max_position_embeddings);
  shape.sequences = 1;
  shape.blocks_max = tokens_max;
  return shape;
}

int64_t ActivationBytes(const ModelConfig& config, const ActivationShape& shape,
                        LayerStorage storage) {
  Arena counter;
  Activations activations;
  activations.Layout(config, shape, storage, &counter);
  return counter.bytes();
}

int64_t Transformer::InferenceBytes(const ModelConfig& config,
                                    int64_t tokens_max) {
  return ActivationBytes(config, PlannedShape(config, tokens_max),
                         LayerStorage::kShared) +
         BorrowedTapeBytes(config, tokens_max);
}

int64_t Transformer::BorrowedTapeBytes(const ModelConfig& config,
                                       int64_t tokens_max) {
  return ScratchBytes<LayerScratch>(config, tokens_max) +
         tokens_max * config.num_attention_heads * 4 +
         RopeCache::BytesFor(config, tokens_max) + NumberRange::kBytes;
}

int64_t Transformer::TrainingBytes(const ModelConfig& config,
                                   int64_t tokens_max) {
  ActivationShape shape = PlannedShape(config, tokens_max);
  // A pack reads its own rows alone, so no query has more keys than it has
  // tokens; a sampler's has as many as its cache.
  shape.selected_width = std::min(shape.selected_width, tokens_max);
  return ActivationBytes(config, shape, LayerStorage::kPerLayer) +
         ScratchBytes<BackwardScratch>(config, tokens_max) +
         LiveRoutesBytes(config, tokens_max) +
         InferenceBytes(config, tokens_max);
}

}  // namespace temper
