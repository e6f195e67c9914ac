#include "kernels/model/model_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

bool IsLeftOut(const std::string& name) {
  static constexpr const char* kWeights[] = {
      ".safetensors", ".index.json", ".bin",  ".pt",   ".pth", ".ckpt",
      ".h5",          ".msgpack",    ".onnx", ".gguf", ".npz"};
  return name[0] == '.' || name == "config.json" || name == "manifest.json" ||
         std::any_of(
             std::begin(kWeights), std::end(kWeights),
             [&name](const char* end) { return absl::EndsWith(name, end); });
}

}  // namespace

absl::StatusOr<ModelFiles> ReadModelFiles(const std::string& dir) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(dir));
  ModelFiles files;
  uint64_t total = 0;
  for (const std::string& name : names) {
    if (IsLeftOut(name)) continue;
    const std::string path = absl::StrCat(dir, "/", name);
    struct stat info;
    if (stat(path.c_str(), &info) != 0) return FileError("stat", path, errno);
    if (!S_ISREG(info.st_mode)) continue;
    const auto bytes = static_cast<uint64_t>(info.st_size);
    if (bytes > kModelFileBytesMax || bytes > kModelFilesBytesMax - total) {
      LOG(WARNING) << path << " has " << bytes
                   << " bytes and will not be beside the trained model: files "
                      "up to "
                   << kModelFileBytesMax << " bytes are, and "
                   << kModelFilesBytesMax << " together";
      continue;
    }
    ASSIGN_OR_RETURN(std::string text, ReadFile(path, kModelFileBytesMax));
    total += text.size();
    files[name] = std::move(text);
  }
  return files;
}

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
