// One recorded episode, token by token: what the sampler recorded and what
// training computed of it.
//
// Functions without state; thread-safe.

#ifndef LEARNER_STORE_TOKEN_READER_H_
#define LEARNER_STORE_TOKEN_READER_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "learner/store/run_db.h"

namespace temper {

struct TokenView {
  int64_t branch = 0;
  int64_t position = 0;  // in its branch
  int32_t id = 0;
  bool sampled = false;
  // Of sampled tokens; log-probabilities after temperature and truncation.
  std::optional<float> logp_rollout;
  std::optional<float> logp_train;  // where the sample was trained
  std::optional<uint64_t> version;  // of the weights that sampled it

  // exp(logp_train - logp_rollout), where it was trained.
  std::optional<double> Ratio() const;
};

struct TrajectoryView {
  int64_t episode = 0;
  uint64_t group = 0;
  uint32_t sample = 0;
  // Where it was trained in the surviving lineage.
  std::optional<int64_t> step;
  std::optional<double> advantage;
  std::optional<bool> masked;
  std::vector<TokenView> tokens;
};

// NotFound if there is no such episode; DataLoss where its arrays disagree.
absl::StatusOr<TrajectoryView> ReadTrajectory(RunDb* db, int64_t episode);

}  // namespace temper

#endif  // LEARNER_STORE_TOKEN_READER_H_
