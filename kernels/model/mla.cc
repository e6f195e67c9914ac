#include "kernels/model/mla.h"

namespace temper {
namespace {

// The last R columns of x [N, .., columns], which are rotated.
Tensor Tail(const BlockContext& context, const Tensor& x) {
  const int64_t columns = x.dim(-1);
  return x.Slice(x.rank() - 1, columns - context.config->qk_rope_head_dim,
                 columns);
}

// Rotates the tail of x [N, G, columns].
void RotateTail(const BlockContext& context, const Tensor& x,
                RopeDirection direction) {
  context.backend->Rope(Tail(context, x), context.map.position, context.cos_sin,
                        RopeStyle::kInterleaved, direction);
}

Tensor OneHead(const Tensor& x) { return x.Split(1, 1); }

Tensor Flat(const Tensor& x) {
  return x.Reshape({x.dim(0), x.elements() / x.dim(0)});
}

}  // namespace

void MlaActivations::Layout(const ModelConfig& c, int64_t n, Arena* arena) {
  const int64_t heads = c.num_attention_heads;
  q_a = arena->F32({n, c.q_lora_rank});
  q_b = arena->F32({n, heads, c.qk_head_dim()});
  kv_a = arena->F32({n, c.latent_dim()});
  q = arena->F32({n, heads, c.latent_dim()});
  z = arena->F32({n, heads, c.kv_lora_rank});
  lse = arena->F32({n, heads});
  o = arena->F32({n, heads, c.v_head_dim});
}

void MlaBackwardScratch::Layout(const ModelConfig& c, int64_t n, Arena* arena) {
  const int64_t heads = c.num_attention_heads;
  o = arena->F32({n, heads, c.v_head_dim});
  z = arena->F32({n, heads, c.kv_lora_rank});
  q = arena->F32({n, heads, c.latent_dim()});
  keys = arena->F32({n, c.latent_dim()});
  kv_a = arena->F32({n, c.latent_dim()});
  q_b = arena->F32({n, heads, c.qk_head_dim()});
  qr = arena->F32({n, c.q_lora_rank});
  q_a = arena->F32({n, c.q_lora_rank});
  x = arena->F32({n, c.hidden_size});
}

void MlaProject(const BlockContext& context, const LayerWeights& weights,
                const Tensor& x, const MlaActivations& a, const Tensor& qr,
                const Tensor& latent) {
  Backend* backend = context.backend;
  const ModelConfig& c = *context.config;
  const float eps = static_cast<float>(c.rms_norm_eps);
  backend->Linear(x, *weights.q_a_proj, Use::kForward, a.q_a);
  backend->RmsNorm(a.q_a, weights.q_a_layernorm, eps, qr);
  backend->Linear(qr, *weights.q_b_proj, Use::kForward, Flat(a.q_b));
  // Absorbed (DeepSeek-V2, arXiv 2405.04434, section 2.1.2): W_UK goes to the
  // query, so that keys are the latent itself and all heads share them.
  backend->HeadLinear(a.q_b.Slice(2, 0, c.qk_nope_head_dim), *weights.w_uk,
                      Use::kTransposed, a.q.Slice(2, 0, c.kv_lora_rank));
  // The rotary part is no product's result: copied before it is rotated in
  // place, since backward wants q_b as it was.
  backend->Copy(Tail(context, a.q_b), Tail(context, a.q));
  RotateTail(context, a.q, RopeDirection::kForward);

  backend->Linear(x, *weights.kv_a_proj, Use::kForward, a.kv_a);
  backend->RmsNorm(a.kv_a.Slice(1, 0, c.kv_lora_rank), weights.kv_a_layernorm,
                   eps, latent.Slice(1, 0, c.kv_lora_rank));
  backend->Copy(Tail(context, a.kv_a), Tail(context, latent));
  RotateTail(context, OneHead(latent), RopeDirection::kForward);
}

void MlaAttend(const BlockContext& context, const LayerWeights& weights,
               const Tensor& keys, const Tensor& selected,
               const MlaActivations& a, const Tensor& y) {
  Backend* backend = context.backend;
  backend->SparseMla(
      {.q = a.q,
       .keys = keys,
       .map = context.map,
       .selected = selected,
       .scale = static_cast<float>(context.config->softmax_scale()),
       .z = a.z,
       .lse = a.lse});
  backend->HeadLinear(a.z, *weights.w_uv, Use::kForward, a.o);
  backend->Linear(Flat(a.o), *weights.o_proj, Use::kForward, y);
}

namespace {

// From d.q to dx: the queries' side.
void QueryBackward(const BlockContext& context, const LayerWeights& weights,
                   const MlaActivations& a, const Tensor& x, const Tensor& qr,
                   const MlaBackwardScratch& d, const LayerGradients& gradients,
                   const Tensor& dx) {
  Backend* backend = context.backend;
  const ModelConfig& c = *context.config;
  const Tensor dq_latent = d.q.Slice(2, 0, c.kv_lora_rank);
  const Tensor q_nope = a.q_b.Slice(2, 0, c.qk_nope_head_dim);
  // Operands change places: the forward used W_UK transposed.
  backend->HeadLinearWeightGrad(
      {dq_latent, q_nope, gradients.w_uk, context.unscaled});
  backend->HeadLinear(dq_latent, *weights.w_uk, Use::kForward,
                      d.q_b.Slice(2, 0, c.qk_nope_head_dim));
  // After W_UK's product, which reads the latent part only; in place.
  RotateTail(context, d.q, RopeDirection::kBackward);
  backend->Copy(Tail(context, d.q), Tail(context, d.q_b));
  backend->LinearWeightGrad(
      {qr, Flat(d.q_b), gradients.q_b_proj, context.operand});
  backend->Linear(Flat(d.q_b), *weights.q_b_proj, Use::kTransposed, d.qr);
  backend->RmsNormBackward({.x = a.q_a,
                            .w = weights.q_a_layernorm,
                            .eps = static_cast<float>(c.rms_norm_eps),
                            .dy = d.qr,
                            .dx = d.q_a,
                            .dw = gradients.q_a_layernorm});
  backend->LinearWeightGrad({x, d.q_a, gradients.q_a_proj, context.operand});
  backend->Linear(d.q_a, *weights.q_a_proj, Use::kTransposed, dx);
}

// From d.keys, to which all queries must have added, into dx.
void KeyBackward(const BlockContext& context, const LayerWeights& weights,
                 const MlaActivations& a, const Tensor& x,
                 const MlaBackwardScratch& d, const LayerGradients& gradients,
                 const Tensor& dx) {
  Backend* backend = context.backend;
  const ModelConfig& c = *context.config;
  RotateTail(context, OneHead(d.keys), RopeDirection::kBackward);
  backend->Copy(Tail(context, d.keys), Tail(context, d.kv_a));
  backend->RmsNormBackward({.x = a.kv_a.Slice(1, 0, c.kv_lora_rank),
                            .w = weights.kv_a_layernorm,
                            .eps = static_cast<float>(c.rms_norm_eps),
                            .dy = d.keys.Slice(1, 0, c.kv_lora_rank),
                            .dx = d.kv_a.Slice(1, 0, c.kv_lora_rank),
                            .dw = gradients.kv_a_layernorm});
  backend->LinearWeightGrad({x, d.kv_a, gradients.kv_a_proj, context.operand});
  backend->Linear(d.kv_a, *weights.kv_a_proj, Use::kTransposed, d.x);
  backend->Add(d.x, dx);
}

}  // namespace

void MlaBackward(const BlockContext& context, const LayerWeights& weights,
                 const MlaActivations& a, const Tensor& x, const Tensor& qr,
                 const Tensor& keys, const Tensor& selected, const Tensor& dy,
                 const MlaBackwardScratch& d, const LayerGradients& gradients,
                 const Tensor& dx) {
  Backend* backend = context.backend;
  backend->LinearWeightGrad({Flat(a.o), dy, gradients.o_proj, context.operand});
  backend->Linear(dy, *weights.o_proj, Use::kTransposed, Flat(d.o));
  backend->HeadLinearWeightGrad({a.z, d.o, gradients.w_uv, context.unscaled});
  backend->HeadLinear(d.o, *weights.w_uv, Use::kTransposed, d.z);
  // It adds up: every query of the pack, of whatever segment, has a share in
  // its keys.
  backend->Zero(d.keys);
  backend->SparseMlaBackward(
      {.q = a.q,
       .keys = keys,
       .map = context.map,
       .selected = selected,
       .scale = static_cast<float>(context.config->softmax_scale()),
       .z = a.z,
       .lse = a.lse,
       .dz = d.z,
       .dq = d.q,
       .dkeys = d.keys});
  // Queries first: dx is overwritten by them and added to by the keys.
  QueryBackward(context, weights, a, x, qr, d, gradients, dx);
  KeyBackward(context, weights, a, x, d, gradients, dx);
}

}  // namespace temper
