// Reward part "length": see reward.h for what it pays.

#ifndef REWARDS_LENGTH_REWARD_H_
#define REWARDS_LENGTH_REWARD_H_

#include <cstdint>
#include <memory>

#include "rewards/reward.h"

namespace temper {

// `target_tokens` is at least 1.
std::unique_ptr<RewardFunction> NewLengthReward(uint64_t target_tokens);

}  // namespace temper

#endif  // REWARDS_LENGTH_REWARD_H_
