// The learner's loop, synchronous mode: issue a step's groups, take their
// trajectories in, train, publish the weights, wait until every worker has
// them, log, save. Owns run.db, the ledger, the service and the weight
// sockets of one run directory.
//
// Everything a reader of the run needs is in the run directory; the address
// that workers connect to is in <run_dir>/learner.address while it serves.

#ifndef LEARNER_LEARNER_H_
#define LEARNER_LEARNER_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "kernels/ops/backend.h"
#include "proto/config.pb.h"

namespace temper {

struct LearnerOptions {
  std::string run_dir;  // exists; holds tasks.jsonl
  RunConfig config;     // resolved
  bool resume = false;  // go on with the run (learner/store/run_records.h)
  std::string revision;
  std::string machine;
  // Asked between steps and while waiting; true ends the run after a
  // checkpoint of the last whole step.
  std::function<bool()> stop;
  // How long a step may wait for workers' trajectories with none arriving (an
  // episode may have several calls, each as slow as step_limits.h lets it be),
  // and for their weight acks.
  int64_t trajectory_deadline_ms = 3'600'000;
  int64_t weights_deadline_ms = 60000;
};

// How the loop ended.
enum class LearnerEnd { kFinished, kStopped };

// Runs to the configured number of steps. Errors name what failed; what
// the newest checkpoint holds survives any of them.
absl::StatusOr<LearnerEnd> RunLearner(const LearnerOptions& options,
                                      Backend* backend);

}  // namespace temper

#endif  // LEARNER_LEARNER_H_
