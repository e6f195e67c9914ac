// Byte-level BPE, as in a Hugging Face tokenizer.json (tokenizer_file.h reads
// and writes that file). Encoding text and decoding ids are exact inverses on
// well-formed UTF-8 that is encoded with special-token matching off.
//
// Special tokens (HF's added_tokens) are never the product of a merge: a text
// holds one only if the caller says that it may. Text that others wrote (user,
// tool, file) is encoded with SpecialMatching::kOff, so it cannot forge one.
//
// Thread-safe after Create; nothing is copied from the caller's strings.

#ifndef KERNELS_MODEL_TOKENIZER_H_
#define KERNELS_MODEL_TOKENIZER_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/pre_tokenizer.h"

namespace temper {

// Everything a tokenizer is made from.
struct TokenizerSpec {
  struct Added {
    int32_t id = 0;
    std::string content;
    // Hugging Face's flag (shown to users or not); matching ignores it.
    bool special = true;
    bool operator==(const Added&) const = default;
  };

  // The bytes of each id, empty where the id is an added token or unused.
  std::vector<std::string> tokens;
  // Pairs of ids, most eager first. The merged bytes are a token too.
  std::vector<std::pair<int32_t, int32_t>> merges;
  std::vector<Added> added;
  std::vector<SplitRule> rules;
  // A piece that is a token is that token, whatever the merges say.
  bool ignore_merges = false;

  bool operator==(const TokenizerSpec&) const = default;
};

inline constexpr int32_t kTokenizerIdsMax = 1 << 20;
inline constexpr size_t kTokenBytesMax = 4096;
inline constexpr size_t kEncodeBytesMax = 16 << 20;

enum class SpecialMatching { kOff, kOn };

class Tokenizer {
 public:
  // InvalidArgument, naming the id, token or merge: a byte without a token,
  // two tokens of the same bytes, an id used twice or out of range, a merge
  // whose parts or result are missing or that is there twice, a bad pattern.
  // ResourceExhausted: one of the limits above.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(TokenizerSpec spec);

  // The ids of `text`. With kOn, special tokens are found first, leftmost and
  // then longest. InvalidArgument: not UTF-8 (with the offset).
  // ResourceExhausted: above kEncodeBytesMax, or a pattern's match limit.
  absl::StatusOr<std::vector<int32_t>> Encode(const std::string& text,
                                              SpecialMatching matching) const;

  // The bytes of the ids, special tokens as their text. May be no UTF-8.
  // InvalidArgument: an id without a token.
  absl::StatusOr<std::string> DecodeBytes(
      const std::vector<int32_t>& ids) const;

  // As DecodeBytes, ill-formed parts replaced by U+FFFD: for people.
  absl::StatusOr<std::string> Decode(const std::vector<int32_t>& ids) const;

  // The bytes of one id, or nullptr if it has no token.
  const std::string* TokenBytes(int32_t id) const;

  std::optional<int32_t> SpecialId(const std::string& content) const;
  bool IsSpecial(int32_t id) const;

  // Highest id + 1. A model's vocab_size must be at least this.
  int32_t vocab_size() const { return static_cast<int32_t>(bytes_.size()); }
  const TokenizerSpec& spec() const { return spec_; }

 private:
  struct Merge {
    int32_t rank;
    int32_t id;
  };

  Tokenizer() = default;
  absl::Status AddTokens();
  absl::Status AddSpecials();
  absl::Status AddMerges();
  const Merge* FindMerge(int32_t left, int32_t right) const;
  absl::Status EncodePlain(const std::string& text,
                           std::vector<int32_t>* ids) const;
  void EncodePiece(const std::string& piece, std::vector<int32_t>* ids) const;

  TokenizerSpec spec_;
  std::vector<std::string> bytes_;  // by id, special tokens included
  std::vector<bool> is_special_;    // by id
  std::array<int32_t, 256> byte_ids_;
  absl::flat_hash_map<std::string, int32_t> ids_;  // no special tokens
  absl::flat_hash_map<std::string, int32_t> specials_;
  // Indices into spec_.added by first byte, longest content first.
  std::array<std::vector<size_t>, 256> specials_by_byte_;
  absl::flat_hash_map<uint64_t, Merge> merges_;
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
};

// Decodes a stream of ids, holding back bytes that do not yet end a character.
// The concatenation of all Add and Finish results equals Tokenizer::Decode.
// Not thread-safe; `tokenizer` must outlive it.
class IncrementalDecoder {
 public:
  explicit IncrementalDecoder(const Tokenizer* tokenizer)
      : tokenizer_(tokenizer) {}

  // The text that became certain with `id`. InvalidArgument: an id without a
  // token; the state is unchanged.
  absl::StatusOr<std::string> Add(int32_t id);

  // The rest: U+FFFD if a character was cut short. The decoder is as new.
  std::string Finish();

 private:
  const Tokenizer* const tokenizer_;
  std::string pending_;  // at most 3 bytes between calls
};

}  // namespace temper

#endif  // KERNELS_MODEL_TOKENIZER_H_
