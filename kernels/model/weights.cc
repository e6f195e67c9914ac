#include "kernels/model/weights.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

// Appends parameters, each at the end of the one before.
class ParameterList {
 public:
  void Add(const std::string& name, std::vector<int64_t> shape,
           ParameterGroup group = ParameterGroup::kMain) {
    Parameter parameter;
    parameter.name = name;
    parameter.group = group;
    parameter.offset = offset_;
    parameter.elements = 1;
    for (const int64_t size : shape) parameter.elements *= size;
    parameter.decays = shape.size() >= 2;
    parameter.shape = std::move(shape);
    offset_ += parameter.elements;
    list_.push_back(std::move(parameter));
  }
  std::vector<Parameter> Take() { return std::move(list_); }

 private:
  std::vector<Parameter> list_;
  int64_t offset_ = 0;
};

std::string LayerPrefix(int64_t layer) {
  return absl::StrCat("model.layers.", layer, ".");
}

void AddAttention(const ModelConfig& c, const std::string& prefix,
                  ParameterList* list) {
  const int64_t heads = c.num_attention_heads;
  const std::string attn = prefix + "self_attn.";
  list->Add(attn + "q_a_proj.weight", {c.q_lora_rank, c.hidden_size});
  list->Add(attn + "q_a_layernorm.weight", {c.q_lora_rank});
  list->Add(attn + "q_b_proj.weight", {heads * c.qk_head_dim(), c.q_lora_rank});
  list->Add(attn + "kv_a_proj_with_mqa.weight",
            {c.latent_dim(), c.hidden_size});
  list->Add(attn + "kv_a_layernorm.weight", {c.kv_lora_rank});
  list->Add(attn + "kv_b_proj.weight",
            {heads * (c.qk_nope_head_dim + c.v_head_dim), c.kv_lora_rank});
  list->Add(attn + "o_proj.weight", {c.hidden_size, heads * c.v_head_dim});
  const ParameterGroup group = ParameterGroup::kIndexer;
  const std::string indexer = attn + "indexer.";
  list->Add(indexer + "wq_b.weight",
            {c.index_n_heads * c.index_head_dim, c.q_lora_rank}, group);
  list->Add(indexer + "wk.weight", {c.index_head_dim, c.hidden_size}, group);
  list->Add(indexer + "k_norm.weight", {c.index_head_dim}, group);
  list->Add(indexer + "k_norm.bias", {c.index_head_dim}, group);
  list->Add(indexer + "weights_proj.weight", {c.index_n_heads, c.hidden_size},
            group);
}

void AddMlp(const ModelConfig& c, const std::string& prefix, int64_t width,
            ParameterList* list) {
  list->Add(prefix + "gate_proj.weight", {width, c.hidden_size});
  list->Add(prefix + "up_proj.weight", {width, c.hidden_size});
  list->Add(prefix + "down_proj.weight", {c.hidden_size, width});
}

// One kind after the other, so that the experts of a kind are one [E, out, in].
void AddExperts(const ModelConfig& c, const std::string& mlp,
                ParameterList* list) {
  const int64_t width = c.moe_intermediate_size;
  for (const char* kind : {"gate_proj", "up_proj", "down_proj"}) {
    const bool down = std::strcmp(kind, "down_proj") == 0;
    for (int64_t e = 0; e < c.n_routed_experts; ++e) {
      list->Add(absl::StrCat(mlp, "experts.", e, ".", kind, ".weight"),
                down ? std::vector<int64_t>{c.hidden_size, width}
                     : std::vector<int64_t>{width, c.hidden_size});
    }
  }
}

std::map<std::string, size_t> IndexOf(const std::vector<Parameter>& list) {
  std::map<std::string, size_t> index;
  for (size_t i = 0; i < list.size(); ++i) index[list[i].name] = i;
  return index;
}

int64_t TotalElements(const std::vector<Parameter>& list) {
  return list.back().offset + list.back().elements;
}

Tensor Shaped(const Tensor& all, const Parameter& p) {
  const Tensor flat = all.Slice(0, p.offset, p.offset + p.elements);
  if (p.shape.size() == 1) return flat;
  CHECK_EQ(p.shape.size(), 2u);
  return flat.Reshape({p.shape[0], p.shape[1]});
}

}  // namespace

std::vector<Parameter> ListParameters(const ModelConfig& c) {
  ParameterList list;
  list.Add("model.embed_tokens.weight", {c.vocab_size, c.hidden_size});
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    const std::string prefix = LayerPrefix(layer);
    const std::string mlp = prefix + "mlp.";
    list.Add(prefix + "input_layernorm.weight", {c.hidden_size});
    AddAttention(c, prefix, &list);
    list.Add(prefix + "post_attention_layernorm.weight", {c.hidden_size});
    if (!c.IsMoe(layer)) {
      AddMlp(c, mlp, c.intermediate_size, &list);
      continue;
    }
    list.Add(mlp + "gate.weight", {c.n_routed_experts, c.hidden_size});
    list.Add(mlp + "gate.e_score_correction_bias", {c.n_routed_experts},
             ParameterGroup::kBias);
    AddExperts(c, mlp, &list);
    AddMlp(c, mlp + "shared_experts.",
           c.n_shared_experts * c.moe_intermediate_size, &list);
  }
  list.Add("model.norm.weight", {c.hidden_size});
  list.Add("lm_head.weight", {c.vocab_size, c.hidden_size});
  return list.Take();
}

