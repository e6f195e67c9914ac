// One layer's tensors, in one table: what each is called in a checkpoint, its
// shape, what may train it, and which members of LayerWeights and
// LayerGradients it becomes. Listing, loading and saving, handles, packings and
// gradients all walk it; a new tensor of a layer is a row here.
//
// A function without state; thread-safe.

#ifndef KERNELS_MODEL_LAYER_TENSORS_H_
#define KERNELS_MODEL_LAYER_TENSORS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/model/config.h"
#include "kernels/ops/backend.h"
#include "kernels/tensor/tensor.h"

namespace temper {

// What may train a parameter.
enum class ParameterGroup : uint8_t {
  kMain,     // the losses of the language model
  kIndexer,  // the indexer's KL loss alone
  kBias,     // e_score_correction_bias: no gradient
};

// One layer's packed matrices and vectors, as the transformer uses them.
struct LayerWeights {
  Tensor input_layernorm, post_attention_layernorm;  // [D]
  std::unique_ptr<Weight> q_a_proj, q_b_proj, kv_a_proj, o_proj;
  std::unique_ptr<Weight> w_uk, w_uv;  // [H, nope, C], [H, v, C]: kv_b_proj
  Tensor q_a_layernorm, kv_a_layernorm;
  std::unique_ptr<Weight> indexer_wq_b, indexer_wk, indexer_weights_proj;
  Tensor indexer_k_norm_weight, indexer_k_norm_bias;
  // Dense layers use gate/up/down; MoE layers use the rest as well, with
  // gate/up/down the shared experts.
  std::unique_ptr<Weight> gate_proj, up_proj, down_proj;
  std::unique_ptr<Weight> router;  // mlp.gate
  Tensor e_score_correction_bias;
  std::unique_ptr<Weight> experts_gate, experts_up, experts_down;  // [E, ..]
};

// Views of one layer's gradients, named as LayerWeights names the parameters.
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

// What a tensor, or a part of it, is used as. A matrix has a weight, a vector a
// member of LayerWeights that views it.
struct LayerTensorUse {
  std::unique_ptr<Weight> LayerWeights::*weight = nullptr;
  // How the model's forward multiplies by it; backward does both ways.
  PackedFor forward = PackedFor::kForward;
  Tensor LayerWeights::*vector = nullptr;
  Tensor LayerGradients::*gradient = nullptr;  // null: it has none
  // Rows [begin, end) of each head; end 0: the whole tensor.
  int64_t head_begin = 0;
  int64_t head_end = 0;
};

struct LayerTensor {
  // After "model.layers.<l>.". Of experts: up to and from the expert's number,
  // which stands between.
  std::string name;
  std::string name_after_expert;
  std::vector<int64_t> shape;  // of one expert
  ParameterGroup group = ParameterGroup::kMain;
  // A matrix whose product is fp32 in every numerics (DESIGN.md section 6).
  bool always_fp32 = false;
  // So many tensors of this name lie one after the other; 0: one, no expert's.
  int64_t experts = 0;
  std::vector<LayerTensorUse> uses;
};

// In checkpoint order.
std::vector<LayerTensor> LayerTensors(const ModelConfig& config, int64_t layer);

// "model.layers.3.".
std::string LayerPrefix(int64_t layer);

// The checkpoint's name of the tensor, or of its expert `expert`.
std::string LayerTensorName(const LayerTensor& tensor, int64_t layer,
                            int64_t expert = 0);

// What `use` sees of the tensor, whose values (or gradients) begin at element
// `offset` of `all`: [n] of a vector, [out, in] of a matrix, [groups, out, in]
// of heads and experts.
Tensor ViewOf(const ModelConfig& config, const LayerTensor& tensor,
              const LayerTensorUse& use, const Tensor& all, int64_t offset);

}  // namespace temper

#endif  // KERNELS_MODEL_LAYER_TENSORS_H_
