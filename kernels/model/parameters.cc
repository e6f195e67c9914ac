#include "kernels/model/parameters.h"

#include <utility>

#include "kernels/base/log.h"
#include "kernels/tensor/fp8.h"

namespace temper {
namespace {

// Appends parameters, each at the end of the one before.
class ParameterList {
 public:
  void Add(const std::string& name, std::vector<int64_t> shape,
           ParameterGroup group = ParameterGroup::kMain,
           bool always_fp32 = false, bool unscaled = false) {
    Parameter parameter;
    parameter.name = name;
    parameter.group = group;
    parameter.offset = offset_;
    parameter.elements = 1;
    for (const int64_t size : shape) parameter.elements *= size;
    // Norms and biases do not decay: pulling a gain to 0 is no regulariser.
    parameter.decays = shape.size() >= 2;
    parameter.always_fp32 = always_fp32 || shape.size() < 2;
    parameter.unscaled = unscaled;
    parameter.shape = std::move(shape);
    offset_ += parameter.elements;
    list_.push_back(std::move(parameter));
  }
  // The embedding or the head.
  void AddVocabulary(const std::string& name, const ModelConfig& c) {
    Add(name, {c.vocab_size, c.hidden_size}, ParameterGroup::kMain,
        /*always_fp32=*/false, /*unscaled=*/true);
  }
  std::vector<Parameter> Take() { return std::move(list_); }

 private:
  std::vector<Parameter> list_;
  int64_t offset_ = 0;
};

}  // namespace

std::vector<Parameter> ListParameters(const ModelConfig& c) {
  ParameterList list;
  list.AddVocabulary("model.embed_tokens.weight", c);
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    // Experts of a kind follow one another: so they are one stack [E, out, in].
    for (const LayerTensor& tensor : LayerTensors(c, layer)) {
      const int64_t count = tensor.experts > 0 ? tensor.experts : 1;
      for (int64_t expert = 0; expert < count; ++expert) {
        list.Add(LayerTensorName(tensor, layer, expert), tensor.shape,
                 tensor.group, tensor.always_fp32);
      }
    }
  }
  list.Add("model.norm.weight", {c.hidden_size});
  list.AddVocabulary("lm_head.weight", c);
  return list.Take();
}

DType PublishedType(const Parameter& parameter, const Numerics& numerics) {
  if (parameter.always_fp32) return DType::kF32;
  return parameter.unscaled ? numerics.unscaled : numerics.operand;
}

std::string ScalesName(const std::string& parameter) {
  return parameter + "_scale_inv";
}

std::vector<int64_t> ScalesShape(const std::vector<int64_t>& shape) {
  CHECK_EQ(shape.size(), 2u);
  return {ScaleBlocks(shape[0]), ScaleBlocks(shape[1])};
}

ParameterTable::ParameterTable(const ModelConfig& config)
    : list_(ListParameters(config)) {
  for (size_t i = 0; i < list_.size(); ++i) index_[list_[i].name] = i;
}

size_t ParameterTable::IndexOf(const std::string& name) const {
  const auto found = index_.find(name);
  CHECK(found != index_.end()) << "no parameter " << name;
  return found->second;
}

const Parameter& ParameterTable::Named(const std::string& name) const {
  return list_[IndexOf(name)];
}

int64_t ParameterTable::elements() const {
  return list_.back().offset + list_.back().elements;
}

Tensor Shaped(const Tensor& all, const Parameter& parameter, int64_t offset) {
  const Tensor flat = all.Slice(0, offset, offset + parameter.elements);
  if (parameter.shape.size() == 1) return flat;
  CHECK_EQ(parameter.shape.size(), 2u);
  return flat.Reshape({parameter.shape[0], parameter.shape[1]});
}

}  // namespace temper
