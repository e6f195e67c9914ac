#include "proto/wire/verdict_score.h"

#include <cstddef>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"

namespace temper {
namespace {

constexpr int kScoresMax = 16;
constexpr size_t kScoreNameBytesMax = 32;

bool IsScoreName(const std::string& name) {
  return !name.empty() && name.size() <= kScoreNameBytesMax &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") ==
             std::string::npos;
}

}  // namespace

absl::Status CheckScores(const Verdict& verdict) {
  if (verdict.scores_size() > kScoresMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("the verdict has ", verdict.scores_size(),
                     " scores; at most ", kScoresMax));
  }
  std::set<std::string> names;
  for (const VerdictScore& score : verdict.scores()) {
    if (!IsScoreName(score.name()) || !names.insert(score.name()).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("a score is called \"", score.name(),
                       "\"; it must have a name of its "
                       "own, 1 to ",
                       kScoreNameBytesMax, " of a to z, 0 to 9 and _"));
    }
    // Written so that a NaN fails.
    if (!(score.value() >= -1 && score.value() <= 1 && score.weight() >= 0 &&
          score.weight() <= 1)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "score ", score.name(), " is ", score.value(), " of weight ",
          score.weight(), "; a value is within -1 and 1, a weight 0 and 1"));
    }
  }
  return absl::OkStatus();
}

}  // namespace temper
