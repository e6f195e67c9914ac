// ModelWeights to and from a Hugging Face directory.

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/safetensors.h"
#include "kernels/model/weights.h"
#include "kernels/tensor/bf16.h"

namespace temper {
namespace {

constexpr char kModelFile[] = "/model.safetensors";
// Of a tensor on its way to a file.
constexpr int64_t kPieceElements = 1 << 20;

absl::Status WrongTensor(const SafetensorsEntry& entry,
                         const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat("tensor \"", entry.name, "\" (", entry.dtype,
                   entry.ShapeString(), ") ", what));
}

bool IsMtpTensor(const ModelConfig& config, const std::string& name) {
  for (int64_t i = 0; i < config.num_nextn_predict_layers; ++i) {
    if (absl::StartsWith(name, LayerPrefix(config.num_hidden_layers + i))) {
      return true;
    }
  }
  return false;
}

absl::StatusOr<const SafetensorsEntry*> FindParameter(
    const Parameter& parameter, const Safetensors& file) {
  const SafetensorsEntry* entry = file.Find(parameter.name);
  if (entry == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"", parameter.name, "\" is missing"));
  }
  if (entry->shape != parameter.shape) {
    SafetensorsEntry wanted;
    wanted.shape = parameter.shape;
    return WrongTensor(
        *entry, absl::StrCat("must have the shape ", wanted.ShapeString()));
  }
  return entry;
}

// A file's tensors: those of the parameters, in their order, and the rest.
struct FoundTensors {
  std::vector<const SafetensorsEntry*> parameters;
  std::vector<const SafetensorsEntry*> carried;
};

// The tensors that no parameter takes, all of MTP layers that are whole.
absl::StatusOr<std::vector<const SafetensorsEntry*>> FindCarried(
    const ModelConfig& config, const std::vector<Parameter>& parameters,
    const Safetensors& file) {
  std::set<std::string> known;
  for (const Parameter& parameter : parameters) known.insert(parameter.name);
  std::vector<const SafetensorsEntry*> carried;
  std::set<int64_t> missing;
  for (int64_t i = 0; i < config.num_nextn_predict_layers; ++i) {
    missing.insert(config.num_hidden_layers + i);
  }
  for (const SafetensorsEntry& entry : file.entries()) {
    if (known.count(entry.name) > 0) continue;
    if (!IsMtpTensor(config, entry.name)) {
      return WrongTensor(entry, "is not expected by config.json");
    }
    for (auto it = missing.begin(); it != missing.end();) {
      it = absl::StartsWith(entry.name, LayerPrefix(*it)) ? missing.erase(it)
                                                          : std::next(it);
    }
    carried.push_back(&entry);
  }
  if (!missing.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensors of the MTP layer \"", LayerPrefix(*missing.begin()),
        "\" are missing; num_nextn_predict_layers is ",
        config.num_nextn_predict_layers));
  }
  return carried;
}

absl::StatusOr<FoundTensors> FindTensors(
    const ModelConfig& config, const std::vector<Parameter>& parameters,
    const Safetensors& file) {
  FoundTensors found;
  for (const Parameter& parameter : parameters) {
    ASSIGN_OR_RETURN(found.parameters.emplace_back(),
                     FindParameter(parameter, file));
  }
  ASSIGN_OR_RETURN(found.carried, FindCarried(config, parameters, file));
  return found;
}

absl::Status InDirectory(const std::string& model_dir,
                         const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat(model_dir, ": ", status.message()));
}

}  // namespace

absl::Status ModelWeights::CheckFiles(const ModelConfig& config,
                                      const std::string& model_dir) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Safetensors> file,
                   Safetensors::OpenModel(model_dir));
  const auto found = FindTensors(config, ListParameters(config), *file);
  return found.ok() ? absl::OkStatus() : InDirectory(model_dir, found.status());
}

