#include "rollout/trajectory_limit.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "proto/wire/episode_limit.h"

namespace temper {

bool CutDown(Trajectory* trajectory) {
  const auto bytes = static_cast<int64_t>(trajectory->ByteSizeLong());
  // The same limit as the door's, met before the wire: there it would be sent
  // whole and refused, and its group lost.
  if (bytes <= kTrajectoryBytesMax) return false;
  trajectory->set_outcome(OUTCOME_ENVIRONMENT_ERROR);
  trajectory->set_error(absl::StrCat(
      "the trajectory has ", bytes, " bytes (", trajectory->branches_size(),
      " branches, ", trajectory->turns_size(), " turns, ",
      trajectory->tool_calls_size(), " tool calls); at most ",
      kTrajectoryBytesMax,
      " are delivered: let its environment say less, or lower max_tokens"));
  trajectory->clear_verdict();
  trajectory->clear_has_reward();
  trajectory->clear_reward();
  trajectory->clear_reward_parts();
  trajectory->clear_branches();
  trajectory->clear_turns();
  trajectory->clear_tool_calls();
  return true;
}

}  // namespace temper
