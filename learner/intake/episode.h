// An episode as the learner trains on it: the arrays of a Trajectory, decoded
// and validated (learner/intake/trajectory_door.h makes these and nothing else
// does).

#ifndef LEARNER_INTAKE_EPISODE_H_
#define LEARNER_INTAKE_EPISODE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "proto/task.pb.h"
#include "proto/trajectory.pb.h"

namespace temper {

// Sampled tokens [begin, end) of a branch, counted among its n sampled ones,
// came from `version`.
struct EpisodeSpan {
  uint32_t begin = 0;
  uint32_t end = 0;
  uint64_t version = 0;
};

// One training sequence of T tokens, n of them sampled.
struct EpisodeBranch {
  std::vector<int32_t> tokens;        // [T]
  std::vector<int32_t> sampled;       // [n], ascending positions, all >= 1
  std::vector<float> logprobs;        // [n], the sampler's record
  std::vector<int32_t> kept_offsets;  // [n + 1] into kept_ids
  std::vector<int32_t> kept_ids;      // ascending in a row; empty row: all
  std::vector<int32_t> routes;        // [T - 1, moe_layers, A], ascending
  std::vector<EpisodeSpan> versions;
};

struct Episode {
  uint64_t group = 0;
  uint32_t sample = 0;
  uint64_t lease = 0;
  Purpose purpose = PURPOSE_TRAIN;
  Outcome outcome = OUTCOME_OK;
  bool has_reward = true;  // false: retried or dropped, never trained
  std::string task_id;
  std::string environment;
  std::string domain;
  double reward = 0;
  std::vector<EpisodeBranch> branches;

  // For metrics.
  std::vector<RewardPart> reward_parts;
  int32_t assistant_turns = 0;
  uint64_t environment_us = 0;  // waited for the environment
  uint64_t reward_us = 0;       // waited for the rewards

  // Of all branches.
  int64_t SampledTokens() const {
    int64_t tokens = 0;
    for (const EpisodeBranch& branch : branches) {
      tokens += static_cast<int64_t>(branch.sampled.size());
    }
    return tokens;
  }

  // The version of the oldest sampled token: the episode's age.
  uint64_t OldestVersion() const {
    uint64_t oldest = UINT64_MAX;
    for (const EpisodeBranch& branch : branches) {
      for (const EpisodeSpan& span : branch.versions) {
        oldest = span.version < oldest ? span.version : oldest;
      }
    }
    return oldest;
  }
};

}  // namespace temper

#endif  // LEARNER_INTAKE_EPISODE_H_
