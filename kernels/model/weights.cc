#include "kernels/model/weights.h"

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

// A matrix as a stack of one; a stack or a vector as it is.
Tensor Stacked(const Tensor& x) {
  return x.rank() == 2 ? x.Reshape({1, x.dim(0), x.dim(1)}) : x;
}

}  // namespace

std::vector<Parameter> ListParameters(const ModelConfig& c) {
  ParameterList list;
  list.Add("model.embed_tokens.weight", {c.vocab_size, c.hidden_size});
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    for (const LayerTensor& tensor : LayerTensors(c, layer)) {
      const int64_t count = tensor.experts > 0 ? tensor.experts : 1;
      for (int64_t expert = 0; expert < count; ++expert) {
        list.Add(LayerTensorName(tensor, layer, expert), tensor.shape,
                 tensor.group);
      }
    }
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
  ASSIGN_OR_RETURN(
      lm_head_, backend_->NewWeight(1, config_.vocab_size, config_.hidden_size,
                                    DType::kF32));
  layers_.resize(config_.num_hidden_layers);
  for (int64_t l = 0; l < config_.num_hidden_layers; ++l) {
    for (const LayerTensor& tensor : LayerTensors(config_, l)) {
      for (const LayerTensorUse& use : tensor.uses) {
        const Tensor view = View(tensor, use, l);
        if (use.vector != nullptr) layers_[l].*use.vector = view;
        if (use.weight == nullptr) continue;
        ASSIGN_OR_RETURN(layers_[l].*use.weight,
                         backend_->NewWeight(view.dim(0), view.dim(1),
                                             view.dim(2), DType::kF32));
      }
    }
  }
  Publish();
  return absl::OkStatus();
}

Tensor ModelWeights::View(const LayerTensor& tensor, const LayerTensorUse& use,
                          int64_t layer) const {
  const Parameter& parameter =
      parameters_[index_.at(LayerTensorName(tensor, layer))];
  return Stacked(ViewOf(config_, tensor, use, all(), parameter.offset));
}

void ModelWeights::Publish() {
  backend_->SetWeight(Stacked(value("lm_head.weight")), lm_head_.get());
  for (int64_t l = 0; l < config_.num_hidden_layers; ++l) {
    for (const LayerTensor& tensor : LayerTensors(config_, l)) {
      for (const LayerTensorUse& use : tensor.uses) {
        if (use.weight == nullptr) continue;
        backend_->SetWeight(View(tensor, use, l),
                            (layers_[l].*use.weight).get());
      }
    }
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
  gradients->config_ = config;
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

LayerGradients ModelGradients::layer(int64_t layer) const {
  LayerGradients gradients;
  for (const LayerTensor& tensor : LayerTensors(config_, layer)) {
    for (const LayerTensorUse& use : tensor.uses) {
      if (use.gradient == nullptr) continue;
      gradients.*use.gradient =
          ViewOf(config_, tensor, use, all(),
                 parameter(LayerTensorName(tensor, layer)).offset);
    }
  }
  return gradients;
}

}  // namespace temper
