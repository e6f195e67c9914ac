#include <algorithm>
#include <cstdint>
#include <memory>

#include "kernels/base/log.h"
#include "rewards/reward_parts.h"

namespace temper {
namespace {

class LengthReward : public RewardFunction {
 public:
  explicit LengthReward(uint64_t target_tokens) : target_(target_tokens) {
    CHECK(target_ > 0);
  }

  const char* name() const override { return "length"; }

  double Score(const RewardInput& input) const override {
    if (input.sampled_tokens <= target_) return 0;
    const double excess = static_cast<double>(input.sampled_tokens - target_);
    return -std::min(1.0, excess / static_cast<double>(target_));
  }

 private:
  const uint64_t target_;
};

}  // namespace

std::unique_ptr<RewardFunction> NewLengthReward(const RewardConfig& config) {
  const uint64_t target = config.length_target_tokens();
  // Without a target there is nothing to measure, not even to log.
  if (target == 0) return nullptr;
  return std::make_unique<LengthReward>(target);
}

}  // namespace temper
