// What the wire takes of a trajectory.
//
// Stateless; thread-safe.

#ifndef ROLLOUT_TRAJECTORY_LIMIT_H_
#define ROLLOUT_TRAJECTORY_LIMIT_H_

#include "proto/trajectory.pb.h"

namespace temper {

// Makes of a trajectory above kTrajectoryBytesMax (proto/wire/episode_limit.h)
// an OUTCOME_ENVIRONMENT_ERROR that says so, without what was in it, and
// returns true; leaves any other as it is. Were it kept back instead, its
// sample would be leased again and again.
bool CutDown(Trajectory* trajectory);

}  // namespace temper

#endif  // ROLLOUT_TRAJECTORY_LIMIT_H_
