// Reward part "rule": see reward.h for what it pays.

#ifndef REWARDS_RULE_REWARD_H_
#define REWARDS_RULE_REWARD_H_

#include <memory>

#include "rewards/reward.h"

namespace temper {

std::unique_ptr<RewardFunction> NewRuleReward();

}  // namespace temper

#endif  // REWARDS_RULE_REWARD_H_
