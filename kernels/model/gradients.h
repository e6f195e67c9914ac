// The gradients of a model's parameters, fp32, in one buffer in the order of
// kernels/model/parameters.h: that of the masters.
//
// Not thread-safe. Views stay valid as long as the object lives.

#ifndef KERNELS_MODEL_GRADIENTS_H_
#define KERNELS_MODEL_GRADIENTS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/model/config.h"
#include "kernels/model/layer_tensors.h"
#include "kernels/model/parameters.h"
#include "kernels/ops/backend.h"

namespace temper {

class ModelGradients {
 public:
  // Zeros. `backend` must outlive the object.
  static absl::StatusOr<std::unique_ptr<ModelGradients>> Create(
      Backend* backend, const ModelConfig& config);
  static int64_t BytesFor(const ModelConfig& config);

  void Zero();
  Tensor grad(const Parameter& parameter) const;
  Tensor grad(const std::string& name) const;  // CHECKs that it exists
  Tensor all() const;                          // f32 [total elements]
  const Parameter& parameter(const std::string& name) const {
    return parameters_.Named(name);
  }
  const LayerGradients& layer(int64_t index) const { return layers_[index]; }
  // Those outside the layers: a pack's backward looks nothing up by its name.
  const Tensor& embed_tokens() const { return embed_tokens_; }
  const Tensor& norm() const { return norm_; }
  const Tensor& lm_head() const { return lm_head_; }

 private:
  explicit ModelGradients(const ModelConfig& config) : parameters_(config) {}

  Backend* backend_ = nullptr;
  const ParameterTable parameters_;
  std::unique_ptr<Buffer> buffer_;
  std::vector<LayerGradients> layers_;
  Tensor embed_tokens_, norm_, lm_head_;
};

}  // namespace temper

#endif  // KERNELS_MODEL_GRADIENTS_H_
