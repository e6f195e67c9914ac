// tokenizer.json in the Hugging Face layout, for byte-level BPE: model BPE,
// pre_tokenizer ByteLevel alone or a Sequence of Split, Digits and ByteLevel,
// decoder ByteLevel, no normaliser. The file is not trusted: what it holds is
// checked, sizes before memory is taken, and what we do not implement is
// refused by its name rather than ignored.

#ifndef KERNELS_MODEL_TOKENIZER_FILE_H_
#define KERNELS_MODEL_TOKENIZER_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/tokenizer.h"

namespace temper {

inline constexpr size_t kTokenizerFileBytesMax = 64 << 20;

// InvalidArgument names the field, token, merge or component at fault: a key
// or token that is there twice, two tokens of one id, an id out of range, a
// merge whose parts are missing, how many tokens no merge makes (unless
// ignore_merges is set) and the first, an unknown pre-tokenizer, normaliser,
// decoder or model type. ResourceExhausted: a limit.
absl::StatusOr<TokenizerSpec> ParseTokenizerJson(const std::string& json);

// As Tokenizer::Create of what ParseTokenizerJson finds in the file, but a
// limit is InvalidArgument: the file's fault; messages begin with `path` or
// name it. NotFound and more of kernels/base/file.h: the file cannot be read.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(
    const std::string& path);

// InvalidArgument if `tokenizer` has ids that a model of `vocab_size` lacks.
absl::Status CheckVocabulary(const Tokenizer& tokenizer, int64_t vocab_size);

// The file for `spec`: the same bytes for equal specs, and a spec that
// Tokenizer::Create takes comes back equal from ParseTokenizerJson.
std::string TokenizerJson(const TokenizerSpec& spec);

}  // namespace temper

#endif  // KERNELS_MODEL_TOKENIZER_FILE_H_
