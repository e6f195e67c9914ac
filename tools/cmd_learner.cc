#include "tools/cmd_learner.h"

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "learner/learner.h"
#include "tools/build_info.h"
#include "tools/cli.h"
#include "tools/compute.h"
#include "tools/config.h"
#include "tools/flags.h"
#include "tools/next_step.h"
#include "tools/stop_signal.h"

namespace temper {
namespace {

constexpr uint64_t kConfigBytesMax = 1 << 20;

absl::Status Learn(const std::string& run_dir, bool resume) {
  LearnerOptions options;
  options.run_dir = run_dir;
  options.resume = resume;
  const std::string path = absl::StrCat(run_dir, "/config.textproto");
  const auto text = ReadFile(path, kConfigBytesMax);
  RETURN_IF_ERROR(IfNotFound(text.status(), kNameARun));
  ASSIGN_OR_RETURN(options.config, ParseConfig(*text, path));
  RETURN_IF_ERROR(ResolveConfig(&options.config));
  options.revision = Revision();
  options.machine = MachineDescription();
  options.stop = [] { return StopSignalCount() > 0; };
  ASSIGN_OR_RETURN(
      const auto backend,
      NewComputeBackend(static_cast<int>(options.config.threads())));
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
  InstallStopSignal();
  const absl::Status status = Learn(run_dir, resume);
  return status.ok() ? kExitDone : ReportError("learner", status);
}

}  // namespace temper
