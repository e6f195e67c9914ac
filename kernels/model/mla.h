// Multi-head latent attention in its absorbed form over selected keys
// (DeepSeek-V3.2, arXiv 2512.02556, section 2.1): per head
//   q' = W_UK^T q_nope,  s = scale (q' . c_kv + q_pe . k_pe),
//   z = sum softmax(s) c_kv,  o = W_UV z,  y = W_o [o_1 .. o_H]
// Forward writes what backward reads; all tensors are laid out by the caller.

#ifndef KERNELS_MODEL_MLA_H_
#define KERNELS_MODEL_MLA_H_

#include <cstdint>

#include "kernels/model/arena.h"
#include "kernels/model/config.h"
#include "kernels/model/kv_cache.h"
#include "kernels/model/layer_tensors.h"
#include "kernels/ops/backend.h"

namespace temper {

// What every part of a layer is given. N tokens of one batch.
struct BlockContext {
  Backend* backend = nullptr;
  const ModelConfig* config = nullptr;
  KeyMap map;
  Tensor cos_sin;  // [positions_max, R]
  Tensor slot;     // i32 [N], as TokenBatch has it
  // Of products but router's and weights_proj's; of W_UK's and W_UV's.
  DType operand = DType::kF32;
  DType unscaled = DType::kF32;
  bool rotates = false;  // Numerics::rotates
};

struct MlaActivations {
  Tensor q_a;   // [N, q_lora_rank], before its norm
  Tensor q_b;   // [N, H, nope + R], before rotation
  Tensor kv_a;  // [N, C + R], before norm and rotation
  Tensor q;     // [N, H, C + R]: absorbed | rotated
  Tensor z;     // [N, H, C]
  Tensor lse;   // [N, H]
  Tensor o;     // [N, H, v]

  void Layout(const ModelConfig& config, int64_t n, Arena* arena);
};

struct MlaBackwardScratch {
  Tensor o;     // [N, H, v]; these are gradients
  Tensor z;     // [N, H, C]
  Tensor q;     // [N, H, C + R]
  Tensor keys;  // [N, C + R]
  Tensor kv_a;  // [N, C + R]
  Tensor q_b;   // [N, H, nope + R]
  Tensor qr;    // [N, q_lora_rank]
  Tensor q_a;   // [N, q_lora_rank]
  Tensor x;     // [N, D]

  void Layout(const ModelConfig& config, int64_t n, Arena* arena);
};

// Fills a.q_a, q_b, kv_a, q, qr [N, q_lora_rank], the normed latent of the
// queries, and latent [N, C + R], the tokens' own keys, from the normed hidden
// state x [N, D].
void MlaProject(const BlockContext& context, const LayerWeights& weights,
                const Tensor& x, const MlaActivations& a, const Tensor& qr,
                const Tensor& latent);

// Fills a.z, lse, o, and y [N, D]; `keys` is the strip that the map points
// into, `selected` i32 [N, K].
void MlaAttend(const BlockContext& context, const LayerWeights& weights,
               const Tensor& keys, const Tensor& selected,
               const MlaActivations& a, const Tensor& y);

// From dy [N, D] to dx [N, D] (overwritten), adding the parameters' gradients.
// `keys` are the batch's own rows: the gradient of a key reaches the token that
// made it, whichever queries read it.
void MlaBackward(const BlockContext& context, const LayerWeights& weights,
                 const MlaActivations& a, const Tensor& x, const Tensor& qr,
                 const Tensor& keys, const Tensor& selected, const Tensor& dy,
                 const MlaBackwardScratch& d, const LayerGradients& gradients,
                 const Tensor& dx);

}  // namespace temper

#endif  // KERNELS_MODEL_MLA_H_
