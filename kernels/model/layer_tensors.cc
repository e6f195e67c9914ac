#include "kernels/model/layer_tensors.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace temper {
namespace {

using W = LayerWeights;
using G = LayerGradients;

LayerTensor Matrix(std::string name, std::vector<int64_t> shape,
                   std::unique_ptr<Weight> W::*weight, Tensor G::*gradient,
                   ParameterGroup group = ParameterGroup::kMain) {
  return {.name = std::move(name),
          .name_after_expert = "",
          .shape = std::move(shape),
          .group = group,
          .uses = {{.weight = weight, .gradient = gradient}}};
}

LayerTensor Vector(std::string name, int64_t size, Tensor W::*vector,
                   Tensor G::*gradient,
                   ParameterGroup group = ParameterGroup::kMain) {
  return {.name = std::move(name),
          .name_after_expert = "",
          .shape = {size},
          .group = group,
          .uses = {{.vector = vector, .gradient = gradient}}};
}

// One kind of the experts' matrices: they lie together, so that they are one
// [E, out, in].
LayerTensor Experts(const ModelConfig& c, const char* kind, int64_t out,
                    int64_t in, std::unique_ptr<Weight> W::*weight,
                    Tensor G::*gradient) {
  return {.name = "mlp.experts.",
          .name_after_expert = absl::StrCat(".", kind, ".weight"),
          .shape = {out, in},
          .experts = c.n_routed_experts,
          .uses = {{.weight = weight, .gradient = gradient}}};
}

void AddAttention(const ModelConfig& c, std::vector<LayerTensor>* list) {
  const int64_t d = c.hidden_size, heads = c.num_attention_heads;
  const int64_t nope = c.qk_nope_head_dim, v = c.v_head_dim;
  list->push_back(Matrix("self_attn.q_a_proj.weight", {c.q_lora_rank, d},
                         &W::q_a_proj, &G::q_a_proj));
  list->push_back(Vector("self_attn.q_a_layernorm.weight", c.q_lora_rank,
                         &W::q_a_layernorm, &G::q_a_layernorm));
  list->push_back(Matrix("self_attn.q_b_proj.weight",
                         {heads * c.qk_head_dim(), c.q_lora_rank}, &W::q_b_proj,
                         &G::q_b_proj));
  list->push_back(Matrix("self_attn.kv_a_proj_with_mqa.weight",
                         {c.latent_dim(), d}, &W::kv_a_proj, &G::kv_a_proj));
  list->push_back(Vector("self_attn.kv_a_layernorm.weight", c.kv_lora_rank,
                         &W::kv_a_layernorm, &G::kv_a_layernorm));
  // Per head W_UK, then W_UV. In the absorbed form a query goes through W_UK
  // backwards: q_nope^T W_UK k is (W_UK^T q_nope) . k.
  list->push_back({.name = "self_attn.kv_b_proj.weight",
                   .name_after_expert = "",
                   .shape = {heads * (nope + v), c.kv_lora_rank},
                   .uses = {{.weight = &W::w_uk,
                             .forward = PackedFor::kTransposed,
                             .gradient = &G::w_uk,
                             .head_begin = 0,
                             .head_end = nope},
                            {.weight = &W::w_uv,
                             .gradient = &G::w_uv,
                             .head_begin = nope,
                             .head_end = nope + v}}});
  list->push_back(Matrix("self_attn.o_proj.weight", {d, heads * v}, &W::o_proj,
                         &G::o_proj));
}

void AddIndexer(const ModelConfig& c, std::vector<LayerTensor>* list) {
  const ParameterGroup group = ParameterGroup::kIndexer;
  const std::string indexer = "self_attn.indexer.";
  list->push_back(Matrix(indexer + "wq_b.weight",
                         {c.index_n_heads * c.index_head_dim, c.q_lora_rank},
                         &W::indexer_wq_b, &G::indexer_wq_b, group));
  list->push_back(Matrix(indexer + "wk.weight",
                         {c.index_head_dim, c.hidden_size}, &W::indexer_wk,
                         &G::indexer_wk, group));
  list->push_back(Vector(indexer + "k_norm.weight", c.index_head_dim,
                         &W::indexer_k_norm_weight, &G::indexer_k_norm_weight,
                         group));
  list->push_back(Vector(indexer + "k_norm.bias", c.index_head_dim,
                         &W::indexer_k_norm_bias, &G::indexer_k_norm_bias,
                         group));
  list->push_back(
      Matrix(indexer + "weights_proj.weight", {c.index_n_heads, c.hidden_size},
             &W::indexer_weights_proj, &G::indexer_weights_proj, group));
  // Few rows, whose results scale whole heads' scores: cheap, and what top-k
  // decides by.
  list->back().always_fp32 = true;
}

void AddMlp(const ModelConfig& c, const std::string& prefix, int64_t width,
            std::vector<LayerTensor>* list) {
  const int64_t d = c.hidden_size;
  list->push_back(Matrix(prefix + "gate_proj.weight", {width, d}, &W::gate_proj,
                         &G::gate_proj));
  list->push_back(
      Matrix(prefix + "up_proj.weight", {width, d}, &W::up_proj, &G::up_proj));
  list->push_back(Matrix(prefix + "down_proj.weight", {d, width}, &W::down_proj,
                         &G::down_proj));
}

void AddMoe(const ModelConfig& c, std::vector<LayerTensor>* list) {
  const int64_t d = c.hidden_size, width = c.moe_intermediate_size;
  list->push_back(Matrix("mlp.gate.weight", {c.n_routed_experts, d}, &W::router,
                         &G::router));
  // Its ties and near ties choose experts; rounding would choose others.
  list->back().always_fp32 = true;
  list->push_back(Vector("mlp.gate.e_score_correction_bias", c.n_routed_experts,
                         &W::e_score_correction_bias, nullptr,
                         ParameterGroup::kBias));
  list->push_back(
      Experts(c, "gate_proj", width, d, &W::experts_gate, &G::experts_gate));
  list->push_back(
      Experts(c, "up_proj", width, d, &W::experts_up, &G::experts_up));
  list->push_back(
      Experts(c, "down_proj", d, width, &W::experts_down, &G::experts_down));
  AddMlp(c, "mlp.shared_experts.", c.n_shared_experts * width, list);
}

}  // namespace

