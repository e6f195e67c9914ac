// Reward part "format": see reward.h for what it pays.

#ifndef REWARDS_FORMAT_REWARD_H_
#define REWARDS_FORMAT_REWARD_H_

#include <memory>

#include "rewards/reward.h"

namespace temper {

std::unique_ptr<RewardFunction> NewFormatReward();

}  // namespace temper

#endif  // REWARDS_FORMAT_REWARD_H_
