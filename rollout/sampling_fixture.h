// Sampling and rewards for tests: whole, as a resolved configuration has it.

#ifndef ROLLOUT_SAMPLING_FIXTURE_H_
#define ROLLOUT_SAMPLING_FIXTURE_H_

#include <cstdint>

#include "proto/config.pb.h"

namespace temper {

inline SamplingConfig FixtureSampling(uint32_t max_tokens,
                                      uint32_t max_turns = 8) {
  SamplingConfig sampling;
  sampling.set_temperature(1);
  sampling.set_top_p(0.95);
  sampling.set_top_k(0);
  sampling.set_min_p(0);
  sampling.set_max_tokens(max_tokens);
  sampling.set_max_turns(max_turns);
  sampling.set_thinking(true);
  return sampling;
}

// 1 for what is correct, 0 for all else.
inline RewardConfig FixtureRewards() {
  RewardConfig rewards;
  rewards.set_rule_weight(1);
  return rewards;
}

}  // namespace temper

#endif  // ROLLOUT_SAMPLING_FIXTURE_H_
