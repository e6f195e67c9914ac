// What `temper inspect trajectory` prints of an episode's tokens
// (learner/store/token_reader.h).

#ifndef TOOLS_VIEW_TOKEN_VIEW_H_
#define TOOLS_VIEW_TOKEN_VIEW_H_

#include <cstdint>
#include <functional>
#include <string>

#include "learner/store/token_reader.h"

namespace temper {

// A line per token, columns headed: position, id, what `text_of` makes of the
// id, logp_rollout, logp_train, ratio, mask (M of the objective), version.
std::string FormatTrajectory(
    const TrajectoryView& view,
    const std::function<std::string(int32_t)>& text_of);

}  // namespace temper

#endif  // TOOLS_VIEW_TOKEN_VIEW_H_
