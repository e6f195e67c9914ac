#include "tools/run/train.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "environments/registry.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "learner/store/event_log.h"
#include "learner/store/run_db.h"
#include "rollout/worker.h"
#include "tools/cli/exit_code.h"
#include "tools/cli/print.h"
#include "tools/run/compute.h"
#include "tools/run/engine_size.h"
#include "tools/run/memory_plan.h"
#include "tools/run/run_watcher.h"
#include "tools/run/stop_signal.h"
#include "tools/view/progress.h"

namespace temper {
namespace {

constexpr int64_t kPollMs = 200;
constexpr int kLogLines = 20;
constexpr int64_t kSandboxesMin = 8;
constexpr char kLearnerAddress[] = "/learner.address";
constexpr char kHostAddress[] = "/env-host.address";
constexpr char kEventLog[] = "/logs/events.log";

bool NeedsHost(const RunConfig& config) {
  for (const std::string& name : config.environments()) {
    const EnvironmentFacts* facts = FindEnvironment(name);
    if (facts != nullptr && facts->served_in == ServedIn::kHost) return true;
  }
  return false;
}

// Sampling and training take turns, so each process may use every core; the
// workers share them among themselves.
int WorkerThreads(const RunConfig& config) {
  if (config.threads() > 0) return static_cast<int>(config.threads());
  return std::max(1, ComputeThreads(0) / static_cast<int>(config.workers()));
}

std::string Mega(int64_t count) {
  return absl::StrFormat("%.2f M", static_cast<double>(count) / 1e6);
}

std::string DescribeTasks(const PreparedRun& run) {
  std::vector<std::string> parts;
  for (const auto& [key, count] : run.task_counts) {
    parts.push_back(absl::StrCat(count, " ", key.first, " (", key.second, ")"));
  }
  return absl::StrCat(absl::StrJoin(parts, ", "), "; the longest prompt has ",
                      run.prompt_tokens, " tokens");
}

std::string DescribeProcesses(const TrainOptions& options) {
  std::vector<std::string> names;
  for (const ChildSpec& child : PlanChildren(options)) {
    names.push_back(child.name);
  }
  return absl::StrCat(
      absl::StrJoin(names, ", "), "; ",
      ComputeThreads(static_cast<int>(options.run.config.threads())),
      " threads to train, ", WorkerThreads(options.run.config),
      " in each worker");
}

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
  const uint32_t steps = options.run.config.steps();
  PrintOut("\nthe run is in %s; worth trying next:\n", options.run.dir.c_str());
  std::vector<std::string> commands = {absl::StrCat("inspect steps ", dir)};
  if (checkpoint > 0) {
    commands.push_back(absl::StrCat("inspect group ", dir, " 1"));
  }
  if (checkpoint > 0 && options.run.config.schedule().eval_tasks() > 0) {
    commands.push_back(
        absl::StrCat("eval ", model, " ", config, " --without-tools"));
  }
  commands.push_back(
      absl::StrCat("train --resume ", dir, " --set steps=", steps + 30));
  for (const std::string& command : commands) {
    PrintOut("  %s %s\n", program.c_str(), command.c_str());
  }
}

int NothingToDo(const TrainOptions& options) {
  const int64_t steps = options.run.config.steps();
  PrintOut("nothing to do: all %lld steps are done and evaluated\n",
           static_cast<long long>(steps));
  PrintNextCommands(options, steps);
  return kExitDone;
}

int Failed(const TrainOptions& options, const Supervisor& supervisor) {
  const std::string& name = supervisor.first_failure();
  const std::string log = supervisor.LogPath(name);
  PrintErr("temper train: %s failed; the last lines of %s:\n%s\n", name.c_str(),
           log.c_str(), Lines{LastLines(log, kLogLines)});
  PrintErr("temper train: resume with\n  %s\n", ResumeCommand(options).c_str());
  return kExitFailed;
}

// What happened while there was no learner. Only before the children start and
// after they ended: run.db has one writer.
absl::Status RecordEvents(const TrainOptions& options) {
  const std::string run_db = options.run.dir + "/run.db";
  if (access(run_db.c_str(), F_OK) != 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto db, RunDb::OpenWriter(run_db, SystemClock()));
  uint64_t offset = 0;
  return ImportEvents(options.run.dir + kEventLog, db.get(), &offset);
}

// Starts all children, or says which would not start.
absl::Status StartChildren(const TrainOptions& options,
                           Supervisor* supervisor) {
  // Of an earlier attempt: workers must not find processes that are gone.
  for (const char* file : {kLearnerAddress, kHostAddress}) {
    unlink((options.run.dir + file).c_str());
  }
  for (const ChildSpec& child : PlanChildren(options)) {
    RETURN_IF_ERROR(supervisor->Start(child));
  }
  return absl::OkStatus();
}

void StopChildren(Supervisor* supervisor) {
  const int asked = StopSignalCount();
  supervisor->Stop([asked] { return StopSignalCount() > asked; });
}

}  // namespace

