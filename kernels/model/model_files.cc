#include "kernels/model/model_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

// Without it no text becomes tokens, so its absence is an error and its size
// counts against nothing.
constexpr char kTokenizer[] = "tokenizer.json";

// Weights in other formats would be the untrained model's; config.json and
// manifest.json are written anew; what a killed process left of a file is
// nobody's.
bool IsLeftOut(const std::string& name) {
  static constexpr const char* kWeights[] = {
      ".safetensors", ".index.json", ".bin",  ".pt",   ".pth", ".ckpt",
      ".h5",          ".msgpack",    ".onnx", ".gguf", ".npz"};
  return name[0] == '.' || name == "config.json" || name == "manifest.json" ||
         DurableFile::IsRemainder(name) ||
         std::any_of(
             std::begin(kWeights), std::end(kWeights),
             [&name](const char* end) { return absl::EndsWith(name, end); });
}

// Those of `dir` that are carried. What a model cannot do without is the first,
// and others take none of its room.
absl::StatusOr<std::vector<std::string>> ListModelFiles(
    const std::string& dir) {
  ASSIGN_OR_RETURN(std::vector<std::string> names, ListDirectory(dir));
  std::stable_partition(
      names.begin(), names.end(),
      [](const std::string& name) { return name == kTokenizer; });
  std::vector<std::string> carried;
  uint64_t total = 0;
  for (const std::string& name : names) {
    if (IsLeftOut(name)) continue;
    const std::string path = absl::StrCat(dir, "/", name);
    struct stat info;
    if (stat(path.c_str(), &info) != 0) {
      // A cache that was cleaned leaves links to nothing; whoever needs the
      // file asks for it by name.
      if (errno != ENOENT && errno != ELOOP) {
        return FileError("stat", path, errno);
      }
      LOG(WARNING)
          << path
          << " is a link to nothing and will not be beside the trained "
             "model: put the file there, or remove the link";
      continue;
    }
    // Directories mostly hold weights in other formats (onnx/, original/), but
    // not always (additional_chat_templates/): no name says which.
    if (!S_ISREG(info.st_mode)) {
      LOG(INFO) << path
                << " is no file and will not be beside the trained model";
      continue;
    }
    const auto bytes = static_cast<uint64_t>(info.st_size);
    if (bytes > kModelFileBytesMax || bytes > kModelFilesBytesMax - total) {
      LOG(WARNING) << path << " has " << bytes
                   << " bytes and will not be beside the trained model: files "
                      "up to "
                   << kModelFileBytesMax << " bytes are, and "
                   << kModelFilesBytesMax << " together";
      continue;
    }
    if (name != kTokenizer) total += bytes;
    carried.push_back(name);
  }
  return carried;
}

absl::Status CopyFile(const std::string& from, const std::string& to) {
  ASSIGN_OR_RETURN(const auto file, DurableFile::Create(to));
  absl::Status appended;
  RETURN_IF_ERROR(
      ReadPieces(from, kModelFileBytesMax, [&](const char* data, size_t size) {
        // The reader knows no failing piece: the first failure is kept, and the
        // rest of the file read for nothing, at most once.
        appended.Update(file->Append(data, size));
      }));
  RETURN_IF_ERROR(appended);
  return file->Commit();
}

}  // namespace

absl::StatusOr<ModelFiles> ReadModelFiles(const std::string& dir) {
  ASSIGN_OR_RETURN(const auto names, ListModelFiles(dir));
  ModelFiles files;
  for (const std::string& name : names) {
    ASSIGN_OR_RETURN(files[name], ReadFile(absl::StrCat(dir, "/", name),
                                           kModelFileBytesMax));
  }
  return files;
}

absl::Status CopyModelFiles(const std::string& from, const std::string& to) {
  ASSIGN_OR_RETURN(const auto names, ListModelFiles(from));
  if (names.empty() || names[0] != kTokenizer) {
    return absl::NotFoundError(
        absl::StrCat(from, " has no ", kTokenizer, " of at most ",
                     kModelFileBytesMax, " bytes; put the model's own there"));
  }
  for (const std::string& name : names) {
    RETURN_IF_ERROR(
        CopyFile(absl::StrCat(from, "/", name), absl::StrCat(to, "/", name)));
  }
  return absl::OkStatus();
}

// Another tokenizer makes all that describes the old one wrong.
void DropTokenizerFiles(ModelFiles* files) {
  std::erase_if(*files, [](const auto& file) {
    for (const char* begin : {"tokenizer", "special_tokens_map", "added_tokens",
                              "vocab.", "merges."}) {
      if (absl::StartsWith(file.first, begin)) return true;
    }
    return false;
  });
}

absl::Status WriteModelFiles(const ModelFiles& files, const std::string& dir) {
  for (const auto& [name, bytes] : files) {
    RETURN_IF_ERROR(WriteFileDurably(absl::StrCat(dir, "/", name), bytes));
  }
  return absl::OkStatus();
}

}  // namespace temper
