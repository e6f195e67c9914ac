#include "kernels/model/published_weights.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/weights_file.h"
#include "kernels/tensor/bf16.h"
#include "kernels/tensor/fp8.h"

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

// What a layer's matrix of published type `dtype`, or a part of it, is packed
// as. Heads have no scales of their own, so theirs are packed dequantised.
WeightSpec SpecOf(const ModelConfig& config, const Numerics& numerics,
                  const LayerTensor& tensor, const LayerTensorUse& use,
                  DType dtype, Passes passes) {
  if (dtype == DType::kF8E4M3 && use.head_end > 0) dtype = numerics.unscaled;
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
  const int64_t elements = spec.groups * spec.out * spec.in;
  const int64_t bytes = TypeBytes(spec.dtype);
  // Codes are multiplied by going forward alone.
  const int64_t back =
      spec.dtype == DType::kF8E4M3 ? TypeBytes(DType::kBF16) : bytes;
  switch (spec.packed_for) {
    case PackedFor::kForward:
      return elements * bytes;
    case PackedFor::kTransposed:
      return elements * back;
    default:
      return elements * (bytes + back);
  }
}

// Of the matrix that is dequantised before its heads are packed.
int64_t DequantisedBytes(const ModelConfig& config, const Numerics& numerics) {
  int64_t elements = 0;
  for (const LayerTensor& tensor : LayerTensors(config, 0)) {
    if (tensor.uses.empty() || tensor.uses[0].head_end == 0) continue;
    elements = std::max(elements, tensor.shape[0] * tensor.shape[1]);
  }
  return numerics.operand == DType::kF8E4M3
             ? elements * TypeBytes(numerics.unscaled)
             : 0;
}

}  // namespace

std::vector<PublishedParameter> ListPublished(const ModelConfig& config,
                                              const Numerics& numerics) {
  std::vector<PublishedParameter> tensors;
  int64_t offset = 0;
  const auto add = [&](const std::string& name,
                       const std::vector<int64_t>& shape, DType dtype,
                       bool scales) {
    int64_t bytes = TypeBytes(dtype);
    for (const int64_t size : shape) bytes *= size;
    tensors.push_back({name, shape, dtype, offset, bytes, scales});
    offset += bytes;
  };
  for (const Parameter& p : ListParameters(config)) {
    const DType dtype = PublishedType(p, numerics);
    add(p.name, p.shape, dtype, /*scales=*/false);
    if (dtype == DType::kF8E4M3) {
      add(ScalesName(p.name), ScalesShape(p.shape), DType::kF32,
          /*scales=*/true);
    }
  }
  return tensors;
}

absl::Status PublishedWeights::CheckRotation(const ModelConfig& config,
                                             const Numerics& numerics) {
  const auto dims = static_cast<uint64_t>(config.index_head_dim);
  if (!numerics.rotates() ||
      (std::has_single_bit(dims) && dims <= uint64_t{kScaleBlock})) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "numerics fp8 rotates the indexer's rows, which takes an index_head_dim "
      "that is a power of two of at most ",
      kScaleBlock, "; it is ", dims, ": set numerics to fp32 or bf16"));
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
    const bool is_masters = tensor.dtype == DType::kF32 && !tensor.scales;
    if (is_masters) bytes += tensor.bytes;
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
  int64_t bytes = PackingBytes(HeadSpec(config, type(kHead), passes)) +
                  DequantisedBytes(config, numerics);
  for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
    for (const LayerTensor& tensor : LayerTensors(config, l)) {
      for (const LayerTensorUse& use : tensor.uses) {
        if (use.weight == nullptr) continue;
        bytes += PackingBytes(SpecOf(config, numerics, tensor, use,
                                     type(LayerTensorName(tensor, l)), passes));
      }
    }
  }
  return bytes;
}

