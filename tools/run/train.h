// A whole run on one machine: the learner, rollout workers and, where a task's
// environment needs one, an environment host, as child processes; their deaths
// and restarts; what the terminal shows meanwhile and at the end.
//
// Main's thread only: the kernel ties the children to it.

#ifndef TOOLS_RUN_TRAIN_H_
#define TOOLS_RUN_TRAIN_H_

#include <cstdint>
#include <string>

#include "tools/run/run_setup.h"
#include "tools/run/supervisor.h"

namespace temper {

struct TrainOptions {
  PreparedRun run;
  bool resume = false;
  std::string program = "temper";  // as the user calls it, for what we print
  std::string child_program = "/proc/self/exe";  // takes our verbs
  int restarts_max = 3;                          // of each worker and host
  int64_t learner_grace_ms = 120'000;            // to finish a step and save
  int64_t worker_grace_ms = 10'000;
};

// The children of a run, in the order of their start.
std::vector<ChildSpec> PlanChildren(const TrainOptions& options);

// What FormatPlan prints before they start.
std::vector<std::pair<std::string, std::string>> DescribePlan(
    const TrainOptions& options);

// Runs to the end and returns the exit code: 0 finished, or stopped by Ctrl-C
// (or by a closed terminal) after a checkpoint; 1 when the learner is dead,
// however the run ended, or no worker or host is left, after the failing
// child's last log lines and the command that resumes.
int TrainRun(const TrainOptions& options);

}  // namespace temper

#endif  // TOOLS_RUN_TRAIN_H_
