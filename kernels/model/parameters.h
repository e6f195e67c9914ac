// The model's parameters: one list, made from the table of layer_tensors.h,
// that loading, saving, publishing, zeroing and AdamW all walk.
//
// Immutable; thread-safe.

#ifndef KERNELS_MODEL_PARAMETERS_H_
#define KERNELS_MODEL_PARAMETERS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "kernels/model/config.h"
#include "kernels/model/layer_tensors.h"
#include "kernels/tensor/numerics.h"
#include "kernels/tensor/tensor.h"

namespace temper {

struct Parameter {
  std::string name;  // Hugging Face checkpoint name
  std::vector<int64_t> shape;
  ParameterGroup group = ParameterGroup::kMain;
  int64_t offset = 0;  // elements from the first parameter's first
  int64_t elements = 0;
  bool decays = false;       // AdamW's weight decay: of two dimensions
  bool always_fp32 = false;  // published in fp32 in every numerics
  bool unscaled = false;     // lm_head, the embedding: no codes and scales
};

// All parameters of the main model in checkpoint order (MTP layers left out).
std::vector<Parameter> ListParameters(const ModelConfig& config);

// What a parameter is published in: fp32, or a type of the numerics. What is
// f8e4m3 has scales beside it, f32, of the name and shape below, as Hugging
// Face's checkpoints of DeepSeek have them: its values are codes times scales.
DType PublishedType(const Parameter& parameter, const Numerics& numerics);

std::string ScalesName(const std::string& parameter);
std::vector<int64_t> ScalesShape(const std::vector<int64_t>& shape);

// The list, and by name.
class ParameterTable {
 public:
  explicit ParameterTable(const ModelConfig& config);

  const std::vector<Parameter>& list() const { return list_; }
  // CHECKs that it exists.
  const Parameter& Named(const std::string& name) const;
  size_t IndexOf(const std::string& name) const;
  int64_t elements() const;  // of all

 private:
  std::vector<Parameter> list_;
  std::map<std::string, size_t> index_;
};

// The parameter in its shape, whose elements begin at `offset` of `all`.
Tensor Shaped(const Tensor& all, const Parameter& parameter, int64_t offset);

}  // namespace temper

#endif  // KERNELS_MODEL_PARAMETERS_H_
