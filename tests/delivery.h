// What the engine recorded as the learner gets it: packed into trajectories, by
// way of their bytes and the door.

#ifndef TESTS_DELIVERY_H_
#define TESTS_DELIVERY_H_

#include <vector>

#include "kernels/model/config.h"
#include "learner/intake/episode.h"
#include "rollout/engine.h"

namespace temper {

// Record i is sample i % group_size of group 1 + i / group_size, sampled by
// weight version 1; its reward is its sample's number. CHECKs that the door
// takes it.
std::vector<Episode> Deliver(const ModelConfig& config,
                             const std::vector<SequenceRecord>& records,
                             int group_size = 1);

}  // namespace temper

#endif  // TESTS_DELIVERY_H_
