#include "proto/wire/weight_wire.h"

#include "absl/strings/str_cat.h"
#include "kernels/base/checksum.h"
#include "kernels/tensor/dtype.h"

namespace temper {
namespace {

constexpr size_t kSha256Bytes = 32;

}  // namespace

uint64_t WeightTypeBytes(const std::string& dtype) {
  // Weights are published in these; the other names are of files alone.
  for (const DType type : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
    if (dtype == FileTypeName(type)) return DTypeBytes(type);
  }
  return 0;
}

absl::Status CheckWeightManifest(const WeightManifest& manifest,
                                 const std::string& run, uint64_t version,
                                 uint64_t bytes_max) {
  const auto invalid = [&](const std::string& what) {
    return absl::InvalidArgumentError(
        absl::StrCat("manifest of weight version ", version, ": ", what));
  };
  if (manifest.wire_version() != kWeightWireVersion || manifest.run() != run ||
      manifest.version() != version) {
    return invalid(absl::StrCat("it is wire version ", manifest.wire_version(),
                                ", run \"", manifest.run(), "\", version ",
                                manifest.version()));
  }
  if (manifest.sha256().size() != kSha256Bytes ||
      manifest.tensors_size() > kWeightTensorsMax) {
    return invalid("it has no SHA-256, or too many tensors");
  }
  // Without gaps and in order: every byte has one tensor, so the checksums
  // cover all of them.
  uint64_t offset = 0;
  for (const WeightTensor& tensor : manifest.tensors()) {
    uint64_t size = WeightTypeBytes(tensor.dtype());
    for (const int64_t dimension : tensor.shape()) {
      // Divided, not multiplied: a product of dimensions may overflow into a
      // small number.
      if (dimension < 1 ||
          size > bytes_max / static_cast<uint64_t>(dimension)) {
        size = 0;
        break;
      }
      size *= static_cast<uint64_t>(dimension);
    }
    if (size == 0 || tensor.size_bytes() != size || tensor.offset() != offset) {
      return invalid(absl::StrCat("tensor ", tensor.name(), " of type ",
                                  tensor.dtype(), " has ", tensor.size_bytes(),
                                  " bytes at ", tensor.offset()));
    }
    offset += size;
    if (offset > bytes_max) break;
  }
  if (offset != manifest.total_bytes() || offset == 0 || offset > bytes_max) {
    return invalid(absl::StrCat("total_bytes ", manifest.total_bytes(),
                                " with ", offset, " in tensors; the limit is ",
                                bytes_max));
  }
  return absl::OkStatus();
}

absl::Status VerifyWeights(const WeightManifest& manifest, const void* bytes) {
  const auto* data = static_cast<const char*>(bytes);
  for (const WeightTensor& tensor : manifest.tensors()) {
    // Tensor by tensor first: a damaged one has a name, where the digest of the
    // whole only says that there is one.
    if (Crc32c(data + tensor.offset(), tensor.size_bytes()) !=
        tensor.crc32c()) {
      return absl::DataLossError(
          absl::StrCat("weight version ", manifest.version(), ": tensor ",
                       tensor.name(), " arrived damaged"));
    }
  }
  if (Sha256Of(data, manifest.total_bytes()) != manifest.sha256()) {
    return absl::DataLossError(
        absl::StrCat("weight version ", manifest.version(),
                     ": the SHA-256 of all its bytes is another"));
  }
  return absl::OkStatus();
}

}  // namespace temper
