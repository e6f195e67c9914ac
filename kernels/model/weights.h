// The model's parameters: one list, made from the table of layer_tensors.h,
// that loading, saving, publishing, zeroing and AdamW all walk. fp32 values
// live in one contiguous buffer in the order of the list; the products use
// packings that Publish() makes from them, so what the sampler and the learner
// multiply by is always one function of the values.

#ifndef KERNELS_MODEL_WEIGHTS_H_
#define KERNELS_MODEL_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/config.h"
#include "kernels/model/layer_tensors.h"
#include "kernels/model/safetensors.h"
#include "kernels/ops/backend.h"

namespace temper {

struct Parameter {
  std::string name;  // Hugging Face checkpoint name
  std::vector<int64_t> shape;
  ParameterGroup group = ParameterGroup::kMain;
  int64_t offset = 0;  // elements into the buffer
  int64_t elements = 0;
  bool decays = false;  // AdamW's weight decay: tensors of two dimensions
};

// All parameters of the main model in checkpoint order (MTP layers left out).
std::vector<Parameter> ListParameters(const ModelConfig& config);

// A tensor carried through load and save without being used (MTP layers).
struct CarriedTensor {
  std::string name;
  std::string dtype;  // as in the file
  std::vector<int64_t> shape;
  std::string bytes;
};

// Not thread-safe. Holds the buffer; views stay valid as long as it lives.
class ModelWeights {
 public:
  // Zero values. `backend` must outlive the object.
  static absl::StatusOr<std::unique_ptr<ModelWeights>> Create(
      Backend* backend, const ModelConfig& config);

  // Reads model.safetensors or its sharded index (F32 or BF16) and publishes.
  // InvalidArgument or DataLoss names the first tensor that is missing,
  // unexpected, or of another shape; the object is then not returned.
  static absl::StatusOr<std::unique_ptr<ModelWeights>> Load(
      Backend* backend, const ModelConfig& config,
      const std::string& model_dir);

  // Refuses a directory as Load does, without reading values: what is not
  // finite, or neither F32 nor BF16, is Load's to find.
  static absl::Status CheckFiles(const ModelConfig& config,
                                 const std::string& model_dir);

  // A second set with the same values (the frozen reference, a shadow).
  absl::StatusOr<std::unique_ptr<ModelWeights>> Clone() const;

  // Writes model.safetensors (and config.json, whose torch_dtype says what was
  // written) into an existing directory, a piece of a tensor at a time; carried
  // tensors go back byte for byte. `dtype` is F32 or BF16 (nearest even;
  // vectors stay F32).
  absl::Status Save(const std::string& model_dir,
                    const std::string& dtype) const;

  // Replaces all values by `values` [parameters() in order], then publishes.
  // InvalidArgument if the count differs; nothing changes.
  absl::Status SetValues(const std::vector<float>& values);
  std::vector<float> GetValues() const;

  // Makes the packings follow the values. Call after any change.
  void Publish();

  const ModelConfig& config() const { return config_; }
  const std::vector<Parameter>& parameters() const { return parameters_; }
  Tensor value(const Parameter& parameter) const;  // fp32 view, its shape
  Tensor value(const std::string& name) const;     // CHECKs that it exists
  Tensor all() const;                              // f32 [total elements]

  Tensor embed_tokens() const;  // [V, D]
  Tensor norm() const;          // [D], model.norm
  const Weight& lm_head() const { return *lm_head_; }
  const LayerWeights& layer(int64_t index) const { return layers_[index]; }
  const std::vector<CarriedTensor>& carried() const { return carried_; }

 private:
  ModelWeights() = default;
  absl::Status MakeHandles();
  absl::Status ReadValue(const Parameter& parameter,
                         const SafetensorsEntry& entry);
  absl::Status WriteValue(const Parameter& parameter, bool narrow,
                          const ByteSink& sink) const;
  // Of a matrix [1, out, in].
  Tensor View(const LayerTensor& tensor, const LayerTensorUse& use,
              int64_t layer) const;

  Backend* backend_ = nullptr;
  ModelConfig config_;
  std::vector<Parameter> parameters_;
  std::map<std::string, size_t> index_;
  std::unique_ptr<Buffer> buffer_;
  std::unique_ptr<Weight> lm_head_;
  std::vector<LayerWeights> layers_;
  std::vector<CarriedTensor> carried_;
};

// Gradients in the layout of ModelWeights.
class ModelGradients {
 public:
  static absl::StatusOr<std::unique_ptr<ModelGradients>> Create(
      Backend* backend, const ModelConfig& config);
  void Zero();
  Tensor grad(const Parameter& parameter) const;
  Tensor grad(const std::string& name) const;  // CHECKs that it exists
  Tensor all() const;
  const Parameter& parameter(const std::string& name) const;
  LayerGradients layer(int64_t layer) const;

 private:
  ModelGradients() = default;

  Backend* backend_ = nullptr;
  ModelConfig config_;
  std::vector<Parameter> parameters_;
  std::map<std::string, size_t> index_;
  std::unique_ptr<Buffer> buffer_;
};

}  // namespace temper

#endif  // KERNELS_MODEL_WEIGHTS_H_