absl::StatusOr<std::unique_ptr<ModelWeights>> ModelWeights::Create(
    Backend* backend, const ModelConfig& config) {
  std::unique_ptr<ModelWeights> weights(new ModelWeights);
  weights->backend_ = backend;
  weights->config_ = config;
  weights->parameters_ = ListParameters(config);
  weights->index_ = IndexOf(weights->parameters_);
  ASSIGN_OR_RETURN(weights->buffer_,
                   backend->Allocate(TotalElements(weights->parameters_) * 4));
  RETURN_IF_ERROR(weights->MakeHandles());
  return weights;
}

absl::Status ModelWeights::MakeHandles() {
  const ModelConfig& c = config_;
  const auto make = [this](int64_t groups, int64_t out, int64_t in,
                           std::unique_ptr<Weight>* weight) -> absl::Status {
    ASSIGN_OR_RETURN(*weight,
                     backend_->NewWeight(groups, out, in, DType::kF32));
    return absl::OkStatus();
  };
  const int64_t heads = c.num_attention_heads, d = c.hidden_size;
  RETURN_IF_ERROR(make(1, c.vocab_size, d, &lm_head_));
  layers_.resize(c.num_hidden_layers);
  for (int64_t l = 0; l < c.num_hidden_layers; ++l) {
    LayerWeights& w = layers_[l];
    RETURN_IF_ERROR(make(1, c.q_lora_rank, d, &w.q_a_proj));
    RETURN_IF_ERROR(
        make(1, heads * c.qk_head_dim(), c.q_lora_rank, &w.q_b_proj));
    RETURN_IF_ERROR(make(1, c.latent_dim(), d, &w.kv_a_proj));
    RETURN_IF_ERROR(make(heads, c.qk_nope_head_dim, c.kv_lora_rank, &w.w_uk));
    RETURN_IF_ERROR(make(heads, c.v_head_dim, c.kv_lora_rank, &w.w_uv));
    RETURN_IF_ERROR(make(1, d, heads * c.v_head_dim, &w.o_proj));
    RETURN_IF_ERROR(make(1, c.index_n_heads * c.index_head_dim, c.q_lora_rank,
                         &w.indexer_wq_b));
    RETURN_IF_ERROR(make(1, c.index_head_dim, d, &w.indexer_wk));
    RETURN_IF_ERROR(make(1, c.index_n_heads, d, &w.indexer_weights_proj));
    const int64_t width = c.IsMoe(l)
                              ? c.n_shared_experts * c.moe_intermediate_size
                              : c.intermediate_size;
    RETURN_IF_ERROR(make(1, width, d, &w.gate_proj));
    RETURN_IF_ERROR(make(1, width, d, &w.up_proj));
    RETURN_IF_ERROR(make(1, d, width, &w.down_proj));
    if (!c.IsMoe(l)) continue;
    const int64_t experts = c.n_routed_experts, inner = c.moe_intermediate_size;
    RETURN_IF_ERROR(make(1, experts, d, &w.router));
    RETURN_IF_ERROR(make(experts, inner, d, &w.experts_gate));
    RETURN_IF_ERROR(make(experts, inner, d, &w.experts_up));
    RETURN_IF_ERROR(make(experts, d, inner, &w.experts_down));
  }
  SetVectors();
  Publish();
  return absl::OkStatus();
}

void ModelWeights::SetVectors() {
  for (int64_t l = 0; l < config_.num_hidden_layers; ++l) {
    LayerWeights& w = layers_[l];
    const std::string prefix = LayerPrefix(l);
    const std::string attn = prefix + "self_attn.";
    w.input_layernorm = value(prefix + "input_layernorm.weight");
    w.post_attention_layernorm =
        value(prefix + "post_attention_layernorm.weight");
    w.q_a_layernorm = value(attn + "q_a_layernorm.weight");
    w.kv_a_layernorm = value(attn + "kv_a_layernorm.weight");
    w.indexer_k_norm_weight = value(attn + "indexer.k_norm.weight");
    w.indexer_k_norm_bias = value(attn + "indexer.k_norm.bias");
    if (config_.IsMoe(l)) {
      w.e_score_correction_bias =
          value(prefix + "mlp.gate.e_score_correction_bias");
    }
  }
}

