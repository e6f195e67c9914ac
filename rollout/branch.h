// A finished sequence as the packed little-endian arrays of
// proto/trajectory.proto. Pure functions.

#ifndef ROLLOUT_BRANCH_H_
#define ROLLOUT_BRANCH_H_

#include "kernels/model/config.h"
#include "proto/trajectory.pb.h"
#include "rollout/sequence.h"

namespace temper {

// Everything up to the last sampled token; what was appended after it, and
// never answered, is left out. CHECKs that a token was sampled and that all
// tokens before the last sampled one have routes.
Branch PackBranch(const SequenceRecord& record, const ModelConfig& config);

}  // namespace temper

#endif  // ROLLOUT_BRANCH_H_
