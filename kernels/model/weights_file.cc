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
#include "kernels/model/scaled_codes.h"
#include "kernels/tensor/bf16.h"
#include "kernels/tensor/dtype.h"
#include "kernels/tensor/fp8.h"
#include "kernels/tensor/numerics.h"

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

absl::StatusOr<const SafetensorsEntry*> FindTensor(
    const std::string& name, const std::vector<int64_t>& shape,
    const Safetensors& file) {
  const SafetensorsEntry* entry = file.Find(name);
  if (entry == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"", name, "\" is missing"));
  }
  if (entry->shape != shape) {
    SafetensorsEntry wanted;
    wanted.shape = shape;
    return WrongTensor(
        *entry, absl::StrCat("must have the shape ", wanted.ShapeString()));
  }
  return entry;
}

// Of the tensor `entry` of a parameter; null where it has none.
absl::StatusOr<const SafetensorsEntry*> FindScales(
    const Parameter& parameter, const SafetensorsEntry& entry,
    const Safetensors& file) {
  constexpr DType kCodes = DType::kF8E4M3;
  if (entry.dtype != FileTypeName(kCodes) ||
      PublishedType(parameter, kFp8) != kCodes) {
    return nullptr;
  }
  ASSIGN_OR_RETURN(const SafetensorsEntry* scales,
                   FindTensor(ScalesName(parameter.name),
                              ScalesShape(parameter.shape), file));
  if (scales->dtype == FileTypeName(DType::kF32)) return scales;
  return WrongTensor(*scales, "must be F32, as scales are");
}

