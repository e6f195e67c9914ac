#include "learner/learner.h"

#include <string>

#include "kernels/base/status_macros.h"
#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/run/build_info.h"
#include "tools/run/compute.h"
#include "tools/run/run_setup.h"
#include "tools/run/stop_signal.h"
#include "tools/verbs/verbs.h"

namespace temper {
namespace {

absl::Status Learn(const std::string& run_dir, bool resume) {
  LearnerOptions options;
  options.run_dir = run_dir;
  options.resume = resume;
  // What `temper train` resolved: every process of a run has the same.
  ASSIGN_OR_RETURN(options.config, ReadRunConfig(run_dir));
  // What a run was made with stands in run.db, attempt by attempt.
  options.revision = Revision();
  // Asked between two waits: the learner ends by itself, behind a checkpoint.
  options.stop = [] { return StopSignalCount() > 0; };
  const ComputeWish wish = WishOf(options.config);
  ASSIGN_OR_RETURN(const BackendChoice choice, ChooseComputeBackend(wish));
  options.machine = MachineDescription(choice.name);
  ASSIGN_OR_RETURN(const auto backend, NewComputeBackend(wish));
  return RunLearner(options, backend.get()).status();
}

}  // namespace

int RunLearnerVerb(int argc, char** argv) {
  std::string run_dir;
  bool resume = false;
  Flags flags(
      "learner",
      "Trains: hands out groups, takes trajectories, publishes weights. "
      "Workers find its address in RUN_DIR/learner.address.");
  flags.Text("--run-dir", &run_dir,
             "A run directory with config.textproto and tasks.jsonl.");
  flags.Require();
  flags.Switch("--resume", &resume,
               "Go on from the newest checkpoint that verifies.");
  if (const auto code = flags.Parse(argc, argv)) return *code;
  absl::Status status = InstallStopSignal();
  if (status.ok()) status = Learn(run_dir, resume);
  return status.ok() ? kExitDone : ReportError("learner", status);
}

}  // namespace temper
