// How large a transformer's buffers are: what it reserves and what the printed
// plan says of it come from the same layouts. Internal to the transformer.
//
// Functions without state; thread-safe.

#ifndef KERNELS_MODEL_TRANSFORMER_MEMORY_H_
#define KERNELS_MODEL_TRANSFORMER_MEMORY_H_

#include <cstdint>

#include "kernels/model/activations.h"
#include "kernels/model/arena.h"
#include "kernels/model/config.h"

namespace temper {

// What the printed plan counts on: no sequence longer than a batch in
// training, tables of as many blocks as tokens.
ActivationShape PlannedShape(const ModelConfig& config, int64_t tokens_max);

int64_t ActivationBytes(const ModelConfig& config, const ActivationShape& shape,
                        LayerStorage storage);

// Of LayerScratch or BackwardScratch for `n` tokens.
template <typename Scratch>
int64_t ScratchBytes(const ModelConfig& config, int64_t n) {
  Arena counter;
  Scratch scratch;
  scratch.Layout(config, n, &counter);
  return counter.bytes();
}

}  // namespace temper

#endif  // KERNELS_MODEL_TRANSFORMER_MEMORY_H_
