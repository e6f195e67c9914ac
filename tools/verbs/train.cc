#include "tools/run/train.h"

#include <fstream>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/clock.h"
#include "kernels/base/status_macros.h"
#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/run/run_setup.h"
#include "tools/verbs/verbs.h"

namespace temper {
namespace {

// How the user called this program, for commands that we print.
std::string ProgramName() {
  // A file of /proc does not say how long it is, so ReadFile finds it empty.
  std::ifstream line("/proc/self/cmdline");
  std::string name;
  std::getline(line, name, '\0');
  return name.empty() ? "temper" : name;
}

absl::StatusOr<PreparedRun> Reopen(const std::string& run,
                                   const ConfigFlags& values) {
  // A script's variable that is not set: it did not ask for a new run.
  if (run.empty()) {
    return absl::InvalidArgumentError(
        "--resume is empty; name the run to go on with, or leave it out to "
        "begin a new one");
  }
  // They would have to be what they were, or they would not be heeded.
  if (!values.path.empty() || values.name || values.seed) {
    return absl::InvalidArgumentError(
        "--resume goes on with a run's own configuration; leave out CONFIG, "
        "--name and --seed");
  }
  ASSIGN_OR_RETURN(const std::string dir,
                   FindRunDir(run, values.runs_dir.value_or("runs")));
  std::vector<std::string> sets = values.sets;
  if (values.steps) sets.push_back(absl::StrCat("steps=", *values.steps));
  return ReopenRun(dir, sets);
}

absl::StatusOr<PreparedRun> Prepare(const ConfigFlags& values) {
  ASSIGN_OR_RETURN(RunConfig config, LoadConfig(values));
  return PrepareRun(std::move(config), values.path,
                    SystemClock()->UnixMicros() / 1'000'000);
}

}  // namespace

int RunTrainVerb(int argc, char** argv) {
  ConfigFlags values;
  std::optional<std::string> resume;
  Flags flags("train",
              "Post-trains a model by GRPO: starts the learner, the workers "
              "and the environment host, and shows how it goes.");
  AddConfigFlags(&flags, &values);
  AddRunFlags(&flags, &values);
  flags.Text("--resume", &resume,
             "Go on with this run (a directory or a name) from its newest "
             "checkpoint.");
  if (const auto code = flags.Parse(argc, argv)) return *code;
  TrainOptions options;
  options.resume = resume.has_value();
  absl::StatusOr<PreparedRun> run =
      options.resume ? Reopen(*resume, values) : Prepare(values);
  if (!run.ok()) return ReportError("train", run.status());
  options.run = *std::move(run);
  options.program = ProgramName();
  return TrainRun(options);
}

}  // namespace temper