void ModelWeights::Publish() {
  const auto set = [this](const std::string& name, Weight* weight) {
    const Tensor matrix = value(name);
    backend_->SetWeight(matrix.Reshape({1, matrix.dim(0), matrix.dim(1)}),
                        weight);
  };
  set("lm_head.weight", lm_head_.get());
  for (int64_t l = 0; l < config_.num_hidden_layers; ++l) {
    LayerWeights& w = layers_[l];
    const std::string prefix = LayerPrefix(l);
    const std::string attn = prefix + "self_attn.";
    const std::string mlp = prefix + "mlp.";
    set(attn + "q_a_proj.weight", w.q_a_proj.get());
    set(attn + "q_b_proj.weight", w.q_b_proj.get());
    set(attn + "kv_a_proj_with_mqa.weight", w.kv_a_proj.get());
    set(attn + "o_proj.weight", w.o_proj.get());
    const KvBViews kv_b = SplitKvB(config_, value(attn + "kv_b_proj.weight"));
    backend_->SetWeight(kv_b.uk, w.w_uk.get());
    backend_->SetWeight(kv_b.uv, w.w_uv.get());
    set(attn + "indexer.wq_b.weight", w.indexer_wq_b.get());
    set(attn + "indexer.wk.weight", w.indexer_wk.get());
    set(attn + "indexer.weights_proj.weight", w.indexer_weights_proj.get());
    const std::string dense = config_.IsMoe(l) ? mlp + "shared_experts." : mlp;
    set(dense + "gate_proj.weight", w.gate_proj.get());
    set(dense + "up_proj.weight", w.up_proj.get());
    set(dense + "down_proj.weight", w.down_proj.get());
    if (!config_.IsMoe(l)) continue;
    set(mlp + "gate.weight", w.router.get());
    const auto stack = [&](const char* kind) {
      return ExpertStack(config_, all(),
                         parameters_[index_.at(absl::StrCat(mlp, "experts.0.",
                                                            kind, ".weight"))]);
    };
    backend_->SetWeight(stack("gate_proj"), w.experts_gate.get());
    backend_->SetWeight(stack("up_proj"), w.experts_up.get());
    backend_->SetWeight(stack("down_proj"), w.experts_down.get());
  }
}

absl::StatusOr<std::unique_ptr<ModelWeights>> ModelWeights::Clone() const {
  ASSIGN_OR_RETURN(std::unique_ptr<ModelWeights> copy,
                   Create(backend_, config_));
  copy->carried_ = carried_;
  RETURN_IF_ERROR(copy->SetValues(GetValues()));
  return copy;
}

absl::Status ModelWeights::SetValues(const std::vector<float>& values) {
  const Tensor to = all();
  if (static_cast<int64_t>(values.size()) != to.elements()) {
    return absl::InvalidArgumentError(
        absl::StrCat(values.size(), " values for a model of ", to.elements(),
                     " parameters"));
  }
  RETURN_IF_ERROR(backend_->CopyFromHost(values.data(), to));
  Publish();
  return backend_->Sync();
}

std::vector<float> ModelWeights::GetValues() const {
  const Tensor from = all();
  std::vector<float> values(from.elements());
  const absl::Status status = backend_->CopyToHost(from, values.data());
  CHECK(status.ok()) << status;
  return values;
}

Tensor ModelWeights::value(const Parameter& parameter) const {
  return Shaped(all(), parameter);
}

Tensor ModelWeights::value(const std::string& name) const {
  const auto found = index_.find(name);
  CHECK(found != index_.end()) << "no parameter " << name;
  return value(parameters_[found->second]);
}

Tensor ModelWeights::all() const {
  return Tensor(buffer_->data(), DType::kF32, {TotalElements(parameters_)},
                backend_->device());
}

Tensor ModelWeights::embed_tokens() const {
  return value("model.embed_tokens.weight");
}

Tensor ModelWeights::norm() const { return value("model.norm.weight"); }

absl::StatusOr<std::unique_ptr<ModelGradients>> ModelGradients::Create(
    Backend* backend, const ModelConfig& config) {
  std::unique_ptr<ModelGradients> gradients(new ModelGradients);
  gradients->backend_ = backend;
  gradients->parameters_ = ListParameters(config);
  gradients->index_ = IndexOf(gradients->parameters_);
  ASSIGN_OR_RETURN(
      gradients->buffer_,
      backend->Allocate(TotalElements(gradients->parameters_) * 4));
  return gradients;
}

void ModelGradients::Zero() { backend_->Zero(all()); }

Tensor ModelGradients::grad(const Parameter& parameter) const {
  return Shaped(all(), parameter);
}

Tensor ModelGradients::grad(const std::string& name) const {
  return grad(parameter(name));
}

const Parameter& ModelGradients::parameter(const std::string& name) const {
  const auto found = index_.find(name);
  CHECK(found != index_.end()) << "no parameter " << name;
  return parameters_[found->second];
}

Tensor ModelGradients::all() const {
  return Tensor(buffer_->data(), DType::kF32, {TotalElements(parameters_)},
                backend_->device());
}

KvBViews SplitKvB(const ModelConfig& config, const Tensor& kv_b) {
  const Tensor heads = kv_b.Split(0, config.num_attention_heads);
  return {heads.Slice(1, 0, config.qk_nope_head_dim),
          heads.Slice(1, config.qk_nope_head_dim, heads.dim(1))};
}

Tensor ExpertStack(const ModelConfig& config, const Tensor& all,
                   const Parameter& first) {
  const int64_t experts = config.n_routed_experts;
  return all.Slice(0, first.offset, first.offset + experts * first.elements)
      .Reshape({experts, first.shape[0], first.shape[1]});
}

}  // namespace temper
