// ModelConfig: config.json under DeepSeek's own names, checked once at the
// edge; sizes derived from it.

#ifndef KERNELS_MODEL_CONFIG_H_
#define KERNELS_MODEL_CONFIG_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace temper {

// YaRN, static: the table does not depend on a sequence's length.
struct RopeScaling {
  double factor = 1;
  double beta_fast = 32;
  double beta_slow = 1;
  double mscale = 1;
  double mscale_all_dim = 1;
  int64_t original_max_position_embeddings = 0;
};

struct ModelConfig {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;  // dense MLP
  int64_t moe_intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_nextn_predict_layers = 0;  // MTP; read and carried, not run
  int64_t first_k_dense_replace = 0;
  int64_t num_attention_heads = 0;
  int64_t q_lora_rank = 0;
  int64_t kv_lora_rank = 0;
  int64_t qk_nope_head_dim = 0;
  int64_t qk_rope_head_dim = 0;
  int64_t v_head_dim = 0;
  int64_t index_n_heads = 0;
  int64_t index_head_dim = 0;
  int64_t index_topk = 0;
  int64_t n_routed_experts = 0;
  int64_t n_shared_experts = 0;
  int64_t num_experts_per_tok = 0;
  int64_t n_group = 1;
  int64_t topk_group = 1;
  double routed_scaling_factor = 1;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000;
  bool has_rope_scaling = false;
  RopeScaling rope_scaling;
  int64_t max_position_embeddings = 0;
  int64_t bos_token_id = 0;
  int64_t eos_token_id = 1;
  // An object's text: keys of the file that change nothing here (pad_token_id,
  // torch_dtype, auto_map, ...) and go back into what is written.
  std::string carried_json;

  bool IsMoe(int64_t layer) const { return layer >= first_k_dense_replace; }
  int64_t moe_layers() const {
    return num_hidden_layers - first_k_dense_replace;
  }
  int64_t qk_head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
  // A row of the latent cache: [c_kv | k_pe].
  int64_t latent_dim() const { return kv_lora_rank + qk_rope_head_dim; }
  // (nope + rope)^-0.5 * m^2, m = 0.1 mscale ln(factor) + 1 under YaRN.
  double softmax_scale() const;
  // Routes fit one byte up to 256 experts.
  int64_t route_bytes() const { return n_routed_experts <= 256 ? 1 : 2; }
  int64_t parameter_count() const;         // main model, indexer included
  int64_t active_parameter_count() const;  // matmul parameters a token meets
};

// InvalidArgument names the key, its value and what is allowed: a missing or
// mistyped key, a dimension out of range, a variant of the architecture that is
// not this one (hidden_act, scoring_func, topk_method, attention_bias, ...),
// sizes that contradict each other, or that together come to more than 2^19
// tensors of experts, 2^40 parameters or 2^32 numbers for each token.
absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& json);

// The same of model_dir/config.json, whose path and ": " are before what is
// wrong in it; or what kernels/base/file.h says of one that cannot be read.
absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& model_dir);

// Every key that ParseModelConfig reads, and those it carries; reading it back
// gives an equal config. `file_type` ("F32", "BF16", "F8_E4M3") is what the
// weights beside it are written in: under torch_dtype or dtype as the input had
// it, and in F8_E4M3 by quantization_config; "" leaves what is carried.
std::string ModelConfigToJson(const ModelConfig& config,
                              const std::string& file_type = "");

}  // namespace temper

#endif  // KERNELS_MODEL_CONFIG_H_