std::vector<LayerTensor> LayerTensors(const ModelConfig& c, int64_t layer) {
  std::vector<LayerTensor> list;
  list.push_back(Vector("input_layernorm.weight", c.hidden_size,
                        &W::input_layernorm, &G::input_layernorm));
  AddAttention(c, &list);
  AddIndexer(c, &list);
  list.push_back(Vector("post_attention_layernorm.weight", c.hidden_size,
                        &W::post_attention_layernorm,
                        &G::post_attention_layernorm));
  if (c.IsMoe(layer)) {
    AddMoe(c, &list);
  } else {
    AddMlp(c, "mlp.", c.intermediate_size, &list);
  }
  return list;
}

std::string LayerPrefix(int64_t layer) {
  return absl::StrCat("model.layers.", layer, ".");
}

std::string LayerTensorName(const LayerTensor& tensor, int64_t layer,
                            int64_t expert) {
  const std::string name = LayerPrefix(layer) + tensor.name;
  if (tensor.experts == 0) return name;
  return absl::StrCat(name, expert, tensor.name_after_expert);
}

Tensor ViewOf(const ModelConfig& config, const LayerTensor& tensor,
              const LayerTensorUse& use, const Tensor& all, int64_t offset) {
  int64_t elements = tensor.experts > 0 ? tensor.experts : 1;
  for (const int64_t size : tensor.shape) elements *= size;
  const Tensor flat = all.Slice(0, offset, offset + elements);
  if (tensor.shape.size() == 1) return flat;
  const int64_t out = tensor.shape[0], in = tensor.shape[1];
  if (tensor.experts > 0) return flat.Reshape({tensor.experts, out, in});
  const Tensor matrix = flat.Reshape({out, in});
  if (use.head_end == 0) return matrix;
  return matrix.Split(0, config.num_attention_heads)
      .Slice(1, use.head_begin, use.head_end);
}

}  // namespace temper
