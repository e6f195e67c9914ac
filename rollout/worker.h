// A rollout worker: takes leases from the learner, runs their episodes at once
// on one engine, follows the learner's weights, delivers the trajectories.
//
// In its life: connect; read config.json and tokenizer.json of the welcome's
// model_dir; receive the first weights; then, until the learner says stop or
// the caller does: take messages, put in new weights between two engine steps,
// start the episodes whose weights are there, step, send what ended. A
// trajectory is kept until the learner acked it (rollout/learner_client.h).
//
// Leases that were waiting when a stream broke are forgotten: the learner gives
// them out again. Episodes that were running go on.

#ifndef ROLLOUT_WORKER_H_
#define ROLLOUT_WORKER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "environments/environment.h"
#include "environments/step_limits.h"
#include "kernels/model/config.h"
#include "kernels/ops/backend.h"
#include "kernels/tensor/numerics.h"
#include "rollout/agent_loop.h"
#include "rollout/engine.h"
#include "rollout/learner_client.h"

namespace temper {

// Environment calls at once. Where each worker has a sandbox, their Steps end
// before their deadline whatever candidates do.
inline constexpr int kJobThreads = 8;
static_assert(kJobThreads <= kStepsPerSlotMax,
              "a worker asks for more Steps at a time than one slot serves");

struct WorkerOptions {
  // Where the learner is, the worker's name, how many episodes it holds.
  LearnerClientOptions learner;
  Numerics numerics = kFp32;  // the run's; the learner refuses others
  // sequences_max is raised to the learner's capacity_samples if it is less.
  EngineOptions engine;
  // Episodes beside those in a Step that holds no thread: above, no more are
  // begun. 0: as many as the learner's capacity_samples, which bounds all.
  int busy_max = 0;
  EnvironmentFactory new_environment;
  // What new_environment's environments keep to, from when a job's thread has
  // taken a call up; told where a wait for one is reported; empty: none is
  // known.
  std::function<EnvironmentLimits(const std::string& environment)>
      environment_limits;
  // As EpisodeServices::lanes. Those of one host share one, or they would ask
  // more of it at a time than job_threads calls.
  std::map<std::string, std::string> lanes;
  int job_threads = kJobThreads;  // of each lane
  // How long wanted weights may fail to arrive before the worker gives up.
  int64_t weights_deadline_ms = 120000;
};

// How long the worker's loop may be busy with one thing before it is taken for
// hung (LearnerClient::SetHungLimit): a forward over the engine's largest batch
// or the taking in of weights, at a pace that any machine exceeds by far. A
// large model has longer, whatever the machine.
int64_t LoopLimitMs(const ModelConfig& model, const EngineOptions& engine);

// Runs on the calling thread, which must be the backend's, until the learner
// says stop (OK) or *stop becomes true (OK; what was leased goes back when the
// stream ends). Errors: the learner unreachable or refusing (LearnerClient), a
// model directory or weights that do not fit, a broken device.
// FailedPrecondition: the learner has gone back to earlier weights than this
// worker's; a new worker fetches them.
absl::Status RunWorker(const WorkerOptions& options, Backend* backend,
                       const std::atomic<bool>* stop);

}  // namespace temper

#endif  // ROLLOUT_WORKER_H_
