#include "kernels/model/weights_file.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "kernels/tensor/bf16.h"
#include "kernels/tensor/dtype.h"

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

absl::Status InDirectory(const std::string& model_dir,
                         const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat(model_dir, ": ", status.message()));
}

}  // namespace

absl::StatusOr<WeightsFile> WeightsFile::Open(const ModelConfig& config,
                                              const std::string& model_dir) {
  WeightsFile weights;
  weights.model_dir_ = model_dir;
  weights.parameters_ = ListParameters(config);
  ASSIGN_OR_RETURN(weights.file_, Safetensors::OpenModel(model_dir));
  // All tensors before any memory is taken: config.json may say much.
  for (const Parameter& parameter : weights.parameters_) {
    const auto found = FindParameter(parameter, *weights.file_);
    if (!found.ok()) return InDirectory(model_dir, found.status());
    weights.found_.push_back(*found);
  }
  auto carried = FindCarried(config, weights.parameters_, *weights.file_);
  if (!carried.ok()) return InDirectory(model_dir, carried.status());
  weights.carried_ = *std::move(carried);
  return weights;
}

absl::Status WeightsFile::Read(const Reader& reader) const {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const SafetensorsEntry& entry = *found_[i];
    const auto values = DecodeFloats(entry);
    if (!values.ok()) return InDirectory(model_dir_, values.status());
    // Here and nowhere later: a NaN would spread to every logit, and no one
    // could say any more where it came from.
    for (const float value : *values) {
      if (std::isfinite(value)) continue;
      return absl::DataLossError(
          absl::StrCat(model_dir_, ": tensor \"", entry.name,
                       "\" holds a value that is not finite"));
    }
    RETURN_IF_ERROR(reader(parameters_[i], *values));
  }
  return absl::OkStatus();
}

std::vector<CarriedTensor> WeightsFile::ReadCarried() const {
  std::vector<CarriedTensor> carried;
  for (const SafetensorsEntry* const entry : carried_) {
    carried.push_back({entry->name, entry->dtype, entry->shape,
                       std::string(reinterpret_cast<const char*>(entry->data),
                                   entry->bytes)});
  }
  return carried;
}

namespace {

// A parameter's bytes, a piece at a time, so that no copy of a large tensor is
// made on its way to the file.
absl::Status WriteParameter(const Parameter& parameter, bool narrow,
                            const ValueSource& source, const ByteSink& sink) {
  std::vector<float> values;
  std::vector<BF16> rounded;
  const int64_t end = parameter.offset + parameter.elements;
  for (int64_t begin = parameter.offset; begin < end; begin += kPieceElements) {
    values.resize(std::min(kPieceElements, end - begin));
    RETURN_IF_ERROR(source(begin, &values));
    if (!narrow) {
      RETURN_IF_ERROR(sink(values.data(), values.size() * sizeof(float)));
      continue;
    }
    rounded.clear();
    for (const float value : values) {
      rounded.push_back(FileBF16FromFloat(value));
    }
    RETURN_IF_ERROR(sink(rounded.data(), rounded.size() * sizeof(BF16)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteWeights(const std::string& model_dir,
                          const ModelConfig& config, const std::string& dtype,
                          const std::vector<CarriedTensor>& carried,
                          const ValueSource& source) {
  if (dtype != "F32" && dtype != "BF16") {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot save weights as ", dtype, "; F32 or BF16"));
  }
  const auto narrow = [&](const Parameter& p) {
    // Vectors stay F32, as DeepSeek's own checkpoints have them.
    return dtype == "BF16" && p.shape.size() >= 2;
  };
  const std::vector<Parameter> parameters = ListParameters(config);
  std::vector<SafetensorsEntry> entries;
  for (const Parameter& p : parameters) {
    const DType type = narrow(p) ? DType::kBF16 : DType::kF32;
    entries.push_back({p.name, FileTypeName(type), p.shape, nullptr,
                       static_cast<uint64_t>(p.elements) * DTypeBytes(type)});
  }
  for (const CarriedTensor& tensor : carried) {
    entries.push_back({tensor.name, tensor.dtype, tensor.shape, nullptr,
                       tensor.bytes.size()});
  }
  RETURN_IF_ERROR(WriteSafetensors(
      model_dir + kModelFile, entries,
      [&](size_t index, const ByteSink& sink) -> absl::Status {
        if (index < parameters.size()) {
          const Parameter& p = parameters[index];
          return WriteParameter(p, narrow(p), source, sink);
        }
        const std::string& bytes = carried[index - parameters.size()].bytes;
        return sink(bytes.data(), bytes.size());
      }));
  // After the weights: a directory whose config.json names a dtype has weights
  // of that dtype.
  return WriteFileDurably(
      model_dir + "/config.json",
      ModelConfigToJson(config, dtype == "BF16" ? "bfloat16" : "float32"));
}

}  // namespace temper
