// What lies in a model's directory beside its config.json and its weights:
// tokenizer.json, tokenizer_config.json, generation_config.json, a chat
// template, licences, code that other readers run. A model that is trained on
// gets them as they were, byte for byte, also when its first directory is gone.
//
// Functions without state; thread-safe as far as the file system is.

#ifndef KERNELS_MODEL_MODEL_FILES_H_
#define KERNELS_MODEL_MODEL_FILES_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace temper {

inline constexpr uint64_t kModelFileBytesMax = 64 << 20;  // of one
// Of all but tokenizer.json together, taken by name.
inline constexpr uint64_t kModelFilesBytesMax = 256 << 20;

// Bytes by name.
using ModelFiles = std::map<std::string, std::string>;

// The regular files of `dir`, links to such included. Left out are config.json
// and manifest.json, which are written anew; weights in any format and their
// indices, which training makes untrue; names that begin with a dot; and, each
// with a line in the log, directories, links to nothing, and what exceeds a
// limit above.
absl::StatusOr<ModelFiles> ReadModelFiles(const std::string& dir);

// Copies the same files, durably, into the existing directory `to`; of them no
// more than a piece is in memory. NotFound if there is no tokenizer.json that
// is not too large: then nothing is copied.
absl::Status CopyModelFiles(const std::string& from, const std::string& to);

// Removes the files that describe a tokenizer, for a model that gets another.
void DropTokenizerFiles(ModelFiles* files);

// Writes all of them, durably, into the existing directory `dir`.
absl::Status WriteModelFiles(const ModelFiles& files, const std::string& dir);

}  // namespace temper

#endif  // KERNELS_MODEL_MODEL_FILES_H_
