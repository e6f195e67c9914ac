// Reward part "language": see reward.h for what it pays.

#ifndef REWARDS_LANGUAGE_REWARD_H_
#define REWARDS_LANGUAGE_REWARD_H_

#include <memory>

#include "rewards/reward.h"

namespace temper {

std::unique_ptr<RewardFunction> NewLanguageReward();

}  // namespace temper

#endif  // REWARDS_LANGUAGE_REWARD_H_
