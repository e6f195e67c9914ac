#include "rewards/reward.h"

#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "proto/wire/outcome.h"
#include "proto/wire/verdict_score.h"
#include "rewards/reward_parts.h"

namespace temper {
namespace {

constexpr double kWeightMax = 100;

absl::Status CheckWeight(const char* field, double weight) {
  if (std::isfinite(weight) && std::abs(weight) <= kWeightMax) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is ", weight, "; it must be within -", kWeightMax,
                   " and ", kWeightMax));
}

RewardPart MakePart(const std::string& name, double value, double weight) {
  RewardPart part;
  part.set_name(name);
  part.set_value(value);
  part.set_weight(weight);
  return part;
}

}  // namespace

Reward::Reward(std::vector<Weighted> parts, double score_weight)
    : parts_(std::move(parts)), score_weight_(score_weight) {}

absl::StatusOr<std::unique_ptr<Reward>> Reward::Create(
    const RewardConfig& config) {
  if (!config.has_rule_weight()) {
    return absl::InvalidArgumentError(
        "rule_weight is absent; give rewards as a resolved configuration has "
        "them");
  }
  std::vector<Weighted> parts;
  RETURN_IF_ERROR(CheckWeight("score_weight", config.score_weight()));
  bool any = config.score_weight() != 0;
  for (const RewardPartRow& row : kRewardParts) {
    const double weight = (config.*row.weight)();
    RETURN_IF_ERROR(CheckWeight(row.weight_key, weight));
    any = any || weight != 0;
    // Of weight 0 too: it is not paid, and it is still looked at.
    std::unique_ptr<RewardFunction> function = row.make(config);
    if (function != nullptr) parts.push_back({std::move(function), weight});
  }
  if (config.length_weight() != 0 && config.length_target_tokens() == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("length_weight is ", config.length_weight(),
                     " but length_target_tokens is 0; set it to the length at "
                     "which the penalty starts"));
  }
  if (!any) {
    return absl::InvalidArgumentError(
        "every reward weight is 0, so nothing would be learnt; set rule_weight "
        "or another");
  }
  return std::unique_ptr<Reward>(
      new Reward(std::move(parts), config.score_weight()));
}

absl::StatusOr<std::vector<RewardPart>> Reward::Score(
    const RewardInput& input) const {
  const Outcome outcome = input.verdict.outcome();
  if (!IsGraded(outcome)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "an episode that ended ", Outcome_Name(outcome), " carries no reward"));
  }
  if (!input.verdict.verified()) {
    return absl::FailedPreconditionError(
        "no verifier ran to its end, so there is no reward");
  }
  RETURN_IF_ERROR(CheckScores(input.verdict));
  std::vector<RewardPart> scored;
  for (const Weighted& weighted : parts_) {
    const double value = weighted.function->Score(input);
    CHECK(value >= -1 && value <= 1)
        << weighted.function->name() << " " << value;
    scored.push_back(
        MakePart(weighted.function->name(), value, weighted.weight));
  }
  for (const VerdictScore& score : input.verdict.scores()) {
    scored.push_back(MakePart(absl::StrCat("score_", score.name()),
                              score.value(), score_weight_ * score.weight()));
  }
  return scored;
}

double Reward::Sum(const std::vector<RewardPart>& parts) {
  double sum = 0;
  for (const RewardPart& part : parts) sum += part.value() * part.weight();
  return sum;
}

}  // namespace temper
