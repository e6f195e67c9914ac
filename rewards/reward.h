// Turns what an environment found (a Verdict) into the number that is trained
// on: a sum of named parts (rewards/reward_parts.h), each logged. The verdict's
// scores are parts too: one called x is the part score_x, its weight times the
// run's score_weight.
//
// A reward exists only if a verifier ran (promise P4). Thread-safe: a Reward is
// constant after construction.

#ifndef REWARDS_REWARD_H_
#define REWARDS_REWARD_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/config.pb.h"
#include "proto/task.pb.h"
#include "proto/trajectory.pb.h"

namespace temper {

// What a part may look at: one finished episode. Borrowed for the call.
struct RewardInput {
  const std::vector<Message>& transcript;  // prompt, answers, tool results
  size_t prompt_messages;  // the prompt's: none of them is the model's work
  const Verdict& verdict;
  uint64_t sampled_tokens;  // of the whole episode
  bool thinking;  // sampling's: an assistant message opens with reasoning
};

// One named part. Score is finite, in [-1, 1], and depends on its input alone.
class RewardFunction {
 public:
  virtual ~RewardFunction() = default;
  virtual const char* name() const = 0;
  virtual double Score(const RewardInput& input) const = 0;
};

// The weighted sum of a run.
class Reward {
 public:
  // `config` as resolving a configuration makes it: the defaults are there.
  // InvalidArgument, naming the field, if rule_weight is absent, a weight is
  // not finite or beyond 100, all are 0, or length_weight has no
  // length_target_tokens.
  static absl::StatusOr<std::unique_ptr<Reward>> Create(
      const RewardConfig& config);

  // Every part, those of weight 0 included so that they are logged; length is
  // left out where there is no target. FailedPrecondition, and no reward, if
  // the verdict is not `verified` or its outcome carries none. InvalidArgument,
  // and none either, if a score of it is not as VerdictScore of
  // proto/task.proto says, with the name and the value: an environment may be
  // anybody's, and one NaN would be the whole batch's.
  absl::StatusOr<std::vector<RewardPart>> Score(const RewardInput& input) const;

  // The sum of value * weight, in the order of `parts`.
  static double Sum(const std::vector<RewardPart>& parts);

 private:
  struct Weighted {
    std::unique_ptr<RewardFunction> function;
    double weight;
  };

  Reward(std::vector<Weighted> parts, double score_weight);

  const std::vector<Weighted> parts_;
  const double score_weight_;
};

}  // namespace temper

#endif  // REWARDS_REWARD_H_
