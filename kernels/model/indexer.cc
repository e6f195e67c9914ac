#include "kernels/model/indexer.h"

#include <cmath>

namespace temper {
namespace {

constexpr float kLayerNormEps = 1e-6f;  // fixed in DeepSeek's code

float WeightScale(const ModelConfig& config) {
  return static_cast<float>(
      1 / std::sqrt(static_cast<double>(config.index_n_heads *
                                        config.index_head_dim)));
}

// Rotates the first R columns of x [N, G, Di], then whole rows by Hadamard's
// matrix; backward the other way round.
void RotateHead(const BlockContext& context, const Tensor& x,
                RopeDirection direction) {
  const bool backward = direction == RopeDirection::kBackward;
  if (context.rotates && backward) context.backend->Hadamard(x);
  context.backend->Rope(x.Slice(2, 0, context.config->qk_rope_head_dim),
                        context.map.position, context.cos_sin,
                        RopeStyle::kHalfSplit, direction);
  if (context.rotates && !backward) context.backend->Hadamard(x);
}

Tensor Flat(const Tensor& x) {
  return x.Reshape({x.dim(0), x.elements() / x.dim(0)});
}

}  // namespace

void IndexerActivations::Layout(const ModelConfig& c, int64_t n,
                                int64_t selected_width, Arena* arena) {
  q = arena->F32({n, c.index_n_heads, c.index_head_dim});
  w = arena->F32({n, c.index_n_heads});
  k = arena->F32({n, c.index_head_dim});
  selected = arena->I32({n, selected_width});
}

void IndexerBackwardScratch::Layout(const ModelConfig& c, int64_t n,
                                    Arena* arena) {
  q = arena->F32({n, c.index_n_heads, c.index_head_dim});
  w = arena->F32({n, c.index_n_heads});
  k = arena->F32({n, c.index_head_dim});
  keys = arena->F32({n, c.index_head_dim});
}

void IndexerProject(const BlockContext& context, const LayerWeights& weights,
                    const Tensor& x, const Tensor& qr,
                    const IndexerActivations& a, const Tensor& keys) {
  Backend* backend = context.backend;
  backend->Linear(qr, *weights.indexer_wq_b, Use::kForward, Flat(a.q));
  RotateHead(context, a.q, RopeDirection::kForward);
  backend->Linear(x, *weights.indexer_weights_proj, Use::kForward, a.w);
  // Folded into w once, instead of into every score.
  backend->Scale(WeightScale(*context.config), a.w);
  backend->Linear(x, *weights.indexer_wk, Use::kForward, a.k);
  backend->LayerNorm({.x = a.k,
                      .w = weights.indexer_k_norm_weight,
                      .b = weights.indexer_k_norm_bias,
                      .eps = kLayerNormEps,
                      .y = keys});
  RotateHead(context, keys.Split(1, 1), RopeDirection::kForward);
}

void IndexerBackward(const BlockContext& context, const LayerWeights& weights,
                     const IndexerActivations& a, const MlaActivations& mla,
                     const KeyStrip& keys, const Tensor& x, const Tensor& qr,
                     const Tensor& dkl, const IndexerBackwardScratch& d,
                     const LayerGradients& gradients) {
  Backend* backend = context.backend;
  backend->Zero(d.keys);
  backend->IndexerKlBackward(
      {.q = mla.q,
       .keys = keys.latent,
       .scale = static_cast<float>(context.config->softmax_scale()),
       .lse = mla.lse,
       .index_q = a.q,
       .index_w = a.w,
       .index_keys = keys.index_keys,
       .map = context.map,
       .selected = a.selected,
       .dkl = dkl,
       .dindex_q = d.q,
       .dindex_w = d.w,
       .dindex_keys = d.keys,
       .rope = context.config->qk_rope_head_dim});
  RotateHead(context, d.q, RopeDirection::kBackward);
  backend->LinearWeightGrad(
      {qr, Flat(d.q), gradients.indexer_wq_b, context.operand});
  backend->Scale(WeightScale(*context.config), d.w);
  // fp32 in every numerics, as its product.
  backend->LinearWeightGrad({x, d.w, gradients.indexer_weights_proj});
  RotateHead(context, d.keys.Split(1, 1), RopeDirection::kBackward);
  backend->LayerNormBackward({.x = a.k,
                              .w = weights.indexer_k_norm_weight,
                              .eps = kLayerNormEps,
                              .dy = d.keys,
                              .dx = d.k,
                              .dw = gradients.indexer_k_norm_weight,
                              .db = gradients.indexer_k_norm_bias});
  // And no dx: the indexer's inputs are detached, so that its loss does not
  // pull on the model.
  backend->LinearWeightGrad({x, d.k, gradients.indexer_wk, context.operand});
}

}  // namespace temper
