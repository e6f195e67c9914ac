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
#include "kernels/model/transformer.h"
#include "kernels/tensor/numerics.h"

namespace temper {

// With what was left 0 filled in.
Transformer::Limits Filled(const ModelConfig& config,
                           Transformer::Limits limits);

// The largest batch within `limits`, which are filled.
ActivationShape LargestShape(const ModelConfig& config,
                             const Transformer::Limits& limits);

int64_t ActivationBytes(const ModelConfig& config, const Numerics& numerics,
                        const ActivationShape& shape, LayerStorage storage);

int64_t BatchBytes(const ModelConfig& config, const ActivationShape& shape);

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
