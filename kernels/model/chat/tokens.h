// The special tokens of DeepSeek-V3.2's chat and tool format, by their text.
// Their ids are the tokenizer's business; BOS is 0 and EOS is 1 in V3.2's own.

#ifndef KERNELS_MODEL_CHAT_TOKENS_H_
#define KERNELS_MODEL_CHAT_TOKENS_H_

#include <string>
#include <vector>

namespace temper {

inline constexpr char kBosToken[] = "<｜begin▁of▁sentence｜>";
inline constexpr char kEosToken[] = "<｜end▁of▁sentence｜>";
inline constexpr char kPadToken[] = "<｜▁pad▁｜>";
inline constexpr char kUserToken[] = "<｜User｜>";
inline constexpr char kAssistantToken[] = "<｜Assistant｜>";
inline constexpr char kThinkToken[] = "<think>";
inline constexpr char kThinkEndToken[] = "</think>";
inline constexpr char kDsmlToken[] = "｜DSML｜";

// First ids of a V3.2 vocabulary: BOS 0, EOS 1, padding 2.
inline std::vector<std::string> V32LeadingTokens() {
  return {kBosToken, kEosToken, kPadToken};
}

// Last ids of a V3.2 vocabulary.
inline std::vector<std::string> V32TrailingTokens() {
  return {kThinkToken, kThinkEndToken, kUserToken, kAssistantToken, kDsmlToken};
}

}  // namespace temper

#endif  // KERNELS_MODEL_CHAT_TOKENS_H_
