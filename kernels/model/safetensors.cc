#include "kernels/model/safetensors.h"

#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/strict_json.h"
#include "kernels/tensor/bf16.h"
#include "kernels/tensor/dtype.h"
#include "nlohmann/json.hpp"

namespace temper {
namespace {

using Json = nlohmann::json;

static_assert(std::endian::native == std::endian::little);

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kIndexBytesMax = 64 << 20;
constexpr char kModelFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";
constexpr char kMetadata[] = "__metadata__";

absl::Status Corrupt(const std::string& path, const std::string& what) {
  return absl::DataLossError(absl::StrCat(path, ": ", what));
}

bool Exists(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0;
}

// Bytes of shape x dtype, or -1 on overflow.
int64_t ShapeBytes(const std::vector<int64_t>& shape, int64_t element) {
  int64_t bytes = element;
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) return -1;
  }
  return bytes;
}

bool ReadUnsigned(const Json& json, uint64_t* value) {
  // 2.0 and -0 are numbers to JSON and no sizes to the format.
  if (!json.is_number_unsigned()) return false;
  *value = json.get<uint64_t>();
  return *value <= static_cast<uint64_t>(INT64_MAX);
}

// One header member. `begin` receives its first byte in the data section.
absl::Status ReadEntry(const std::string& path, const std::string& name,
                       const Json& json, uint64_t data_bytes,
                       SafetensorsEntry* entry, uint64_t* begin) {
  const auto corrupt = [&](const std::string& what) {
    return Corrupt(path, absl::StrCat("tensor \"", name, "\" ", what));
  };
  // Exactly: a key that we do not know may change what the bytes mean.
  if (!json.is_object() || json.size() != 3 || !json.contains("dtype") ||
      !json.contains("shape") || !json.contains("data_offsets")) {
    return corrupt("must have exactly dtype, shape and data_offsets");
  }
  const Json& dtype = json["dtype"];
  const Json& shape = json["shape"];
  const Json& offsets = json["data_offsets"];
  if (!dtype.is_string() ||
      SafetensorsDTypeBytes(dtype.get<std::string>()) == 0) {
    return corrupt(
        absl::StrCat("has the dtype ", dtype.dump(), ", which is not known"));
  }
  entry->name = name;
  entry->dtype = dtype.get<std::string>();
  if (!shape.is_array() || shape.size() > 8) {
    return corrupt("has no shape of at most 8 dimensions");
  }
  for (const Json& size : shape) {
    uint64_t value = 0;
    if (!ReadUnsigned(size, &value)) {
      return corrupt(absl::StrCat("has the dimension ", size.dump()));
    }
    entry->shape.push_back(static_cast<int64_t>(value));
  }
  uint64_t end = 0;
  if (!offsets.is_array() || offsets.size() != 2 ||
      !ReadUnsigned(offsets[0], begin) || !ReadUnsigned(offsets[1], &end) ||
      *begin > end || end > data_bytes) {
    return corrupt(absl::StrCat("has data_offsets ", offsets.dump(), " in ",
                                data_bytes, " bytes of data"));
  }
  entry->bytes = end - *begin;
  const int64_t wanted =
      ShapeBytes(entry->shape, SafetensorsDTypeBytes(entry->dtype));
  // An overflow is -1 and equals no number of bytes.
  if (wanted < 0 || static_cast<uint64_t>(wanted) != entry->bytes) {
    return corrupt(absl::StrCat("is ", entry->dtype, entry->ShapeString(),
                                " but has ", entry->bytes, " bytes"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<SafetensorsEntry>> ReadHeader(
    const std::string& path, const MappedFile& file) {
  if (file.size() < kLengthBytes) {
    return Corrupt(path,
                   absl::StrCat("has ", file.size(), " bytes; truncated"));
  }
  uint64_t length = 0;
  std::memcpy(&length, file.data(), kLengthBytes);
  // The subtraction cannot wrap: the size was looked at above.
  if (length > kSafetensorsHeaderBytesMax ||
      length > file.size() - kLengthBytes) {
    return Corrupt(path,
                   absl::StrCat("claims a header of ", length,
                                " bytes; the file has ", file.size(),
                                ", the limit is ", kSafetensorsHeaderBytesMax));
  }
  const char* text = reinterpret_cast<const char*>(file.data() + kLengthBytes);
  // The format's own rule, so that a file has one meaning: JSON would allow
  // blanks before.
  if (length == 0 || text[0] != '{') {
    return Corrupt(path, "its header does not start with '{'");
  }
  absl::StatusOr<Json> header = ParseStrictJson(text, length, "its header");
  if (!header.ok()) {
    return Corrupt(path, std::string(header.status().message()));
  }
  const uint64_t data_bytes = file.size() - kLengthBytes - length;
  std::vector<std::pair<uint64_t, SafetensorsEntry>> found;
  for (const auto& [name, value] : header->items()) {
    if (name == kMetadata) {
      if (!value.is_object()) return Corrupt(path, "__metadata__ is no object");
      continue;
    }
    uint64_t begin = 0;
    SafetensorsEntry entry;
    RETURN_IF_ERROR(ReadEntry(path, name, value, data_bytes, &entry, &begin));
    found.emplace_back(begin, std::move(entry));
  }
  // Empty tensors share an offset with their successor and come before it.
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    if (a.first != b.first) return a.first < b.first;
    if (a.second.bytes != b.second.bytes) {
      return a.second.bytes < b.second.bytes;
    }
    return a.second.name < b.second.name;
  });
  uint64_t next = 0;
  std::vector<SafetensorsEntry> entries;
  for (auto& [begin, entry] : found) {
    // Holes could carry a second file unseen, overlaps give two tensors one
    // value.
    if (begin != next) {
      return Corrupt(path, absl::StrCat("tensor \"", entry.name,
                                        "\" begins at ", begin, " where ", next,
                                        " is next: a hole or an overlap"));
    }
    next = begin + entry.bytes;
    entry.data = file.data() + kLengthBytes + length + begin;
    entries.push_back(std::move(entry));
  }
  if (next != data_bytes) {
    return Corrupt(path, absl::StrCat("has ", data_bytes - next,
                                      " bytes after the last tensor"));
  }
  return entries;
}

// Shard files in name order, and which tensor each is said to hold.
absl::StatusOr<std::map<std::string, std::set<std::string>>> ReadIndex(
    const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kIndexBytesMax));
  ASSIGN_OR_RETURN(const Json json, ParseStrictJson(text, path));
  const auto map = json.find("weight_map");
  if (!json.is_object() || map == json.end() || !map->is_object() ||
      map->empty()) {
    return Corrupt(path, "has no weight_map");
  }
  std::map<std::string, std::set<std::string>> shards;
  for (const auto& [name, file] : map->items()) {
    // A name with a directory would let an index read what lies elsewhere.
    if (!file.is_string() || file.get<std::string>().empty() ||
        file.get<std::string>().find('/') != std::string::npos ||
        file.get<std::string>()[0] == '.') {
      return Corrupt(
          path, absl::StrCat("tensor \"", name, "\" is mapped to ", file.dump(),
                             ", which is no plain file name"));
    }
    shards[file.get<std::string>()].insert(name);
  }
  return shards;
}

}  // namespace

