#include "tools/run/train.h"

#include <unistd.h>

#include <cstdio>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "environments/environment_set.h"
#include "environments/registration.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "learner/store/event_log.h"
#include "learner/store/run_db.h"
#include "tools/cli/exit_code.h"
#include "tools/cli/print.h"
#include "tools/run/compute.h"
#include "tools/run/memory_plan.h"
#include "tools/run/run_watcher.h"
#include "tools/run/stop_signal.h"
#include "tools/view/progress.h"

namespace temper {
namespace {

constexpr int64_t kPollMs = 200;
constexpr int kLogLines = 20;
constexpr char kEventLog[] = "/logs/events.log";

// As a shell takes it for one word.
std::string Quoted(const std::string& word) {
  const bool plain = word.find_first_not_of(
                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                         "0123456789/._-") == std::string::npos;
  if (plain) return word;
  return absl::StrCat("'", absl::StrReplaceAll(word, {{"'", "'\\''"}}), "'");
}

std::string ResumeCommand(const TrainOptions& options) {
  return absl::StrCat(Quoted(options.program), " train --resume ",
                      Quoted(options.run.dir));
}

// `checkpoint` is the step of the last one.
void PrintNextCommands(const TrainOptions& options, int64_t checkpoint) {
  const std::string program = Quoted(options.program);
  const std::string dir = Quoted(options.run.dir);
  const std::string model = Quoted(absl::StrCat(
      options.run.dir, "/checkpoints/step_", checkpoint, "/model"));
  const std::string config = Quoted(options.run.dir + "/config.textproto");
  const int64_t steps = options.run.config.steps();
  PrintOut("\nthe run is in %s; worth trying next:\n", options.run.dir);
  std::vector<std::string> commands = {absl::StrCat("inspect steps ", dir)};
  if (checkpoint > 0) {
    commands.push_back(absl::StrCat("inspect group ", dir, " 1"));
  }
  if (checkpoint > 0 && options.run.config.schedule().eval_tasks() > 0) {
    commands.push_back(
        absl::StrCat("eval ", model, " ", config, " --without-tools"));
  }
  // Of a run that was stopped, what resumes it is told below.
  if (checkpoint == steps) {
    commands.push_back(
        absl::StrCat("train --resume ", dir, " --set steps=", steps + 30));
  }
  for (const std::string& command : commands) {
    PrintOut("  %s %s\n", program, command);
  }
}

int NothingToDo(const TrainOptions& options) {
  const int64_t steps = options.run.config.steps();
  PrintOut("nothing to do: all %d steps are done and evaluated\n", steps);
  PrintNextCommands(options, steps);
  return kExitDone;
}

int Failed(const TrainOptions& options, const Supervisor& supervisor) {
  const std::string& name = supervisor.first_failure();
  const std::string log = supervisor.LogPath(name);
  PrintErr("temper train: %s failed; the last lines of %s:\n%s\n", name, log,
           Lines{LastLines(log, kLogLines)});
  PrintErr("temper train: resume with\n  %s\n", ResumeCommand(options));
  return kExitFailed;
}

// What happened while there was no learner. Only before the children start and
// after they ended: run.db has one writer.
absl::Status RecordEvents(const TrainOptions& options) {
  const std::string run_db = options.run.dir + "/run.db";
  // Opening would make it, and it is the learner's to begin.
  if (access(run_db.c_str(), F_OK) != 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto db, RunDb::OpenWriter(run_db, SystemClock()));
  uint64_t offset = 0;
  return ImportEvents(options.run.dir + kEventLog, db.get(), &offset);
}

SupervisorOptions ChildOptions(const TrainOptions& options) {
  SupervisorOptions all;
  all.program = options.child_program;
  all.log_dir = options.run.dir + "/logs";
  // The plan's tier is theirs: asked themselves, two that are about as fast
  // could be chosen differently.
  all.environment = {VariableNaming(options.run.compute.name)};
  return all;
}

// Starts all children, or says which would not start.
absl::Status StartChildren(const TrainOptions& options,
                           Supervisor* supervisor) {
  // Of an earlier attempt: workers must not find processes that are gone.
  for (const char* file : {"/learner.address", kHostAddressFile}) {
    unlink((options.run.dir + file).c_str());
  }
  for (const Registration& registration : options.run.registrations) {
    unlink(ServedAddressFile(options.run.dir, registration.name()).c_str());
  }
  for (const ChildSpec& child : PlanChildren(options)) {
    RETURN_IF_ERROR(supervisor->Start(child));
  }
  return absl::OkStatus();
}

void StopChildren(Supervisor* supervisor) {
  // Another Ctrl-C from now on hurries; the one that brought us here does not.
  const int asked = StopSignalCount();
  supervisor->Stop([asked] { return StopSignalCount() > asked; });
}

}  // namespace

int TrainRun(const TrainOptions& options) {
  absl::Status begun = InstallStopSignal();
  if (begun.ok() && options.run.finished) return NothingToDo(options);
  if (begun.ok()) begun = RecordEvents(options);
  if (!begun.ok()) {
    PrintErr("temper train: %s\n", begun.message());
    return kExitFailed;
  }
  PrintOut("%s\n", Lines{FormatPlan(DescribePlan(options))});
  // A pipe is not flushed by itself, and the plan is to be read while the run
  // starts.
  fflush(stdout);
  const std::string warning = MemoryWarning(
      PlanMemory(options.run.config, options.run.model,
                 options.run.prompt_tokens,
                 HaveOpenSteps(options.run.registrations)),
      {AvailableMemoryBytes(), options.run.compute.gpu_memory_bytes});
  if (!warning.empty()) {
    PrintErr("temper train: warning: %s\n", warning);
  }
  Supervisor supervisor(
      ChildOptions(options), SystemClock(), [&](const ChildEvent& event) {
        const std::string kind = EventKindName(event.kind);
        const absl::Status status =
            AppendEvent(options.run.dir + kEventLog, SystemClock(), event.child,
                        kind, event.detail);
        if (!status.ok()) LOG(WARNING) << status;
        if (event.kind == ChildEvent::Kind::kStarted ||
            event.kind == ChildEvent::Kind::kFinished) {
          return;
        }
        PrintErr("%s %s: %s\n", event.child, kind, event.detail);
      });
  RunWatcher watcher(options.run.dir, options.run.config.steps());
  const absl::Status started = StartChildren(options, &supervisor);
  if (!started.ok()) {
    PrintErr("temper train: %s\n", started.message());
    return kExitFailed;
  }
  RunState state = RunState::kRunning;
  bool stopped = false;
  while (state == RunState::kRunning && !stopped) {
    stopped = WaitForStopSignal(kPollMs);
    state = supervisor.Poll();
    watcher.PrintNew();
  }
  if (stopped) {
    PrintErr("stopping after a checkpoint; Ctrl-C again to hurry\n");
  }
  StopChildren(&supervisor);
  // Whether the learner could save is known only now; and what it recorded
  // meanwhile is still to be shown.
  state = supervisor.state();
  watcher.PrintNew();
  const absl::Status recorded = RecordEvents(options);
  if (!recorded.ok()) LOG(WARNING) << "events not recorded: " << recorded;
  if (state == RunState::kFailed) return Failed(options, supervisor);
  const absl::Status shown = watcher.PrintSummary();
  if (!shown.ok()) LOG(WARNING) << shown;
  const absl::StatusOr<int64_t> checkpoint = watcher.CheckpointStep();
  if (!checkpoint.ok()) LOG(WARNING) << checkpoint.status();
  PrintNextCommands(options, checkpoint.value_or(0));
  if (stopped) {
    PrintErr("stopped after step %d; resume with\n  %s\n",
             checkpoint.value_or(0), ResumeCommand(options));
  }
  return kExitDone;
}

}  // namespace temper
