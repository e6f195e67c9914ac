#include "kernels/model/layer_gradients.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace temper {

LayerGradients GradientsOfLayer(const ModelConfig& config,
                                const ModelGradients& gradients,
                                int64_t layer) {
  const std::string prefix = absl::StrCat("model.layers.", layer, ".");
  const std::string attn = prefix + "self_attn.";
  const std::string indexer = attn + "indexer.";
  const std::string mlp = prefix + "mlp.";
  LayerGradients g;
  g.input_layernorm = gradients.grad(prefix + "input_layernorm.weight");
  g.post_attention_layernorm =
      gradients.grad(prefix + "post_attention_layernorm.weight");
  g.q_a_proj = gradients.grad(attn + "q_a_proj.weight");
  g.q_b_proj = gradients.grad(attn + "q_b_proj.weight");
  g.kv_a_proj = gradients.grad(attn + "kv_a_proj_with_mqa.weight");
  g.o_proj = gradients.grad(attn + "o_proj.weight");
  const KvBViews kv_b =
      SplitKvB(config, gradients.grad(attn + "kv_b_proj.weight"));
  g.w_uk = kv_b.uk;
  g.w_uv = kv_b.uv;
  g.q_a_layernorm = gradients.grad(attn + "q_a_layernorm.weight");
  g.kv_a_layernorm = gradients.grad(attn + "kv_a_layernorm.weight");
  g.indexer_wq_b = gradients.grad(indexer + "wq_b.weight");
  g.indexer_wk = gradients.grad(indexer + "wk.weight");
  g.indexer_weights_proj = gradients.grad(indexer + "weights_proj.weight");
  g.indexer_k_norm_weight = gradients.grad(indexer + "k_norm.weight");
  g.indexer_k_norm_bias = gradients.grad(indexer + "k_norm.bias");
  const std::string dense = config.IsMoe(layer) ? mlp + "shared_experts." : mlp;
  g.gate_proj = gradients.grad(dense + "gate_proj.weight");
  g.up_proj = gradients.grad(dense + "up_proj.weight");
  g.down_proj = gradients.grad(dense + "down_proj.weight");
  if (!config.IsMoe(layer)) return g;
  g.router = gradients.grad(mlp + "gate.weight");
  const auto stack = [&](const char* kind) {
    return ExpertStack(
        config, gradients.all(),
        gradients.parameter(absl::StrCat(mlp, "experts.0.", kind, ".weight")));
  };
  g.experts_gate = stack("gate_proj");
  g.experts_up = stack("up_proj");
  g.experts_down = stack("down_proj");
  return g;
}

}  // namespace temper
