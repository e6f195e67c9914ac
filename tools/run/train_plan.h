// What a run on one machine will be, before anything starts: its processes, and
// what the terminal prints of them.
//
// Functions without state; thread-safe.

#ifndef TOOLS_RUN_TRAIN_PLAN_H_
#define TOOLS_RUN_TRAIN_PLAN_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

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

// Where in the run directory the host says its address, for the workers.
inline constexpr char kHostAddressFile[] = "/env-host.address";

// The children of a run, in the order of their start.
std::vector<ChildSpec> PlanChildren(const TrainOptions& options);

// What FormatPlan prints before they start.
std::vector<std::pair<std::string, std::string>> DescribePlan(
    const TrainOptions& options);

}  // namespace temper

#endif  // TOOLS_RUN_TRAIN_PLAN_H_