// The tensors that no parameter takes, all of MTP layers that are whole.
absl::StatusOr<std::vector<const SafetensorsEntry*>> FindCarried(
    const ModelConfig& config, const std::set<const SafetensorsEntry*>& taken,
    const Safetensors& file) {
  std::vector<const SafetensorsEntry*> carried;
  std::set<int64_t> missing;
  for (int64_t i = 0; i < config.num_nextn_predict_layers; ++i) {
    missing.insert(config.num_hidden_layers + i);
  }
  for (const SafetensorsEntry& entry : file.entries()) {
    if (taken.count(&entry) > 0) continue;
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
  std::set<const SafetensorsEntry*> taken;
  for (const Parameter& parameter : weights.parameters_) {
    const auto found =
        FindTensor(parameter.name, parameter.shape, *weights.file_);
    if (!found.ok()) return InDirectory(model_dir, found.status());
    const auto scales = FindScales(parameter, **found, *weights.file_);
    if (!scales.ok()) return InDirectory(model_dir, scales.status());
    weights.found_.push_back(*found);
    weights.scales_.push_back(*scales);
    taken.insert({*found, *scales});
  }
  auto carried = FindCarried(config, taken, *weights.file_);
  if (!carried.ok()) return InDirectory(model_dir, carried.status());
  weights.carried_ = *std::move(carried);
  return weights;
}

absl::StatusOr<StoredCodes> WeightsFile::CountCodes() const {
  StoredCodes stored;
  for (const SafetensorsEntry* const scales : scales_) {
    if (scales == nullptr) continue;
    const absl::Status checked = CheckScales(*scales);
    if (!checked.ok()) return InDirectory(model_dir_, checked);
    ++stored.matrices;
    if (!AreQuantisersScales(*scales)) ++stored.of_other_scales;
  }
  return stored;
}

absl::Status WeightsFile::Read(const Reader& reader) const {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const SafetensorsEntry& entry = *found_[i];
    const auto values = scales_[i] == nullptr
                            ? DecodeFloats(entry)
                            : DecodeScaledCodes(entry, *scales_[i]);
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

// A tensor to be written: a parameter's values in `type`, or its scales.
struct StoredTensor {
  const Parameter* parameter = nullptr;
  DType type = DType::kF32;
  bool scales = false;
};

DType StoredType(const Parameter& parameter, const std::string& dtype) {
  if (dtype == FileTypeName(DType::kF8E4M3)) {
    return PublishedType(parameter, kFp8);
  }
  // Vectors stay F32, as DeepSeek's own checkpoints have them.
  return dtype == FileTypeName(DType::kBF16) && parameter.shape.size() >= 2
             ? DType::kBF16
             : DType::kF32;
}

// Writes parameters' bytes, a piece at a time, so that no copy of a large
// tensor is made on its way to the file.
class ParameterWriter {
 public:
  explicit ParameterWriter(const ValueSource& source) : source_(source) {}

  absl::Status Write(const StoredTensor& tensor, const ByteSink& sink) {
    const Parameter& p = *tensor.parameter;
    // They were made with the codes, which came before.
    if (tensor.scales) return Give(scales_, sink);
    scales_.clear();
    int64_t piece = kPieceElements;
    if (tensor.type == DType::kF8E4M3) {
      // Whole squares.
      const int64_t squares = kScaleBlock * p.shape[1];
      piece = std::max<int64_t>(1, piece / squares) * squares;
    }
    const int64_t end = p.offset + p.elements;
    for (int64_t begin = p.offset; begin < end; begin += piece) {
      values_.resize(std::min(piece, end - begin));
      RETURN_IF_ERROR(source_(begin, &values_));
      RETURN_IF_ERROR(WritePiece(p, tensor.type, sink));
    }
    return absl::OkStatus();
  }

 private:
  template <typename T>
  static absl::Status Give(const std::vector<T>& piece, const ByteSink& sink) {
    return sink(piece.data(), piece.size() * sizeof(T));
  }

  absl::Status WritePiece(const Parameter& p, DType type,
                          const ByteSink& sink) {
    if (type == DType::kF32) return Give(values_, sink);
    if (type == DType::kBF16) {
      halves_.clear();
      for (const float x : values_) halves_.push_back(FileBF16FromFloat(x));
      return Give(halves_, sink);
    }
    codes_.clear();
    const absl::Status made =
        AppendScaledCodes(values_, p.shape[1], &codes_, &scales_);
    if (made.ok()) return Give(codes_, sink);
    return absl::Status(
        made.code(), absl::StrCat("tensor \"", p.name, "\" ", made.message()));
  }

  const ValueSource& source_;
  std::vector<float> values_;
  std::vector<BF16> halves_;
  std::vector<F8E4M3> codes_;
  std::vector<float> scales_;  // of the last parameter's codes
};

}  // namespace

absl::Status WriteWeights(const std::string& model_dir,
                          const ModelConfig& config, const std::string& dtype,
                          const std::vector<CarriedTensor>& carried,
                          const ValueSource& source) {
  if (dtype != "F32" && dtype != "BF16" && dtype != "F8_E4M3") {
    return absl::InvalidArgumentError(absl::StrCat(
        "cannot save weights as ", dtype, "; F32, BF16 or F8_E4M3"));
  }
  const std::vector<Parameter> parameters = ListParameters(config);
  std::vector<StoredTensor> tensors;
  std::vector<SafetensorsEntry> entries;
  const auto add = [&](const std::string& name,
                       const std::vector<int64_t>& shape,
                       const StoredTensor& tensor) {
    tensors.push_back(tensor);
    entries.push_back({name, FileTypeName(tensor.type), shape, nullptr, 0});
    entries.back().bytes = static_cast<uint64_t>(entries.back().elements()) *
                           DTypeBytes(tensor.type);
  };
  for (const Parameter& p : parameters) {
    const DType type = StoredType(p, dtype);
    add(p.name, p.shape, {&p, type});
    if (type != DType::kF8E4M3) continue;
    add(ScalesName(p.name), ScalesShape(p.shape), {&p, DType::kF32, true});
  }
  for (const CarriedTensor& tensor : carried) {
    entries.push_back({tensor.name, tensor.dtype, tensor.shape, nullptr,
                       tensor.bytes.size()});
  }
  ParameterWriter writer(source);
  RETURN_IF_ERROR(WriteSafetensors(
      model_dir + kModelFile, entries,
      [&](size_t index, const ByteSink& sink) -> absl::Status {
        if (index < tensors.size()) return writer.Write(tensors[index], sink);
        const std::string& bytes = carried[index - tensors.size()].bytes;
        return sink(bytes.data(), bytes.size());
      }));
  // After the weights: a directory whose config.json names a dtype has weights
  // of that dtype.
  return WriteFileDurably(model_dir + "/config.json",
                          ModelConfigToJson(config, dtype));
}

}  // namespace temper