int64_t SafetensorsDTypeBytes(const std::string& dtype) {
  // Listed, and carried from file to file, but nothing here computes with it.
  if (dtype == "F16") return 2;
  return static_cast<int64_t>(FileTypeBytes(dtype));
}

int64_t SafetensorsEntry::elements() const {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

std::string SafetensorsEntry::ShapeString() const {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    absl::StrAppend(&text, i ? ", " : "", shape[i]);
  }
  return text + "]";
}

absl::Status Safetensors::Append(const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> file,
                   MappedFile::Open(path, kSafetensorsFileBytesMax));
  ASSIGN_OR_RETURN(std::vector<SafetensorsEntry> entries,
                   ReadHeader(path, *file));
  for (SafetensorsEntry& entry : entries) {
    if (!index_.emplace(entry.name, entries_.size()).second) {
      return Corrupt(path, absl::StrCat("tensor \"", entry.name,
                                        "\" is in another shard as well"));
    }
    entries_.push_back(std::move(entry));
  }
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Safetensors>> Safetensors::Open(
    const std::string& path) {
  std::unique_ptr<Safetensors> file(new Safetensors);
  RETURN_IF_ERROR(file->Append(path));
  return file;
}

absl::StatusOr<std::unique_ptr<Safetensors>> Safetensors::OpenModel(
    const std::string& model_dir) {
  const std::string index = absl::StrCat(model_dir, "/", kIndexFile);
  const std::string single = absl::StrCat(model_dir, "/", kModelFile);
  if (!Exists(index)) return Open(single);
  // Taking either would train on a model that the user may not mean.
  if (Exists(single)) {
    return absl::InvalidArgumentError(
        absl::StrCat(model_dir, " has both ", kModelFile, " and ", kIndexFile,
                     "; remove the one that is stale"));
  }
  using Shards = std::map<std::string, std::set<std::string>>;
  ASSIGN_OR_RETURN(const Shards shards, ReadIndex(index));
  std::unique_ptr<Safetensors> model(new Safetensors);
  for (const auto& [file, names] : shards) {
    const std::string path = absl::StrCat(model_dir, "/", file);
    const size_t before = model->entries_.size();
    RETURN_IF_ERROR(model->Append(path));
    // Both ways: a shard may lack what the index names, or hold what it does
    // not, and then one of the two is of another model.
    std::set<std::string> held;
    for (size_t i = before; i < model->entries_.size(); ++i) {
      held.insert(model->entries_[i].name);
    }
    for (const std::string& name : names) {
      if (held.erase(name) == 0) {
        return Corrupt(path, absl::StrCat("tensor \"", name, "\" of ",
                                          kIndexFile, " is not in it"));
      }
    }
    if (!held.empty()) {
      return Corrupt(path, absl::StrCat("tensor \"", *held.begin(),
                                        "\" is not in ", kIndexFile));
    }
  }
  return model;
}

