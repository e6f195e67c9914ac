#include "kernels/model/activations.h"

#include <utility>

#include "kernels/base/status_macros.h"

namespace temper {
namespace {

void LayoutMlps(const ModelConfig& c, int64_t n, bool moe, Arena* arena,
                LayerActivations* layer) {
  layer->mlp.Layout(
      n,
      moe ? c.n_shared_experts * c.moe_intermediate_size : c.intermediate_size,
      arena);
  if (moe) layer->moe.Layout(c, n, arena);
}

// One set of tensors, two residual buffers taking turns.
void LayoutShared(const ModelConfig& c, const ActivationShape& shape,
                  Arena* arena, std::vector<LayerActivations>* layers) {
  const int64_t n = shape.tokens;
  LayerActivations dense;
  dense.h_in = arena->F32({n, c.hidden_size});
  dense.h_mid = arena->F32({n, c.hidden_size});
  // h_in is dead once h_mid has it added, so two buffers carry the stream
  // through all layers.
  dense.h_out = dense.h_in;
  dense.mla.Layout(c, n, arena);
  dense.indexer.Layout(c, n, shape.selected_width, arena);
  // A copy of views: both kinds of layer use the same attention's memory.
  LayerActivations moe = dense;
  if (c.first_k_dense_replace > 0) LayoutMlps(c, n, false, arena, &dense);
  if (c.moe_layers() > 0) LayoutMlps(c, n, true, arena, &moe);
  for (int64_t l = 0; l < c.num_hidden_layers; ++l) {
    layers->push_back(c.IsMoe(l) ? moe : dense);
  }
}

void LayoutPerLayer(const ModelConfig& c, const Numerics& numerics,
                    const ActivationShape& shape, Arena* arena,
                    std::vector<LayerActivations>* layers) {
  const int64_t n = shape.tokens;
  // A layer's output is the next one's input: backward reads both by one name,
  // and one copy serves.
  Tensor h_in = arena->F32({n, c.hidden_size});
  for (int64_t l = 0; l < c.num_hidden_layers; ++l) {
    LayerActivations layer;
    layer.h_in = h_in;
    layer.h_mid = arena->F32({n, c.hidden_size});
    layer.h_out = arena->F32({n, c.hidden_size});
    layer.keys.Layout(c, numerics, n, arena);
    layer.mla.Layout(c, n, arena);
    layer.indexer.Layout(c, n, shape.selected_width, arena);
    LayoutMlps(c, n, c.IsMoe(l), arena, &layer);
    h_in = layer.h_out;
    layers->push_back(layer);
  }
}

}  // namespace

void Activations::LayoutBatch(const ModelConfig& config,
                              const ActivationShape& shape, Arena* arena) {
  const int64_t n = shape.tokens;
  const int64_t table = shape.sequences * shape.blocks_max;
  const int64_t moe_layers = config.moe_layers();
  const int64_t chosen = config.num_experts_per_tok;
  batch = arena->I32({4 * n + table + moe_layers * n * chosen});
  routes = Tensor();
  if (batch.empty()) return;  // only counted
  int64_t next = 0;
  const auto take = [&](int64_t elements) {
    next += elements;
    return batch.Slice(0, next - elements, next);
  };
  tokens = take(n);
  position = take(n);
  sequence = take(n);
  slot = take(n);
  blocks = take(table).Reshape({shape.sequences, shape.blocks_max});
  if (moe_layers == 0) return;
  routes = take(moe_layers * n * chosen).Reshape({moe_layers, n, chosen});
}

void Activations::Layout(const ModelConfig& config, const Numerics& numerics,
                         const ActivationShape& shape, LayerStorage storage,
                         Arena* arena) {
  const int64_t n = shape.tokens;
  hidden = arena->F32({n, config.hidden_size});
  layers.clear();
  if (storage == LayerStorage::kShared) {
    LayoutShared(config, shape, arena, &layers);
  } else {
    LayoutPerLayer(config, numerics, shape, arena, &layers);
  }
  if (routes.empty()) return;
  for (int64_t m = 0; m < config.moe_layers(); ++m) {
    layers[config.first_k_dense_replace + m].moe.routes =
        routes.Slice(0, m, m + 1).Reshape({n, config.num_experts_per_tok});
  }
}

void LayerScratch::Layout(const ModelConfig& config, int64_t n, Arena* arena) {
  x = arena->F32({n, config.hidden_size});
  qr = arena->F32({n, config.q_lora_rank});
  latent = arena->F32({n, config.latent_dim()});
  index_keys = arena->F32({n, config.index_head_dim});
  mlp.Layout(config, n, arena);
}

void BackwardScratch::Layout(const ModelConfig& config, int64_t n,
                             Arena* arena) {
  dh = arena->F32({n, config.hidden_size});
  dx = arena->F32({n, config.hidden_size});
  sum = arena->F32({n, config.hidden_size});
  kl = arena->F32({n});
  dkl = arena->F32({n});
  mla.Layout(config, n, arena);
  indexer.Layout(config, n, arena);
  mlp.Layout(config, n, arena);
}

absl::Status Reserve(Backend* backend, int64_t bytes,
                     std::unique_ptr<Buffer>* buffer) {
  if (*buffer != nullptr && (*buffer)->bytes() >= bytes) {
    return absl::OkStatus();
  }
  // Before the old one goes, so that a failure changes nothing.
  ASSIGN_OR_RETURN(std::unique_ptr<Buffer> larger, backend->Allocate(bytes));
  *buffer = std::move(larger);
  return absl::OkStatus();
}

}  // namespace temper
