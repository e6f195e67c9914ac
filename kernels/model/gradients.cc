#include "kernels/model/gradients.h"

#include <vector>

#include "kernels/base/status_macros.h"

namespace temper {

int64_t ModelGradients::BytesFor(const ModelConfig& config) {
  return ParameterTable(config).elements() *
         static_cast<int64_t>(sizeof(float));
}

absl::StatusOr<std::unique_ptr<ModelGradients>> ModelGradients::Create(
    Backend* backend, const ModelConfig& config) {
  std::unique_ptr<ModelGradients> gradients(new ModelGradients(config));
  gradients->backend_ = backend;
  ASSIGN_OR_RETURN(gradients->buffer_, backend->Allocate(BytesFor(config)));
  // The views are made once: a pack's backward asks for every layer's, and may
  // not allocate.
  gradients->embed_tokens_ = gradients->grad("model.embed_tokens.weight");
  gradients->norm_ = gradients->grad("model.norm.weight");
  gradients->lm_head_ = gradients->grad("lm_head.weight");
  gradients->layers_.resize(config.num_hidden_layers);
  for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
    for (const LayerTensor& tensor : LayerTensors(config, l)) {
      const int64_t offset =
          gradients->parameter(LayerTensorName(tensor, l)).offset;
      for (const LayerTensorUse& use : tensor.uses) {
        if (use.gradient == nullptr) continue;
        gradients->layers_[l].*use.gradient =
            ViewOf(config, tensor, use, gradients->all(), offset);
      }
    }
  }
  return gradients;
}

// One op over one buffer, whatever the number of tensors.
void ModelGradients::Zero() { backend_->Zero(all()); }

Tensor ModelGradients::grad(const Parameter& parameter) const {
  return Shaped(all(), parameter, parameter.offset);
}

Tensor ModelGradients::grad(const std::string& name) const {
  return grad(parameter(name));
}

Tensor ModelGradients::all() const {
  return Tensor(buffer_->data(), DType::kF32, {parameters_.elements()},
                backend_->device());
}

}  // namespace temper
