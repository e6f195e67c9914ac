// The feed-forward part of a layer: a SwiGLU MLP, dense or the shared experts,
// and DeepSeekMoE (DeepSeek-V3, arXiv 2412.19437, equations 12 to 16):
//   y = shared(x) + sum_a g_a E_a(x), routed slots added in ascending order.
// Forward writes what backward reads; all tensors are laid out by the caller.

#ifndef KERNELS_MODEL_MOE_H_
#define KERNELS_MODEL_MOE_H_

#include <cstdint>

#include "kernels/model/arena.h"
#include "kernels/model/config.h"
#include "kernels/model/layer_tensors.h"
#include "kernels/model/mla.h"
#include "kernels/ops/backend.h"

namespace temper {

struct MlpActivations {
  Tensor gate, up;  // [N, I]

  void Layout(int64_t n, int64_t width, Arena* arena);
};

struct MoeActivations {
  Tensor scores;    // [N, E]
  Tensor routes;    // i32 [N, A], in and out: a view of the batch's
  Tensor gates;     // [N, A]
  Tensor offsets;   // i32 [E + 1]
  Tensor rows;      // i32 [N * A]
  Tensor place;     // i32 [N, A]
  Tensor gate, up;  // [N * A, I]
  Tensor out;       // [N * A, D]

  void Layout(const ModelConfig& config, int64_t n, Arena* arena);
};

// Used by forward and backward alike.
struct MlpScratch {
  Tensor h;         // [N, widest I]
  Tensor logits;    // [N, E]
  Tensor expert_x;  // [N * A, D]
  Tensor expert_h;  // [N * A, I]

  void Layout(const ModelConfig& config, int64_t n, Arena* arena);
};

struct MlpBackwardScratch {
  Tensor h, gate, up;                       // [N, widest I]; gradients
  Tensor x;                                 // [N, D]
  Tensor gates;                             // [N, A]
  Tensor logits;                            // [N, E]
  Tensor expert_out, expert_x, expert_sum;  // [N * A, D]
  Tensor expert_h, expert_gate, expert_up;  // [N * A, I]

  void Layout(const ModelConfig& config, int64_t n, Arena* arena);
};

// y [N, D] = down(silu(gate x) * up x).
void MlpForward(const BlockContext& context, const LayerWeights& weights,
                const Tensor& x, const MlpActivations& a,
                const MlpScratch& scratch, const Tensor& y);

// dx [N, D] is overwritten; the parameters' gradients are added to.
void MlpBackward(const BlockContext& context, const LayerWeights& weights,
                 const MlpActivations& a, const Tensor& x, const Tensor& dy,
                 const MlpScratch& scratch, const MlpBackwardScratch& d,
                 const LayerGradients& gradients, const Tensor& dx);

// y [N, D] += the routed experts' sum. Rows of a.routes that begin with -1 are
// routed live and filled; all are left in their slots of `strip`, if it is not
// empty (context.slot).
void MoeForward(const BlockContext& context, const LayerWeights& weights,
                const Tensor& x, const MoeActivations& a,
                const MlpScratch& scratch, const Tensor& strip,
                const Tensor& y);

// Adds to count (i64 [1]) in how many rows the router, for the logits [N, E]
// that MoeForward left in its scratch, chooses the experts of a.routes: of
// replayed rows too. It costs the choice alone, no product. `room` has
// LiveRoutesBytes.
void CountLiveAgreement(Backend* backend, const ModelConfig& config,
                        const LayerWeights& weights, const Tensor& logits,
                        const MoeActivations& a, Buffer* room,
                        const Tensor& count);
int64_t LiveRoutesBytes(const ModelConfig& config, int64_t n);

// dx [N, D] is added to. Gradients flow through the gates to the router; the
// choice of experts has none.
void MoeBackward(const BlockContext& context, const LayerWeights& weights,
                 const MoeActivations& a, const Tensor& x, const Tensor& dy,
                 const MlpScratch& scratch, const MlpBackwardScratch& d,
                 const LayerGradients& gradients, const Tensor& dx);

}  // namespace temper

#endif  // KERNELS_MODEL_MOE_H_
