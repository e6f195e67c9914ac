// Learns a byte-level BPE vocabulary from texts, deterministically: the most
// frequent pair is merged first, ties go to the pair whose (left, right) bytes
// come first. For small vocabularies: the time is merges x distinct bytes.

#ifndef KERNELS_MODEL_BPE_TRAINER_H_
#define KERNELS_MODEL_BPE_TRAINER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/model/chat/tokens.h"
#include "kernels/model/tokenizer.h"

namespace temper {

struct TrainingText {
  std::string text;
  int64_t weight = 1;  // as if it were there this many times
};

struct BpeTrainerOptions {
  // Ids in all: leading tokens, the 256 bytes in byte order, merged tokens in
  // order of merging, trailing tokens.
  int32_t vocab_size = 512;
  std::vector<std::string> leading_tokens = V32LeadingTokens();
  std::vector<std::string> trailing_tokens = V32TrailingTokens();
  // Digits are one token each, as are the signs of arithmetic and a letter that
  // a digit follows: a number, an expression or a name like "k7" then has one
  // spelling in tokens wherever it stands.
  std::vector<SplitRule> rules = {{R"(\p{L}(?=\p{N})|[\p{N}+*()\-])"}};
  size_t token_bytes_max = 64;
  // Asked after each merge, where there is one: false stops.
  std::function<bool()> go_on;
};

// Special tokens in the texts part what stands before and after them and are
// not learnt from. Merging stops at vocab_size, or earlier when no pair weighs
// at least 2; the trailing tokens follow what there is.
// InvalidArgument: a text that is not UTF-8, a weight below 1, a vocab_size
// that the bytes and special tokens alone exceed, a bad pattern.
// ResourceExhausted: vocab_size above 65536, more than 64 MiB of text.
// Cancelled: go_on was false.
absl::StatusOr<TokenizerSpec> TrainBpe(const std::vector<TrainingText>& texts,
                                       const BpeTrainerOptions& options);

}  // namespace temper

#endif  // KERNELS_MODEL_BPE_TRAINER_H_
