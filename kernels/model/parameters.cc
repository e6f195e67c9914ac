#include "kernels/model/parameters.h"

#include <utility>

#include "kernels/base/log.h"

namespace temper {
namespace {

// Appends parameters, each at the end of the one before.
class ParameterList {
 public:
  void Add(const std::string& name, std::vector<int64_t> shape,
           ParameterGroup group = ParameterGroup::kMain,
           bool always_fp32 = false) {
    Parameter parameter;
    parameter.name = name;
    parameter.group = group;
    parameter.offset = offset_;
    parameter.elements = 1;
    for (const int64_t size : shape) parameter.elements *= size;
    // Norms and biases do not decay: pulling a gain to 0 is no regulariser.
    parameter.decays = shape.size() >= 2;
    parameter.always_fp32 = always_fp32 || shape.size() < 2;
    parameter.shape = std::move(shape);
    offset_ += parameter.elements;
    list_.push_back(std::move(parameter));
  }
  std::vector<Parameter> Take() { return std::move(list_); }

 private:
  std::vector<Parameter> list_;
  int64_t offset_ = 0;
};

}  // namespace

std::vector<Parameter> ListParameters(const ModelConfig& c) {
  ParameterList list;
  list.Add("model.embed_tokens.weight", {c.vocab_size, c.hidden_size});
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
  list.Add("lm_head.weight", {c.vocab_size, c.hidden_size});
  return list.Take();
}

DType PublishedType(const Parameter& parameter, const Numerics& numerics) {
  return parameter.always_fp32 ? DType::kF32 : numerics.operand;
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
