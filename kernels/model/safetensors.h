// safetensors files: an 8-byte little-endian header length, a JSON header, then
// the tensors' bytes. Read through a mapping with every rule of the format
// checked first, so that what is listed can be used as it is; written whole.
//
// https://github.com/huggingface/safetensors, "Format".

#ifndef KERNELS_MODEL_SAFETENSORS_H_
#define KERNELS_MODEL_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/file.h"

namespace temper {

constexpr uint64_t kSafetensorsHeaderBytesMax = 100'000'000;
constexpr uint64_t kSafetensorsFileBytesMax = uint64_t{1} << 40;

// Bytes of one element of a dtype by its name in a file ("F32", "F64", "BF16",
// "F16", "I32", "I64", "U8", "F8_E4M3"), or 0 if the name is not known.
int64_t SafetensorsDTypeBytes(const std::string& dtype);

// A tensor of a file, or one to be written. Does not own its bytes.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  const std::byte* data = nullptr;  // row-major, little-endian, any alignment
  uint64_t bytes = 0;

  int64_t elements() const;
  std::string ShapeString() const;  // "[3, 4]"
};

// One file or a sharded model. Immutable; thread-safe. Entries point into
// mappings that live as long as the object.
class Safetensors {
 public:
  // DataLoss names the file and the broken rule: truncated; header above
  // kSafetensorsHeaderBytesMax, not starting with '{', not JSON or with a key
  // twice; an unknown dtype; shape, dtype and offsets that disagree; a hole,
  // an overlap, or bytes after the last tensor.
  static absl::StatusOr<std::unique_ptr<Safetensors>> Open(
      const std::string& path);

  // model.safetensors of a directory, or what model.safetensors.index.json
  // names. DataLoss as well if index and files do not list the same tensors.
  static absl::StatusOr<std::unique_ptr<Safetensors>> OpenModel(
      const std::string& model_dir);

  // In order of the bytes; of shards one after the other.
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  // Null if there is no such tensor.
  const SafetensorsEntry* Find(const std::string& name) const;

 private:
  Safetensors() = default;
  absl::Status Append(const std::string& path);

  std::vector<std::unique_ptr<MappedFile>> files_;
  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, size_t> index_;
};

// Values of an F32 or BF16 entry. InvalidArgument for another dtype.
absl::StatusOr<std::vector<float>> DecodeFloats(const SafetensorsEntry& entry);

// Takes a tensor's next bytes, which are used until it returns.
using ByteSink = std::function<absl::Status(const void* data, uint64_t bytes)>;
// Gives the bytes of tensor `index` to `sink`, in as many pieces as it likes.
using EntryReader =
    std::function<absl::Status(size_t index, const ByteSink& sink)>;

// Writes the entries in their order, durably: `path` is the whole new file or
// untouched. Their bytes come from `read`, each entry's when it is its turn, so
// that no more of the file than a piece is in memory; `data` is not used.
// The metadata say format pt. InvalidArgument: a name twice, or bytes that do
// not match shape and dtype.
absl::Status WriteSafetensors(const std::string& path,
                              const std::vector<SafetensorsEntry>& entries,
                              const EntryReader& read);
// The same from each entry's `data`.
absl::Status WriteSafetensors(const std::string& path,
                              const std::vector<SafetensorsEntry>& entries);

}  // namespace temper

#endif  // KERNELS_MODEL_SAFETENSORS_H_
