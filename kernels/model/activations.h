// Everything one forward writes, laid out in one buffer. In training each
// layer has its own tensors, which backward reads; in sampling all layers share
// one set. The forward that fills them is the same.

#ifndef KERNELS_MODEL_ACTIVATIONS_H_
#define KERNELS_MODEL_ACTIVATIONS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "kernels/model/arena.h"
#include "kernels/model/config.h"
#include "kernels/model/indexer.h"
#include "kernels/model/kv_cache.h"
#include "kernels/model/mla.h"
#include "kernels/model/moe.h"
#include "kernels/ops/backend.h"
#include "kernels/tensor/numerics.h"

namespace temper {

enum class LayerStorage : uint8_t { kShared, kPerLayer };

struct LayerActivations {
  Tensor h_in, h_mid, h_out;  // [N, D]: the residual stream
  KeyStrip keys;  // of the batch's own rows; empty over a cache, which has them
  MlaActivations mla;
  IndexerActivations indexer;
  MlpActivations mlp;  // dense, or the shared experts
  MoeActivations moe;  // empty in dense layers
};

// A batch's shape: N tokens, K selected keys, block table entries.
struct ActivationShape {
  int64_t tokens = 0;
  int64_t selected_width = 0;
  int64_t sequences = 0;
  int64_t blocks_max = 0;
};

struct Activations {
  // What a batch brings, one i32 buffer so that it goes up in one copy: the
  // four of each token, the block tables, and the routes [moe_layers, N, A]
  // that its MoE layers replay or fill.
  Tensor batch;
  Tensor tokens, position, sequence, slot;  // i32 [N]; views of it, as below
  Tensor blocks;                            // i32 [sequences, blocks_max]
  Tensor routes;                            // i32 [moe_layers, N, A]
  std::vector<LayerActivations> layers;
  Tensor hidden;  // [N, D], after model.norm

  // The batch lies apart: what it takes hangs on its block tables too, and the
  // rest must not move for their sake.
  void LayoutBatch(const ModelConfig& config, const ActivationShape& shape,
                   Arena* arena);
  // After LayoutBatch, whose views it hands to the layers.
  void Layout(const ModelConfig& config, const Numerics& numerics,
              const ActivationShape& shape, LayerStorage storage, Arena* arena);
};

// Normed inputs and temporaries of a layer: needed within it only, recomputed
// by backward.
struct LayerScratch {
  Tensor x;           // [N, D]
  Tensor qr;          // [N, q_lora_rank]
  Tensor latent;      // [N, C + R]: the tokens' own keys, on their way to a
  Tensor index_keys;  // [N, Di]     strip, which may hold less of them
  MlpScratch mlp;

  void Layout(const ModelConfig& config, int64_t n, Arena* arena);
};

struct BackwardScratch {
  Tensor dh, dx, sum;  // [N, D]
  Tensor kl, dkl;      // [N]
  MlaBackwardScratch mla;
  IndexerBackwardScratch indexer;
  MlpBackwardScratch mlp;

  void Layout(const ModelConfig& config, int64_t n, Arena* arena);
};

// Makes *buffer hold at least `bytes`; its content is lost if it grows. On
// failure it is as it was.
absl::Status Reserve(Backend* backend, int64_t bytes,
                     std::unique_ptr<Buffer>* buffer);

}  // namespace temper

#endif  // KERNELS_MODEL_ACTIVATIONS_H_
