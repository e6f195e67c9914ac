// The one door by which trajectories come in: what passes is what the ledger
// commits and the packer trusts (DESIGN.md section 2, step 7). Checked: key,
// outcome and reward (finite; there iff a verifier ran and the outcome is
// graded; the sum of its parts), and of every branch that arrays are aligned,
// ids below the vocabulary, log-probs finite, kept rows ascending, at most
// kept_max long and holding the sampled id, routes in range, ascending and
// distinct, versions known and covering every sampled token. Turns lie within
// their branch, in order, and overlap only where they are the same range (the
// messages of a prompt); a tool call is of a turn that there is.
//
// Two refusals: what is not as it should be (InvalidArgument,
// ResourceExhausted, DataLoss) will be so whenever it is sent, and its group is
// lost; what was sampled from weights that do not count (FailedPrecondition) is
// sound, and its sample is to be sampled again.
//
// Pure after Create; thread-safe.

#ifndef LEARNER_INTAKE_TRAJECTORY_DOOR_H_
#define LEARNER_INTAKE_TRAJECTORY_DOOR_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/ops/sample_arguments.h"
#include "learner/intake/episode.h"
#include "proto/trajectory.pb.h"
#include "proto/wire/episode_limit.h"

namespace temper {

struct DoorLimits {
  std::string run;  // the only run whose trajectories pass
  int32_t vocab_size = 0;
  int32_t moe_layers = 0;  // 0: a dense model, no routes
  int32_t experts = 0;
  int32_t experts_per_token = 0;
  // Whether routes must be there: keep routing has no fallback. They are
  // checked wherever they are there.
  bool routes_required = true;
  // Whether kept sets may be there. With keep_sampling_mask off the learner
  // trains over the whole vocabulary, and so must the record be.
  bool kept_sets_allowed = true;
  int32_t kept_max = kKeptMax;
  int64_t message_bytes_max = kTrajectoryBytesMax;
  int64_t tokens_max = kEpisodeTokensMax;  // of all branches
  int32_t branches_max = 64;
  int32_t turns_max = 4096;
  int32_t tool_calls_max = 4096;
  int32_t reward_parts_max = 64;
  int64_t text_bytes_max = int64_t{32} << 20;  // of turns and tool calls
  int64_t name_bytes_max = kNameBytesMax;      // of each
  double reward_abs_max = 1e6;
};

class TrajectoryDoor {
 public:
  // InvalidArgument names the limit that makes no sense.
  static absl::StatusOr<TrajectoryDoor> Create(const DoorLimits& limits);

  const std::string& run() const { return limits_.run; }

  // The serialised Trajectory that came under `key`. ResourceExhausted above
  // message_bytes_max, DataLoss where it does not parse, InvalidArgument where
  // its own key is another.
  absl::StatusOr<Trajectory> Parse(const TrajectoryKey& key,
                                   const std::string& bytes) const;

  // InvalidArgument (ResourceExhausted for a count or size) names the field,
  // the value and the limit. `version_known` says whether a weight version
  // belongs to the surviving lineage: where that alone is amiss the error is
  // FailedPrecondition. An episode without a reward may have no branches; one
  // with has at least one sampled token.
  absl::StatusOr<Episode> Admit(
      const Trajectory& trajectory,
      const std::function<bool(uint64_t)>& version_known) const;

 private:
  explicit TrajectoryDoor(const DoorLimits& limits) : limits_(limits) {}
  absl::Status CheckCounts(const Trajectory& trajectory) const;
  absl::Status CheckTexts(const Trajectory& trajectory) const;
  absl::Status CheckReward(const Trajectory& trajectory) const;
  absl::StatusOr<EpisodeBranch> DecodeBranch(const Branch& branch) const;
  absl::Status DecodeTokens(const Branch& branch, EpisodeBranch* out) const;
  absl::Status DecodeKept(const Branch& branch, EpisodeBranch* out) const;
  absl::Status DecodeRoutes(const Branch& branch, EpisodeBranch* out) const;
  absl::Status DecodeVersions(const Branch& branch, EpisodeBranch* out) const;

  DoorLimits limits_;
};

}  // namespace temper

#endif  // LEARNER_INTAKE_TRAJECTORY_DOOR_H_
