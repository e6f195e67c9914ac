#include "rewards/length_reward.h"

#include <algorithm>

#include "kernels/base/log.h"

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

std::unique_ptr<RewardFunction> NewLengthReward(uint64_t target_tokens) {
  return std::make_unique<LengthReward>(target_tokens);
}

}  // namespace temper