PublishedWeights::PublishedWeights(const ModelConfig& config,
                                   const Numerics& numerics)
    : config_(config),
      numerics_(numerics),
      parameters_(config),
      tensors_(ListPublished(config, numerics)) {
  for (size_t i = 0; i < tensors_.size(); ++i) index_[tensors_[i].name] = i;
}

absl::StatusOr<std::unique_ptr<PublishedWeights>> PublishedWeights::Make(
    Backend* backend, const ModelConfig& config, const Numerics& numerics,
    Passes passes, const MasterWeights* masters) {
  RETURN_IF_ERROR(CheckRotation(config, numerics));
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
  // As a learner's masters would be rounded, that are read from the same file.
  std::vector<BF16> narrow;
  std::unique_ptr<Buffer> room;
  RETURN_IF_ERROR(
      file.Read([&](const Parameter& parameter,
                    const std::vector<float>& values) -> absl::Status {
        const Tensor to = weights->value(parameter);
        if (to.dtype() == DType::kF32) {
          return backend->CopyFromHost(values.data(), to);
        }
        if (to.dtype() == DType::kBF16) {
          narrow.clear();
          for (const float x : values) narrow.push_back(BF16FromFloat(x));
          return backend->CopyFromHost(narrow.data(), to);
        }
        const int64_t bytes = parameter.elements * TypeBytes(DType::kF32);
        if (room == nullptr || room->bytes() < bytes) {
          ASSIGN_OR_RETURN(room, backend->Allocate(bytes));
        }
        const Tensor from(room->data(), DType::kF32, {to.dim(0), to.dim(1)},
                          backend->device());
        RETURN_IF_ERROR(backend->CopyFromHost(values.data(), from));
        weights->Quantise(from, parameter);
        return absl::OkStatus();
      }));
  // Once, after the last tensor: experts are packed as one stack.
  weights->Pack();
  RETURN_IF_ERROR(backend->Sync());
  return weights;
}

absl::Status PublishedWeights::LayOut() {
  for (const PublishedParameter& tensor : tensors_) {
    const Section section = tensor.scales                    ? kScales
                            : tensor.dtype == DType::kF32    ? kFloats
                            : tensor.dtype == DType::kF8E4M3 ? kCodes
                                                             : kHalves;
    const bool is_masters = section == kFloats && masters_ != nullptr;
    places_.push_back({section, is_masters
                                    ? parameters_.Named(tensor.name).offset
                                    : elements_[section]});
    elements_[section] += tensor.bytes / TypeBytes(tensor.dtype);
  }
  for (const Section section : {kFloats, kHalves, kCodes, kScales}) {
    if (elements_[section] == 0 ||
        (section == kFloats && masters_ != nullptr)) {
      continue;
    }
    ASSIGN_OR_RETURN(
        buffers_[section],
        backend_->Allocate(elements_[section] * TypeBytes(TypeOf(section))));
  }
  const int64_t dequantised = DequantisedBytes(config_, numerics_);
  if (dequantised > 0) {
    ASSIGN_OR_RETURN(dequantised_, backend_->Allocate(dequantised));
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
        ASSIGN_OR_RETURN(
            layers_[l].*use.weight,
            backend_->NewWeight(
                SpecOf(config_, numerics_, tensor, use, view.dtype(), passes)));
      }
    }
  }
  return absl::OkStatus();
}

DType PublishedWeights::TypeOf(Section section) {
  switch (section) {
    case kHalves:
      return DType::kBF16;
    case kCodes:
      return DType::kF8E4M3;
    default:
      return DType::kF32;
  }
}

Tensor PublishedWeights::All(Section section) const {
  if (section == kFloats && masters_ != nullptr) return masters_->all();
  return Tensor(buffers_[section]->data(), TypeOf(section),
                {elements_[section]}, backend_->device());
}

const PublishedWeights::Place& PublishedWeights::PlaceOf(
    const std::string& name) const {
  const auto found = index_.find(name);
  CHECK(found != index_.end()) << "nothing is published as " << name;
  return places_[found->second];
}

