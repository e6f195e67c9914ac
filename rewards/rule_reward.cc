#include "rewards/reward_parts.h"

namespace temper {
namespace {

class RuleReward : public RewardFunction {
 public:
  const char* name() const override { return "rule"; }
  double Score(const RewardInput& input) const override {
    return input.verdict.correct() ? 1 : 0;
  }
};

}  // namespace

std::unique_ptr<RewardFunction> NewRuleReward(const RewardConfig&) {
  return std::make_unique<RuleReward>();
}

}  // namespace temper