absl::StatusOr<std::unique_ptr<ModelWeights>> ModelWeights::Load(
    Backend* backend, const ModelConfig& config, const std::string& model_dir) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Safetensors> file,
                   Safetensors::OpenModel(model_dir));
  // All of them before any memory is taken: config.json may say much.
  const auto found = FindTensors(config, ListParameters(config), *file);
  if (!found.ok()) return InDirectory(model_dir, found.status());
  ASSIGN_OR_RETURN(std::unique_ptr<ModelWeights> weights,
                   Create(backend, config));
  for (size_t i = 0; i < found->parameters.size(); ++i) {
    const absl::Status read =
        weights->ReadValue(weights->parameters_[i], *found->parameters[i]);
    if (!read.ok()) return InDirectory(model_dir, read);
  }
  weights->Publish();
  for (const SafetensorsEntry* const entry : found->carried) {
    weights->carried_.push_back(
        {entry->name, entry->dtype, entry->shape,
         std::string(reinterpret_cast<const char*>(entry->data),
                     entry->bytes)});
  }
  RETURN_IF_ERROR(backend->Sync());
  return weights;
}

absl::Status ModelWeights::ReadValue(const Parameter& parameter,
                                     const SafetensorsEntry& entry) {
  ASSIGN_OR_RETURN(const std::vector<float> decoded, DecodeFloats(entry));
  for (const float value : decoded) {
    if (!std::isfinite(value)) {
      return absl::DataLossError(absl::StrCat(
          "tensor \"", entry.name, "\" holds a value that is not finite"));
    }
  }
  return backend_->CopyFromHost(decoded.data(), value(parameter));
}

absl::Status ModelWeights::Save(const std::string& model_dir,
                                const std::string& dtype) const {
  if (dtype != "F32" && dtype != "BF16") {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot save weights as ", dtype, "; F32 or BF16"));
  }
  const auto narrow = [&](const Parameter& p) {
    // Vectors stay F32, as DeepSeek's own checkpoints have them.
    return dtype == "BF16" && p.shape.size() >= 2;
  };
  std::vector<SafetensorsEntry> entries;
  for (const Parameter& p : parameters_) {
    entries.push_back(
        {p.name, narrow(p) ? "BF16" : "F32", p.shape, nullptr,
         static_cast<uint64_t>(p.elements) * (narrow(p) ? 2 : 4)});
  }
  for (const CarriedTensor& tensor : carried_) {
    entries.push_back({tensor.name, tensor.dtype, tensor.shape, nullptr,
                       tensor.bytes.size()});
  }
  RETURN_IF_ERROR(WriteSafetensors(
      model_dir + kModelFile, entries,
      [&](size_t index, const ByteSink& sink) -> absl::Status {
        if (index < parameters_.size()) {
          const Parameter& p = parameters_[index];
          return WriteValue(p, narrow(p), sink);
        }
        const std::string& bytes = carried_[index - parameters_.size()].bytes;
        return sink(bytes.data(), bytes.size());
      }));
  return WriteFileDurably(
      model_dir + "/config.json",
      ModelConfigToJson(config_, dtype == "BF16" ? "bfloat16" : "float32"));
}

absl::Status ModelWeights::WriteValue(const Parameter& parameter, bool narrow,
                                      const ByteSink& sink) const {
  std::vector<float> values;
  std::vector<BF16> rounded;
  const int64_t end = parameter.offset + parameter.elements;
  for (int64_t begin = parameter.offset; begin < end; begin += kPieceElements) {
    const int64_t count = std::min(kPieceElements, end - begin);
    values.resize(count);
    RETURN_IF_ERROR(backend_->CopyToHost(all().Slice(0, begin, begin + count),
                                         values.data()));
    if (!narrow) {
      RETURN_IF_ERROR(sink(values.data(), values.size() * sizeof(float)));
      continue;
    }
    rounded.clear();
    for (const float value : values)
      rounded.push_back(FileBF16FromFloat(value));
    RETURN_IF_ERROR(sink(rounded.data(), rounded.size() * sizeof(BF16)));
  }
  return absl::OkStatus();
}

}  // namespace temper
