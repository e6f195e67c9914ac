#include "kernels/model/moe.h"

#include <algorithm>

namespace temper {
namespace {

GateOptions MakeGateOptions(const ModelConfig& config) {
  GateOptions options;
  options.n_group = static_cast<int32_t>(config.n_group);
  options.topk_group = static_cast<int32_t>(config.topk_group);
  options.routed_scaling_factor =
      static_cast<float>(config.routed_scaling_factor);
  return options;
}

// One scratch for dense layers and shared experts, which take turns.
int64_t WidestMlp(const ModelConfig& c) {
  int64_t width = 0;
  if (c.first_k_dense_replace > 0) width = c.intermediate_size;
  if (c.moe_layers() > 0) {
    width = std::max(width, c.n_shared_experts * c.moe_intermediate_size);
  }
  return width;
}

// A dense view [N, width] of scratch that is at least that wide.
Tensor Narrow(const Tensor& x, int64_t width) {
  const int64_t n = x.dim(0);
  return x.Reshape({x.elements()}).Slice(0, 0, n * width).Reshape({n, width});
}

}  // namespace

void MlpActivations::Layout(int64_t n, int64_t width, Arena* arena) {
  gate = arena->F32({n, width});
  up = arena->F32({n, width});
}

void MoeActivations::Layout(const ModelConfig& c, int64_t n, Arena* arena) {
  const int64_t pairs = n * c.num_experts_per_tok;
  scores = arena->F32({n, c.n_routed_experts});
  gates = arena->F32({n, c.num_experts_per_tok});
  offsets = arena->I32({c.n_routed_experts + 1});
  rows = arena->I32({pairs});
  place = arena->I32({n, c.num_experts_per_tok});
  gate = arena->F32({pairs, c.moe_intermediate_size});
  up = arena->F32({pairs, c.moe_intermediate_size});
  out = arena->F32({pairs, c.hidden_size});
}

void MlpScratch::Layout(const ModelConfig& c, int64_t n, Arena* arena) {
  h = arena->F32({n, WidestMlp(c)});
  if (c.moe_layers() == 0) return;
  const int64_t pairs = n * c.num_experts_per_tok;
  logits = arena->F32({n, c.n_routed_experts});
  expert_x = arena->F32({pairs, c.hidden_size});
  expert_h = arena->F32({pairs, c.moe_intermediate_size});
}

void MlpBackwardScratch::Layout(const ModelConfig& c, int64_t n, Arena* arena) {
  h = arena->F32({n, WidestMlp(c)});
  gate = arena->F32({n, WidestMlp(c)});
  up = arena->F32({n, WidestMlp(c)});
  x = arena->F32({n, c.hidden_size});
  if (c.moe_layers() == 0) return;
  const int64_t pairs = n * c.num_experts_per_tok;
  gates = arena->F32({n, c.num_experts_per_tok});
  logits = arena->F32({n, c.n_routed_experts});
  expert_out = arena->F32({pairs, c.hidden_size});
  expert_x = arena->F32({pairs, c.hidden_size});
  expert_sum = arena->F32({pairs, c.hidden_size});
  expert_h = arena->F32({pairs, c.moe_intermediate_size});
  expert_gate = arena->F32({pairs, c.moe_intermediate_size});
  expert_up = arena->F32({pairs, c.moe_intermediate_size});
}

void MlpForward(const BlockContext& context, const LayerWeights& weights,
                const Tensor& x, const MlpActivations& a,
                const MlpScratch& scratch, const Tensor& y) {
  Backend* backend = context.backend;
  const Tensor h = Narrow(scratch.h, a.gate.dim(1));
  backend->Linear(x, *weights.gate_proj, Use::kForward, a.gate);
  backend->Linear(x, *weights.up_proj, Use::kForward, a.up);
  backend->SwiGlu(a.gate, a.up, h);
  backend->Linear(h, *weights.down_proj, Use::kForward, y);
}

void MlpBackward(const BlockContext& context, const LayerWeights& weights,
                 const MlpActivations& a, const Tensor& x, const Tensor& dy,
                 const MlpScratch& scratch, const MlpBackwardScratch& d,
                 const LayerGradients& gradients, const Tensor& dx) {
  Backend* backend = context.backend;
  const int64_t width = a.gate.dim(1);
  const Tensor h = Narrow(scratch.h, width);
  const Tensor dh = Narrow(d.h, width);
  const Tensor dgate = Narrow(d.gate, width);
  const Tensor dup = Narrow(d.up, width);
  // Recomputed, not kept: h is as large as gate and up, and costs no product.
  backend->SwiGlu(a.gate, a.up, h);
  backend->LinearWeightGrad({h, dy, gradients.down_proj, context.operand});
  backend->Linear(dy, *weights.down_proj, Use::kTransposed, dh);
  backend->SwiGluBackward(
      {.gate = a.gate, .up = a.up, .dh = dh, .dgate = dgate, .dup = dup});
  backend->LinearWeightGrad({x, dgate, gradients.gate_proj, context.operand});
  backend->LinearWeightGrad({x, dup, gradients.up_proj, context.operand});
  backend->Linear(dgate, *weights.gate_proj, Use::kTransposed, dx);
  backend->Linear(dup, *weights.up_proj, Use::kTransposed, d.x);
  backend->Add(d.x, dx);
}

void MoeForward(const BlockContext& context, const LayerWeights& weights,
                const Tensor& x, const MoeActivations& a,
                const MlpScratch& scratch, const Tensor& strip,
                const Tensor& y) {
  Backend* backend = context.backend;
  // fp32 in every numerics: near ties decide which experts run.
  backend->Linear(x, *weights.router, Use::kForward, scratch.logits);
  backend->MoeGate({.logits = scratch.logits,
                    .bias = weights.e_score_correction_bias,
                    .options = MakeGateOptions(*context.config),
                    .slot = context.slot,
                    .scores = a.scores,
                    .routes = a.routes,
                    .gates = a.gates,
                    .strip = strip});
  backend->MoePlan({.routes = a.routes,
                    .offsets = a.offsets,
                    .rows = a.rows,
                    .place = a.place});
  backend->GatherRows(x, a.rows, scratch.expert_x);
  backend->GroupedLinear({.x = scratch.expert_x,
                          .offsets = a.offsets,
                          .w = weights.experts_gate.get(),
                          .use = Use::kForward,
                          .y = a.gate});
  backend->GroupedLinear({.x = scratch.expert_x,
                          .offsets = a.offsets,
                          .w = weights.experts_up.get(),
                          .use = Use::kForward,
                          .y = a.up});
  backend->SwiGlu(a.gate, a.up, scratch.expert_h);
  backend->GroupedLinear({.x = scratch.expert_h,
                          .offsets = a.offsets,
                          .w = weights.experts_down.get(),
                          .use = Use::kForward,
                          .y = a.out});
  backend->MoeCombine({.x = a.out, .place = a.place, .gates = a.gates, .y = y});
}

namespace {

struct LiveRoutes {
  Tensor scores, gates, routes;
};

LiveRoutes LayOutLiveRoutes(const ModelConfig& config, int64_t n,
                            Arena* arena) {
  return {arena->F32({n, config.n_routed_experts}),
          arena->F32({n, config.num_experts_per_tok}),
          arena->I32({n, config.num_experts_per_tok})};
}

}  // namespace

int64_t LiveRoutesBytes(const ModelConfig& config, int64_t n) {
  Arena sizes;
  LayOutLiveRoutes(config, n, &sizes);
  return sizes.bytes();
}

void CountLiveAgreement(Backend* backend, const ModelConfig& config,
                        const LayerWeights& weights, const Tensor& logits,
                        const MoeActivations& a, Buffer* room,
                        const Tensor& count) {
  Arena arena(room->data(), backend->device());
  const LiveRoutes live = LayOutLiveRoutes(config, logits.dim(0), &arena);
  backend->MoeGate({.logits = logits,
                    .bias = weights.e_score_correction_bias,
                    .options = MakeGateOptions(config),
                    .live = true,
                    .scores = live.scores,
                    .routes = live.routes,
                    .gates = live.gates});
  backend->CountEqualRows(a.routes, live.routes, count);
}

namespace {

// From d.expert_out to d.expert_x, through the experts' MLPs.
void ExpertsBackward(const BlockContext& context, const LayerWeights& weights,
                     const MoeActivations& a, const Tensor& x,
                     const MlpScratch& scratch, const MlpBackwardScratch& d,
                     const LayerGradients& gradients) {
  Backend* backend = context.backend;
  // Again, as the forward had them: what can be gathered need not be kept.
  backend->GatherRows(x, a.rows, scratch.expert_x);
  backend->SwiGlu(a.gate, a.up, scratch.expert_h);
  backend->GroupedLinearWeightGrad({.x = scratch.expert_h,
                                    .dy = d.expert_out,
                                    .offsets = a.offsets,
                                    .dw = gradients.experts_down,
                                    .operand = context.operand});
  backend->GroupedLinear({.x = d.expert_out,
                          .offsets = a.offsets,
                          .w = weights.experts_down.get(),
                          .use = Use::kTransposed,
                          .y = d.expert_h});
  backend->SwiGluBackward({.gate = a.gate,
                           .up = a.up,
                           .dh = d.expert_h,
                           .dgate = d.expert_gate,
                           .dup = d.expert_up});
  backend->GroupedLinearWeightGrad({.x = scratch.expert_x,
                                    .dy = d.expert_gate,
                                    .offsets = a.offsets,
                                    .dw = gradients.experts_gate,
                                    .operand = context.operand});
  backend->GroupedLinearWeightGrad({.x = scratch.expert_x,
                                    .dy = d.expert_up,
                                    .offsets = a.offsets,
                                    .dw = gradients.experts_up,
                                    .operand = context.operand});
  backend->GroupedLinear({.x = d.expert_gate,
                          .offsets = a.offsets,
                          .w = weights.experts_gate.get(),
                          .use = Use::kTransposed,
                          .y = d.expert_x});
  backend->GroupedLinear({.x = d.expert_up,
                          .offsets = a.offsets,
                          .w = weights.experts_up.get(),
                          .use = Use::kTransposed,
                          .y = d.expert_sum});
  backend->Add(d.expert_sum, d.expert_x);
}

}  // namespace

void MoeBackward(const BlockContext& context, const LayerWeights& weights,
                 const MoeActivations& a, const Tensor& x, const Tensor& dy,
                 const MlpScratch& scratch, const MlpBackwardScratch& d,
                 const LayerGradients& gradients, const Tensor& dx) {
  Backend* backend = context.backend;
  backend->MoeCombineBackward({.x = a.out,
                               .place = a.place,
                               .gates = a.gates,
                               .dy = dy,
                               .dx = d.expert_out,
                               .dgates = d.gates});
  ExpertsBackward(context, weights, a, x, scratch, d, gradients);
  // Gates of one: what gathered a token for its experts is undone by adding
  // them up.
  backend->MoeCombine({.x = d.expert_x, .place = a.place, .y = dx});
  backend->MoeGateBackward({.scores = a.scores,
                            .routes = a.routes,
                            .options = MakeGateOptions(*context.config),
                            .dgates = d.gates,
                            // The choice has no gradient; through the gates of
                            // the chosen the router learns.
                            .dlogits = d.logits});
  // fp32 in every numerics, as its product.
  backend->LinearWeightGrad({x, d.logits, gradients.router});
  backend->Linear(d.logits, *weights.router, Use::kTransposed, d.x);
  backend->Add(d.x, dx);
}

}  // namespace temper
