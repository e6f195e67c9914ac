// The parts that a reward is the sum of, a row each: the key of its weight, and
// how it is made. Assistants' messages within the prompt are not the model's:
// no part looks at them. What they pay:
//
//   rule      1 if the verdict is `correct`, else 0.
//   format    1 if the episode ended by itself with a message of the assistant
//             that calls no tool, has content, and neither content nor
//             reasoning holds a textual marker of the chat format; else 0.
//   length    0 up to length_target_tokens sampled tokens, then falling
//             linearly to -1 at twice as many: -min(1, (n - target) / target).
//   language  DeepSeek-R1's language consistency: the share of the words of
//             the reasoning, or where the model does not think the content,
//             that are of the target language, words_target / words. The target
//             is the language of the task: the script most words of the user's
//             messages are written in (Latin without any). A word is a run of
//             letters, and their marks, of one script by Unicode's tables; a
//             Han, kana or Hangul character is a word of its own; in a Japanese
//             task Han and kana are one language. Digits of any script,
//             punctuation and symbols are no words. No words: 0. As format, 0
//             if the episode did not end by itself, so that broken text is
//             never paid where whole text is not. Languages of one script
//             (English, Vietnamese) and scripts out of use are not told apart.
//
// Functions without state; thread-safe.

#ifndef REWARDS_REWARD_PARTS_H_
#define REWARDS_REWARD_PARTS_H_

#include <memory>

#include "proto/config.pb.h"
#include "rewards/reward.h"

namespace temper {

// Each of a whole configuration.
std::unique_ptr<RewardFunction> NewRuleReward(const RewardConfig& config);
std::unique_ptr<RewardFunction> NewFormatReward(const RewardConfig& config);
// Null without a length_target_tokens.
std::unique_ptr<RewardFunction> NewLengthReward(const RewardConfig& config);
std::unique_ptr<RewardFunction> NewLanguageReward(const RewardConfig& config);

struct RewardPartRow {
  const char* weight_key;
  double (RewardConfig::*weight)() const;
  std::unique_ptr<RewardFunction> (*make)(const RewardConfig& config);
};

// In the order of the sum, which its bits go by: a new one comes last.
inline constexpr RewardPartRow kRewardParts[] = {
    {"rule_weight", &RewardConfig::rule_weight, NewRuleReward},
    {"format_weight", &RewardConfig::format_weight, NewFormatReward},
    {"length_weight", &RewardConfig::length_weight, NewLengthReward},
    {"language_weight", &RewardConfig::language_weight, NewLanguageReward},
};

}  // namespace temper

#endif  // REWARDS_REWARD_PARTS_H_
