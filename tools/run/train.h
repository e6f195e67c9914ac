// A whole run on one machine: the learner, rollout workers and, where a task's
// environment needs one, an environment host, as child processes; their deaths
// and restarts; what the terminal shows meanwhile and at the end.
//
// Main's thread only: the kernel ties the children to it.

#ifndef TOOLS_RUN_TRAIN_H_
#define TOOLS_RUN_TRAIN_H_

#include "tools/run/train_plan.h"

namespace temper {

// Runs to the end and returns the exit code: 0 finished, or stopped by Ctrl-C
// (or by a closed terminal) after a checkpoint; 1 when the learner is dead,
// however the run ended, or no worker or host is left, after the failing
// child's last log lines and the command that resumes.
int TrainRun(const TrainOptions& options);

}  // namespace temper

#endif  // TOOLS_RUN_TRAIN_H_
