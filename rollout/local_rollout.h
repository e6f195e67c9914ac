// Episodes in this process, without a learner: n samples of each task, for
// `temper eval`, `temper generate` and tests. The same engine, agent loop and
// random streams as a worker's, so the same seed gives the same tokens.

#ifndef ROLLOUT_LOCAL_ROLLOUT_H_
#define ROLLOUT_LOCAL_ROLLOUT_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/model/published_weights.h"
#include "kernels/model/tokenizer.h"
#include "kernels/ops/backend.h"
#include "proto/config.pb.h"
#include "proto/task.pb.h"
#include "proto/trajectory.pb.h"
#include "rollout/agent_loop.h"
#include "rollout/engine.h"

namespace temper {

struct LocalRolloutOptions {
  EngineOptions engine;
  SamplingConfig sampling;
  RewardConfig rewards;
  uint64_t seed = 1;
  uint32_t samples = 1;         // of each task
  uint64_t first_group = 0;     // task i is group first_group + i
  uint64_t weight_version = 0;  // recorded
  Purpose purpose = PURPOSE_EVAL;
  std::string run = "local";
  int job_threads = 4;  // at most kStepsPerSlotMax (step_limits.h)
  // Episodes without any progress for so long: DeadlineExceeded.
  int64_t stall_ms_max = 120000;
  // Called now and then with episodes done and in all; may be empty.
  std::function<void(int64_t done, int64_t total)> progress;
  // Set from anywhere to stop early (Cancelled); may be null.
  const std::atomic<bool>* stop = nullptr;
};

// Trajectories ordered by task, then sample. `weights` are not changed.
// InvalidArgument: no tasks, options, a tokenizer that is larger than the
// model's vocabulary or lacks the chat format's tokens. One episode's failure
// is its outcome, not an error here.
absl::StatusOr<std::vector<Trajectory>> RunLocalRollout(
    Backend* backend, PublishedWeights* weights, const Tokenizer& tokenizer,
    const std::vector<Task>& tasks, const EnvironmentFactory& new_environment,
    const LocalRolloutOptions& options);

}  // namespace temper

#endif  // ROLLOUT_LOCAL_ROLLOUT_H_