const SafetensorsEntry* Safetensors::Find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &entries_[found->second];
}

absl::StatusOr<std::vector<float>> DecodeFloats(const SafetensorsEntry& entry) {
  const size_t count = static_cast<size_t>(entry.elements());
  std::vector<float> values(count);
  if (entry.dtype == "F32") {
    if (count > 0) std::memcpy(values.data(), entry.data, entry.bytes);
  } else if (entry.dtype == "BF16") {
    for (size_t i = 0; i < count; ++i) {
      BF16 stored;
      // memcpy, for a tensor of a file may begin at any byte.
      std::memcpy(&stored, entry.data + 2 * i, 2);
      values[i] = FloatFromFileBF16(stored);
    }
  } else {
    return absl::InvalidArgumentError(absl::StrCat("tensor \"", entry.name,
                                                   "\" is ", entry.dtype,
                                                   "; F32 or BF16 is needed"));
  }
  return values;
}

namespace {

// The 8 bytes of its length and the header itself.
absl::StatusOr<std::string> MakeHeader(
    const std::string& path, const std::vector<SafetensorsEntry>& entries) {
  Json header = Json::object();
  uint64_t offset = 0;
  for (const SafetensorsEntry& entry : entries) {
    const int64_t bytes =
        ShapeBytes(entry.shape, SafetensorsDTypeBytes(entry.dtype));
    if (entry.name == kMetadata || header.contains(entry.name) || bytes < 0 ||
        SafetensorsDTypeBytes(entry.dtype) == 0 ||
        static_cast<uint64_t>(bytes) != entry.bytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": tensor \"", entry.name, "\" (", entry.dtype,
          entry.ShapeString(), ", ", entry.bytes,
          " bytes) occurs twice or its bytes do not match its shape"));
    }
    header[entry.name] = {{"dtype", entry.dtype},
                          {"shape", entry.shape},
                          {"data_offsets", {offset, offset + entry.bytes}}};
    offset += entry.bytes;
  }
  // Row-major, which Hugging Face's readers ask about by the name of PyTorch.
  header[kMetadata] = {{"format", "pt"}};
  std::string text = header.dump();
  // The format's own writer aligns the data to 8 bytes with spaces.
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  std::string bytes(kLengthBytes, '\0');
  std::memcpy(bytes.data(), &length, kLengthBytes);
  return bytes + text;
}

}  // namespace

absl::Status WriteSafetensors(const std::string& path,
                              const std::vector<SafetensorsEntry>& entries,
                              const EntryReader& read) {
  ASSIGN_OR_RETURN(const std::string header, MakeHeader(path, entries));
  ASSIGN_OR_RETURN(const auto file, DurableFile::Create(path));
  RETURN_IF_ERROR(file->Append(header.data(), header.size()));
  for (size_t i = 0; i < entries.size(); ++i) {
    uint64_t written = 0;
    RETURN_IF_ERROR(read(i, [&](const void* data, uint64_t bytes) {
      written += bytes;
      return file->Append(data, bytes);
    }));
    if (written != entries[i].bytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": tensor \"", entries[i].name, "\" came as ",
                       written, " bytes, not ", entries[i].bytes));
    }
  }
  return file->Commit();
}

absl::Status WriteSafetensors(const std::string& path,
                              const std::vector<SafetensorsEntry>& entries) {
  return WriteSafetensors(
      path, entries, [&entries](size_t index, const ByteSink& sink) {
        return sink(entries[index].data, entries[index].bytes);
      });
}

}  // namespace temper