std::vector<ChildSpec> PlanChildren(const TrainOptions& options) {
  const RunConfig& config = options.run.config;
  const std::string& dir = options.run.dir;
  const std::string host_file = dir + kHostAddress;
  std::vector<ChildSpec> children;
  const bool host = NeedsHost(config);
  if (host) {
    // One for each worker at least: a worker asks for no more Steps at a time
    // than one sandbox serves before their deadline (step_limits.h).
    const int64_t workers = config.workers();
    const int64_t sandboxes = std::max<int64_t>(kSandboxesMin, workers);
    // What all workers hold, or ask, at once; and once more what workers that
    // died did, until the host notices.
    const int64_t episodes = 2 * workers * WorkerDemand(config, 0).samples;
    const int64_t calls = 2 * workers * kJobThreads;
    ChildSpec spec;
    spec.name = spec.group = "env-host";
    spec.args = {"env-host",
                 "--address-file",
                 host_file,
                 "--sandboxes",
                 absl::StrCat(sandboxes),
                 "--episodes",
                 absl::StrCat(episodes),
                 "--calls",
                 absl::StrCat(calls)};
    spec.restarts_max = options.restarts_max;
    spec.stop_order = 2;
    spec.stop_grace_ms = options.worker_grace_ms;
    children.push_back(spec);
  }
  ChildSpec learner;
  learner.name = learner.group = "learner";
  learner.args = {"learner", "--run-dir", dir};
  if (options.resume) learner.args.push_back("--resume");
  learner.essential = true;
  learner.stop_grace_ms = options.learner_grace_ms;
  children.push_back(learner);
  for (uint32_t i = 0; i < config.workers(); ++i) {
    ChildSpec worker;
    worker.name = absl::StrCat("worker-", i);
    worker.group = "rollout";
    worker.args = {"rollout",
                   "--run-dir",
                   dir,
                   "--name",
                   worker.name,
                   "--threads",
                   absl::StrCat(WorkerThreads(config)),
                   "--prompt-tokens",
                   absl::StrCat(options.run.prompt_tokens)};
    if (host) {
      worker.args.insert(worker.args.end(), {"--env-host-file", host_file});
    }
    worker.restarts_max = options.restarts_max;
    worker.stop_order = 1;
    worker.stop_grace_ms = options.worker_grace_ms;
    children.push_back(worker);
  }
  return children;
}

std::vector<std::pair<std::string, std::string>> DescribePlan(
    const TrainOptions& options) {
  const PreparedRun& run = options.run;
  const RunConfig& config = run.config;
  const ModelConfig& model = run.model;
  const auto tier = ComputeTierName();
  std::vector<std::pair<std::string, std::string>> lines = {
      {"run", run.dir},
      {"model",
       absl::StrCat(config.model(), ": ", Mega(model.parameter_count()),
                    " parameters, ", Mega(model.active_parameter_count()),
                    " active a token, ", model.num_hidden_layers,
                    " layers, index_topk ", model.index_topk)},
      {"numerics", absl::StrCat(config.numerics(), " on CPU tier ",
                                tier.ok() ? *tier : "none")},
      {"processes", DescribeProcesses(options)},
      {"tasks", DescribeTasks(run)},
      {"steps", absl::StrCat(config.steps(), " of ",
                             config.objective().prompts_per_step(),
                             " prompts x ", config.objective().group_size(),
                             " samples, seed ", config.seed())},
      {"evaluation", absl::StrCat(config.schedule().eval_tasks(),
                                  " held-out tasks an environment, with the "
                                  "run's own sampling")},
  };
  const auto memory = DescribeMemory(
      PlanMemory(config, model, run.prompt_tokens), AvailableMemoryBytes());
  lines.insert(lines.end(), memory.begin(), memory.end());
  if (model.num_nextn_predict_layers > 0) {
    lines.emplace_back("MTP", "carried through every save, not trained");
  }
  if (!config.objective().keep_sampling_mask()) {
    lines.emplace_back("warning",
                       "keep_sampling_mask is off: ratio and KL are those of "
                       "the whole vocabulary, not of the truncated policy that "
                       "is sampled from");
  }
  return lines;
}

int TrainRun(const TrainOptions& options) {
  InstallStopSignal();
  if (options.run.finished) return NothingToDo(options);
  const absl::Status imported = RecordEvents(options);
  if (!imported.ok()) {
    PrintErr("temper train: %s\n", std::string(imported.message()).c_str());
    return kExitFailed;
  }
  PrintOut("%s\n", Lines{FormatPlan(DescribePlan(options))});
  fflush(stdout);
  const std::string warning =
      MemoryWarning(PlanMemory(options.run.config, options.run.model,
                               options.run.prompt_tokens),
                    AvailableMemoryBytes());
  if (!warning.empty()) {
    PrintErr("temper train: warning: %s\n", warning.c_str());
  }
  SupervisorOptions supervisor_options;
  supervisor_options.program = options.child_program;
  supervisor_options.log_dir = options.run.dir + "/logs";
  Supervisor supervisor(
      supervisor_options, SystemClock(), [&](const ChildEvent& event) {
        const std::string kind = EventKindName(event.kind);
        const absl::Status status =
            AppendEvent(options.run.dir + kEventLog, SystemClock(), event.child,
                        kind, event.detail);
        if (!status.ok()) LOG(WARNING) << status;
        if (event.kind == ChildEvent::Kind::kStarted ||
            event.kind == ChildEvent::Kind::kFinished) {
          return;
        }
        PrintErr("%s %s: %s\n", event.child.c_str(), kind.c_str(),
                 event.detail.c_str());
      });
  RunWatcher watcher(options.run.dir, options.run.config.steps());
  const absl::Status started = StartChildren(options, &supervisor);
  if (!started.ok()) {
    PrintErr("temper train: %s\n", std::string(started.message()).c_str());
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
    PrintErr("stopped after step %lld; resume with\n  %s\n",
             static_cast<long long>(checkpoint.value_or(0)),
             ResumeCommand(options).c_str());
  }
  return kExitDone;
}

}  // namespace temper
