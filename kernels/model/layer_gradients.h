// Views of one layer's gradients, named as LayerWeights names the parameters.

#ifndef KERNELS_MODEL_LAYER_GRADIENTS_H_
#define KERNELS_MODEL_LAYER_GRADIENTS_H_

#include <cstdint>

#include "kernels/model/config.h"
#include "kernels/model/weights.h"
#include "kernels/tensor/tensor.h"

namespace temper {

struct LayerGradients {
  Tensor input_layernorm, post_attention_layernorm;  // [D]
  Tensor q_a_proj, q_b_proj, kv_a_proj, o_proj;      // [out, in]
  Tensor w_uk, w_uv;                                 // [H, nope|v, C], strided
  Tensor q_a_layernorm, kv_a_layernorm;
  Tensor indexer_wq_b, indexer_wk, indexer_weights_proj;
  Tensor indexer_k_norm_weight, indexer_k_norm_bias;  // [Di]
  Tensor gate_proj, up_proj, down_proj;  // dense, or the shared experts'
  // Empty in dense layers.
  Tensor router;                                  // [E, D]
  Tensor experts_gate, experts_up, experts_down;  // [E, out, in]
};

LayerGradients GradientsOfLayer(const ModelConfig& config,
                                const ModelGradients& gradients, int64_t layer);

}  // namespace temper

#endif  // KERNELS_MODEL_LAYER_GRADIENTS_H_
