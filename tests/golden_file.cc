#include "tests/golden_file.h"

#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/safetensors.h"

namespace temper {
namespace {

template <typename T>
std::vector<double> Widen(const SafetensorsEntry& entry) {
  std::vector<double> values(entry.bytes / sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    T value;
    std::memcpy(&value, entry.data + i * sizeof(T), sizeof(T));
    values[i] = static_cast<double>(value);
  }
  return values;
}

template <typename T>
std::string Narrow(const std::vector<double>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  for (size_t i = 0; i < values.size(); ++i) {
    const T value = static_cast<T>(values[i]);
    std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
  }
  return bytes;
}

}  // namespace

absl::StatusOr<GoldenTensors> ReadGoldenFile(const std::string& path) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Safetensors> file,
                   Safetensors::Open(path));
  GoldenTensors tensors;
  for (const SafetensorsEntry& entry : file->entries()) {
    GoldenTensor tensor;
    tensor.dtype = entry.dtype;
    tensor.shape = entry.shape;
    if (entry.dtype == "F32") {
      tensor.values = Widen<float>(entry);
    } else if (entry.dtype == "F64") {
      tensor.values = Widen<double>(entry);
    } else if (entry.dtype == "I32") {
      tensor.values = Widen<int32_t>(entry);
    } else if (entry.dtype == "I64") {
      tensor.values = Widen<int64_t>(entry);
    } else if (entry.dtype == "U8" || entry.dtype == "F8_E4M3") {
      tensor.values = Widen<uint8_t>(entry);
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": tensor ", entry.name, " is ", entry.dtype));
    }
    tensors.emplace(entry.name, std::move(tensor));
  }
  return tensors;
}

absl::Status WriteGoldenFile(const std::string& path,
                             const GoldenTensors& tensors) {
  std::vector<std::string> bytes;
  bytes.reserve(tensors.size());
  std::vector<SafetensorsEntry> entries;
  for (const auto& [name, tensor] : tensors) {
    bytes.push_back(tensor.dtype == "F32"   ? Narrow<float>(tensor.values)
                    : tensor.dtype == "I32" ? Narrow<int32_t>(tensor.values)
                                            : Narrow<double>(tensor.values));
    entries.push_back({name, tensor.dtype, tensor.shape,
                       reinterpret_cast<const std::byte*>(bytes.back().data()),
                       bytes.back().size()});
  }
  return WriteSafetensors(path, entries);
}

}  // namespace temper
