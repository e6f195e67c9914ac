#include "kernels/model/published_weights.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/weights_file.h"
#include "kernels/tensor/bf16.h"

namespace temper {
namespace {

constexpr char kEmbedding[] = "model.embed_tokens.weight";
constexpr char kFinalNorm[] = "model.norm.weight";
constexpr char kHead[] = "lm_head.weight";

// A matrix as a stack of one; a stack or a vector as it is.
Tensor Stacked(const Tensor& x) {
  return x.rank() == 2 ? x.Reshape({1, x.dim(0), x.dim(1)}) : x;
}

PackedFor PackingOf(const LayerTensorUse& use, Passes passes) {
  return passes == Passes::kForward ? use.forward : PackedFor::kBoth;
}

int64_t TypeBytes(DType dtype) {
  return static_cast<int64_t>(DTypeBytes(dtype));
}

// What a layer's matrix, or a part of it, is packed as.
WeightSpec SpecOf(const ModelConfig& config, const LayerTensor& tensor,
                  const LayerTensorUse& use, DType dtype, Passes passes) {
  WeightSpec spec = {.groups = std::max<int64_t>(tensor.experts, 1),
                     .out = tensor.shape[0],
                     .in = tensor.shape[1],
                     .dtype = dtype,
                     .packed_for = PackingOf(use, passes)};
  if (use.head_end > 0) {
    spec.groups = config.num_attention_heads;
    spec.out = use.head_end - use.head_begin;
  }
  return spec;
}

WeightSpec HeadSpec(const ModelConfig& config, DType dtype, Passes passes) {
  return {.out = config.vocab_size,
          .in = config.hidden_size,
          .dtype = dtype,
          .packed_for = PackingOf({}, passes)};
}

int64_t PackingBytes(const WeightSpec& spec) {
  const int64_t packings = spec.packed_for == PackedFor::kBoth ? 2 : 1;
  return packings * spec.groups * spec.out * spec.in * TypeBytes(spec.dtype);
}

}  // namespace

std::vector<PublishedParameter> ListPublished(const ModelConfig& config,
                                              const Numerics& numerics) {
  std::vector<PublishedParameter> tensors;
  int64_t offset = 0;
  for (Parameter& p : ListParameters(config)) {
    PublishedParameter tensor;
    tensor.dtype = PublishedType(p, numerics);
    tensor.offset = offset;
    tensor.bytes = p.elements * TypeBytes(tensor.dtype);
    tensor.name = std::move(p.name);
    tensor.shape = std::move(p.shape);
    offset += tensor.bytes;
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

int64_t PublishedWeights::BytesFor(const ModelConfig& config,
                                   const Numerics& numerics) {
  const std::vector<PublishedParameter> tensors =
      ListPublished(config, numerics);
  return tensors.back().offset + tensors.back().bytes;
}

int64_t PublishedWeights::Fp32BytesFor(const ModelConfig& config,
                                       const Numerics& numerics) {
  int64_t bytes = 0;
  for (const PublishedParameter& tensor : ListPublished(config, numerics)) {
    if (tensor.dtype == DType::kF32) bytes += tensor.bytes;
  }
  return bytes;
}

int64_t PublishedWeights::PackingBytesFor(const ModelConfig& config,
                                          const Numerics& numerics,
                                          Passes passes) {
  const ParameterTable parameters(config);
  const auto type = [&](const std::string& name) {
    return PublishedType(parameters.Named(name), numerics);
  };
  int64_t bytes = PackingBytes(HeadSpec(config, type(kHead), passes));
  for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
    for (const LayerTensor& tensor : LayerTensors(config, l)) {
      for (const LayerTensorUse& use : tensor.uses) {
        if (use.weight == nullptr) continue;
        bytes += PackingBytes(SpecOf(config, tensor, use,
                                     type(LayerTensorName(tensor, l)), passes));
      }
    }
  }
  return bytes;
}

absl::StatusOr<std::unique_ptr<PublishedWeights>> PublishedWeights::Make(
    Backend* backend, const ModelConfig& config, const Numerics& numerics,
    Passes passes, const MasterWeights* masters) {
  std::unique_ptr<PublishedWeights> weights(
      new PublishedWeights(config, numerics));
  weights->backend_ = backend;
  weights->masters_ = masters;
  // Before the handles, which are made from views of the bytes.
  RETURN_IF_ERROR(weights->LayOut());
  RETURN_IF_ERROR(weights->MakeHandles(passes));
  return weights;
}

absl::StatusOr<std::unique_ptr<PublishedWeights>> PublishedWeights::Create(
    Backend* backend, const ModelConfig& config, const Numerics& numerics,
    Passes passes) {
  return Make(backend, config, numerics, passes, /*masters=*/nullptr);
}

absl::StatusOr<std::unique_ptr<PublishedWeights>> PublishedWeights::Of(
    const MasterWeights* masters, const Numerics& numerics, Passes passes) {
  ASSIGN_OR_RETURN(
      std::unique_ptr<PublishedWeights> weights,
      Make(masters->backend(), masters->config(), numerics, passes, masters));
  weights->FollowMasters();
  return weights;
}

absl::StatusOr<std::unique_ptr<PublishedWeights>> PublishedWeights::Load(
    Backend* backend, const ModelConfig& config, const Numerics& numerics,
    Passes passes, const std::string& model_dir) {
  ASSIGN_OR_RETURN(const WeightsFile file,
                   WeightsFile::Open(config, model_dir));
  ASSIGN_OR_RETURN(std::unique_ptr<PublishedWeights> weights,
                   Create(backend, config, numerics, passes));
  std::vector<BF16> narrow;
  RETURN_IF_ERROR(file.Read(
      [&](const Parameter& parameter, const std::vector<float>& values) {
        const Tensor to = weights->value(parameter);
        if (to.dtype() == DType::kF32) {
          return backend->CopyFromHost(values.data(), to);
        }
        // As a learner's masters would be rounded, that are read from the same
        // file.
        narrow.clear();
        for (const float x : values) narrow.push_back(BF16FromFloat(x));
        return backend->CopyFromHost(narrow.data(), to);
      }));
  // Once, after the last tensor: experts are packed as one stack.
  weights->Pack();
  RETURN_IF_ERROR(backend->Sync());
  return weights;
}

absl::Status PublishedWeights::LayOut() {
  // By type, each kind without gaps: the experts of a layer have to lie one
  // after the other, and what is fp32 as it lies in the masters.
  for (const Parameter& p : parameters_.list()) {
    const DType dtype = PublishedType(p, numerics_);
    int64_t* const next = dtype == DType::kF32 ? &own_fp32_ : &narrow_;
    const bool is_masters = dtype == DType::kF32 && masters_ != nullptr;
    places_.push_back({dtype, is_masters ? p.offset : *next});
    *next += p.elements;
  }
  if (masters_ == nullptr) {
    ASSIGN_OR_RETURN(own_fp32_buffer_,
                     backend_->Allocate(own_fp32_ * TypeBytes(DType::kF32)));
  }
  if (narrow_ > 0) {
    ASSIGN_OR_RETURN(
        narrow_buffer_,
        backend_->Allocate(narrow_ * TypeBytes(numerics_.operand)));
  }
  return absl::OkStatus();
}

absl::Status PublishedWeights::MakeHandles(Passes passes) {
  embed_tokens_ = value(kEmbedding);
  norm_ = value(kFinalNorm);
  lm_head_rows_ = value(kHead);
  ASSIGN_OR_RETURN(lm_head_, backend_->NewWeight(HeadSpec(
                                 config_, lm_head_rows_.dtype(), passes)));
  layers_.resize(config_.num_hidden_layers);
  for (int64_t l = 0; l < config_.num_hidden_layers; ++l) {
    for (const LayerTensor& tensor : LayerTensors(config_, l)) {
      for (const LayerTensorUse& use : tensor.uses) {
        const Tensor view = View(tensor, use, l);
        if (use.vector != nullptr) layers_[l].*use.vector = view;
        if (use.weight == nullptr) continue;
        ASSIGN_OR_RETURN(layers_[l].*use.weight,
                         backend_->NewWeight(SpecOf(config_, tensor, use,
                                                    view.dtype(), passes)));
      }
    }
  }
  return absl::OkStatus();
}

Tensor PublishedWeights::Section(DType dtype) const {
  if (dtype != DType::kF32) {
    return Tensor(narrow_buffer_->data(), dtype, {narrow_}, backend_->device());
  }
  if (masters_ != nullptr) return masters_->all();
  return Tensor(own_fp32_buffer_->data(), DType::kF32, {own_fp32_},
                backend_->device());
}

Tensor PublishedWeights::View(const LayerTensor& tensor,
                              const LayerTensorUse& use, int64_t layer) const {
  const Place& place =
      places_[parameters_.IndexOf(LayerTensorName(tensor, layer))];
  return Stacked(
      ViewOf(config_, tensor, use, Section(place.dtype), place.offset));
}

Tensor PublishedWeights::value(const std::string& name) const {
  const size_t index = parameters_.IndexOf(name);
  return Shaped(Section(places_[index].dtype), parameters_.list()[index],
                places_[index].offset);
}

Tensor PublishedWeights::value(const Parameter& parameter) const {
  return value(parameter.name);
}

void PublishedWeights::Pack() {
  ++publications_;
  backend_->SetWeight(Stacked(value(kHead)), lm_head_.get());
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

void PublishedWeights::FollowMasters() {
  CHECK(masters_ != nullptr) << "what has no masters is set by its bytes";
  // What is published in fp32 already is: it is the masters' memory.
  for (const Parameter& p : parameters_.list()) {
    const Tensor published = value(p);
    if (published.dtype() != DType::kF32) {
      backend_->Copy(masters_->value(p), published);
    }
  }
  Pack();
}

absl::Status PublishedWeights::SetBytes(const std::vector<std::byte>& bytes) {
  CHECK(masters_ == nullptr) << "the masters' memory is the optimizer's";
  const int64_t wanted = tensors_.back().offset + tensors_.back().bytes;
  if (static_cast<int64_t>(bytes.size()) != wanted) {
    return absl::InvalidArgumentError(
        absl::StrCat(bytes.size(), " bytes of weights for a model of ", wanted,
                     " published bytes"));
  }
  // Tensor by tensor: on the wire they lie in the order of the parameters, here
  // by type.
  for (size_t i = 0; i < tensors_.size(); ++i) {
    RETURN_IF_ERROR(backend_->CopyFromHost(bytes.data() + tensors_[i].offset,
                                           value(parameters_.list()[i])));
  }
  Pack();
  return backend_->Sync();
}

absl::StatusOr<std::vector<std::byte>> PublishedWeights::GetBytes() const {
  std::vector<std::byte> bytes(tensors_.back().offset + tensors_.back().bytes);
  for (size_t i = 0; i < tensors_.size(); ++i) {
    RETURN_IF_ERROR(backend_->Read(value(parameters_.list()[i]),
                                   bytes.data() + tensors_[i].offset));
  }
  return bytes;
}

}  // namespace temper
