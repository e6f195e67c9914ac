// Cuts text into the pieces inside which BPE may merge: a sequence of rules,
// each isolating its matches within the pieces left by the rules before it
// (Hugging Face's Split with behaviour "Isolated"). No byte is lost or moved.
//
// Patterns come from a tokenizer.json, which is not trusted: they are compiled
// by PCRE2 (Unicode classes) and run with limits on steps, depth and memory.
// Thread-safe after Create.

#ifndef KERNELS_MODEL_PRE_TOKENIZER_H_
#define KERNELS_MODEL_PRE_TOKENIZER_H_

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace temper {

struct SplitRule {
  std::string pattern;
  bool literal = false;  // the pattern is a plain string
  bool operator==(const SplitRule&) const = default;
};

// GPT-2's pattern, which ByteLevel applies when it says use_regex.
extern const char kGpt2Pattern[];

class PreTokenizer {
 public:
  // [begin, end) byte offsets.
  using Piece = std::pair<size_t, size_t>;

  // InvalidArgument: a pattern that does not compile or that can match
  // nothing. ResourceExhausted: more than 16 rules, a pattern above 4096 bytes.
  static absl::StatusOr<std::unique_ptr<PreTokenizer>> Create(
      const std::vector<SplitRule>& rules);
  ~PreTokenizer();
  PreTokenizer(const PreTokenizer&) = delete;
  PreTokenizer& operator=(const PreTokenizer&) = delete;

  // The pieces of `text`, ascending, none empty, covering it. `text` must be
  // well-formed UTF-8 (not checked here). ResourceExhausted: a match ran past
  // PCRE2's limits; the message names the pattern.
  absl::StatusOr<std::vector<Piece>> Split(const std::string& text) const;

  const std::vector<SplitRule>& rules() const { return rules_; }

 private:
  struct Compiled;  // PCRE2's objects

  explicit PreTokenizer(std::vector<SplitRule> rules);
  absl::Status SplitPiece(size_t rule, const std::string& text, Piece piece,
                          std::vector<Piece>* out) const;

  const std::vector<SplitRule> rules_;
  std::vector<std::unique_ptr<Compiled>> compiled_;  // one a rule
};

}  // namespace temper

#endif  // KERNELS_MODEL_PRE_TOKENIZER_H_