Tensor PublishedWeights::View(const LayerTensor& tensor,
                              const LayerTensorUse& use, int64_t layer) const {
  const Place& place = PlaceOf(LayerTensorName(tensor, layer));
  return Stacked(
      ViewOf(config_, tensor, use, All(place.section), place.offset));
}

Tensor PublishedWeights::Scales(const LayerTensor& tensor,
                                int64_t layer) const {
  const Place& place = PlaceOf(ScalesName(LayerTensorName(tensor, layer)));
  const std::vector<int64_t> shape = ScalesShape(tensor.shape);
  const int64_t groups = std::max<int64_t>(tensor.experts, 1);
  return All(place.section)
      .Slice(0, place.offset, place.offset + groups * shape[0] * shape[1])
      .Reshape({groups, shape[0], shape[1]});
}

Tensor PublishedWeights::value(const std::string& name) const {
  const Place& place = PlaceOf(name);
  const PublishedParameter& tensor = tensors_[index_.at(name)];
  const Tensor flat =
      All(place.section)
          .Slice(0, place.offset,
                 place.offset + tensor.bytes / TypeBytes(tensor.dtype));
  if (tensor.shape.size() == 1) return flat;
  return flat.Reshape({tensor.shape[0], tensor.shape[1]});
}

Tensor PublishedWeights::value(const Parameter& parameter) const {
  return value(parameter.name);
}

void PublishedWeights::Pack() {
  ++publications_;
  backend_->SetWeight(Stacked(value(kHead)), lm_head_.get());
  for (int64_t l = 0; l < config_.num_hidden_layers; ++l) {
    for (const LayerTensor& tensor : LayerTensors(config_, l)) {
      PackTensor(tensor, l);
    }
  }
}

void PublishedWeights::PackTensor(const LayerTensor& tensor, int64_t layer) {
  Tensor whole;  // dequantised once for all its uses
  for (const LayerTensorUse& use : tensor.uses) {
    if (use.weight == nullptr) continue;
    Weight* const weight = (layers_[layer].*use.weight).get();
    const Tensor values = View(tensor, use, layer);
    if (values.dtype() != DType::kF8E4M3) {
      backend_->SetWeight(values, weight);
    } else if (use.head_end == 0) {
      backend_->SetQuantisedWeight(values, Scales(tensor, layer), weight);
    } else {
      if (whole.empty()) {
        whole =
            Tensor(dequantised_->data(), numerics_.unscaled,
                   {1, tensor.shape[0], tensor.shape[1]}, backend_->device());
        backend_->DequantiseWeight(
            Stacked(value(LayerTensorName(tensor, layer))),
            Scales(tensor, layer), whole);
      }
      backend_->SetWeight(
          ViewOf(config_, tensor, use, whole.Reshape({whole.elements()}), 0),
          weight);
    }
  }
}

void PublishedWeights::Quantise(const Tensor& values,
                                const Parameter& parameter) {
  backend_->QuantiseWeight(Stacked(values), Stacked(value(parameter)),
                           Stacked(value(ScalesName(parameter.name))));
}

void PublishedWeights::FollowMasters() {
  CHECK(masters_ != nullptr) << "what has no masters is set by its bytes";
  // What is published in fp32 already is: it is the masters' memory.
  for (const Parameter& p : parameters_.list()) {
    const Tensor published = value(p);
    if (published.dtype() == DType::kF8E4M3) {
      Quantise(masters_->value(p), p);
    } else if (published.dtype() != DType::kF32) {
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
                                           value(tensors_[i].name)));
  }
  Pack();
  return backend_->Sync();
}

absl::StatusOr<std::vector<std::byte>> PublishedWeights::GetBytes() const {
  std::vector<std::byte> bytes(tensors_.back().offset + tensors_.back().bytes);
  for (size_t i = 0; i < tensors_.size(); ++i) {
    RETURN_IF_ERROR(backend_->Read(value(tensors_[i].name),
                                   bytes.data() + tensors_[i].offset));
  }
  return bytes;
}

}  // namespace temper
