#include "tools/run/run_setup.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "environments/registration.h"
#include "kernels/base/clock.h"
#include "kernels/base/fault_list.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "learner/store/checkpoint.h"
#include "learner/store/run_db.h"
#include "learner/store/run_model.h"
#include "learner/train/train_step_options.h"
#include "proto/wire/task_file.h"
#include "tools/cli/next_step.h"
#include "tools/cli/print.h"
#include "tools/config/config.h"
#include "tools/quickstart/tasks.h"
#include "tools/run/loaded_model.h"
#include "tools/run/resume_check.h"
#include "tools/run/task_check.h"

namespace temper {
namespace {

constexpr char kQuickstart[] = "quickstart";
constexpr char kConfigFile[] = "/config.textproto";
constexpr char kLockFile[] = "/train.lock";
constexpr uint64_t kQuickstartTasksMax = 30'000;
// The generator deals three kinds in turn, two of them to one environment.
constexpr uint64_t kQuickstartKinds = 3;
constexpr uint64_t kConfigBytesMax = 1 << 20;
constexpr int64_t kProgressUs = 2'000'000;

// The run goes on from any working directory, so nothing in it depends on one.
absl::Status MakePathsAbsolute(RunConfig* config) {
  ASSIGN_OR_RETURN(*config->mutable_model(), AbsolutePath(config->model()));
  ASSIGN_OR_RETURN(*config->mutable_runs_dir(),
                   AbsolutePath(config->runs_dir()));
  if (config->tasks() == kQuickstart) return absl::OkStatus();
  ASSIGN_OR_RETURN(*config->mutable_tasks(), AbsolutePath(config->tasks()));
  return absl::OkStatus();
}

// From here on the run is of one kind of device, whatever the machine of a
// resume has.
absl::Status SettleDevice(PreparedRun* run) {
  ASSIGN_OR_RETURN(run->compute, ChooseComputeBackend(WishOf(run->config)));
  run->config.set_device(KeyOf(run->compute.device));
  return absl::OkStatus();
}

bool Exists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

std::string DefaultName(const std::string& config_path, int64_t unix_seconds) {
  std::string stem = config_path.substr(config_path.rfind('/') + 1);
  stem = stem.substr(0, stem.find('.'));
  if (stem.empty()) stem = "run";
  // In UTC, so that names sort by time wherever a run was started.
  const time_t seconds = unix_seconds;
  tm parts = {};
  gmtime_r(&seconds, &parts);
  char stamp[32];
  strftime(stamp, sizeof stamp, "-%Y%m%d-%H%M%S", &parts);
  return stem + stamp;
}

void Count(const std::vector<Task>& tasks, PreparedRun* run) {
  for (const Task& task : tasks) {
    ++run->task_counts[{task.environment(), task.split()}];
  }
}

// Those of the environments that the configuration names; all, if none.
void KeepNamed(const RunConfig& config, std::vector<Task>* tasks) {
  const std::set<std::string> named(config.environments().begin(),
                                    config.environments().end());
  if (named.empty()) return;
  std::erase_if(*tasks, [&named](const Task& task) {
    return named.count(task.environment()) == 0;
  });
}

absl::Status CheckEnvironments(const std::set<std::string>& used,
                               const EnvironmentSet& environments,
                               RunConfig* config) {
  for (const std::string& name : used) {
    RETURN_IF_ERROR(environments.CheckName(name));
  }
  if (config->environments().empty()) {
    for (const std::string& name : used) config->add_environments(name);
    return absl::OkStatus();
  }
  const std::set<std::string> named(config->environments().begin(),
                                    config->environments().end());
  for (const std::string& name : used) {
    if (named.count(name) == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("tasks use environment ", name,
                       ", which environments does not name; add it, or give a "
                       "tasks.jsonl without the tasks of ",
                       name));
    }
  }
  RETURN_IF_ERROR(CheckEnvironmentNames(*config, environments));
  for (const std::string& name : named) {
    if (used.count(name) == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "environments names ", name, ", which no task uses; remove it"));
    }
  }
  return absl::OkStatus();
}

// A configuration without domains has one coefficient for all; one that has
// some and not a task's has misspelt it, or forgotten it.
// `used` and `trained`: domains of all tasks, and of those to train on.
absl::Status CheckDomains(const std::set<std::string>& used,
                          const std::set<std::string>& trained,
                          const RunConfig& config) {
  std::set<std::string> named = {""};
  for (const DomainConfig& domain : config.domain()) {
    if (used.count(domain.domain_name()) == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("domain ", domain.domain_name(),
                       " has no effect: no task is of it; remove it"));
    }
    if (domain.domain_weight() > 0 &&
        trained.count(domain.domain_name()) == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "domain ", domain.domain_name(), " has the domain_weight ",
          domain.domain_weight(),
          ", and none of its tasks is of the split train; remove the weights, "
          "or give it such tasks"));
    }
    named.insert(domain.domain_name());
  }
  for (const std::string& name : used) {
    if (named.size() > 1 && named.count(name) == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tasks are of domain ", name,
          ", which no domain { } of the configuration names; add it, or take "
          "the domain from these tasks: kl_coef is then theirs"));
    }
  }
  if (used.count("") > 0 && config.domain_size() > 0 &&
      config.domain(0).domain_weight() > 0) {
    return absl::InvalidArgumentError(
        "tasks are of no domain, and the domains have a domain_weight; give "
        "these tasks one too, or no domain a weight");
  }
  return absl::OkStatus();
}

std::vector<Registration> UsedRegistrations(const EnvironmentSet& environments,
                                            const RunConfig& config) {
  std::vector<Registration> used;
  for (const Registration& registration : environments.registrations()) {
    for (const std::string& name : config.environments()) {
      if (name == registration.name()) used.push_back(registration);
    }
  }
  return used;
}

// Of one that was killed between MakeRunDirectory and the configuration.
bool IsLeftOver(const std::string& dir) {
  return Exists(dir + kLockFile) && !Exists(dir + kConfigFile);
}

std::string RemoveLeftOver(const std::string& dir) {
  return absl::StrCat(dir,
                      " is no run: a `temper train` that ended while it made "
                      "one left it; remove it");
}

absl::StatusOr<std::unique_ptr<FileLock>> LockRun(const std::string& dir) {
  auto lock = FileLock::Take(dir + kLockFile);
  if (!absl::IsFailedPrecondition(lock.status())) return lock;
  return absl::FailedPreconditionError(
      absl::StrCat(dir,
                   " is being trained by another `temper train`; stop it "
                   "first, or look on by `temper status ",
                   dir, "`"));
}

absl::Status ExistsAlready(const std::string& dir) {
  if (Exists(dir + kConfigFile)) {
    return absl::InvalidArgumentError(
        absl::StrCat(dir,
                     " exists; give another --name, or go on with it by "
                     "`temper train --resume ",
                     dir, "`"));
  }
  if (!IsLeftOver(dir)) {
    return absl::InvalidArgumentError(
        dir + " exists and is no run; give another --name");
  }
  RETURN_IF_ERROR(LockRun(dir).status());  // another may be making it just now
  return absl::InvalidArgumentError(RemoveLeftOver(dir) +
                                    ", or give another --name");
}

// Made by one process only, whoever else is about to.
absl::Status MakeRunDirectory(PreparedRun* run) {
  RETURN_IF_ERROR(MakeDirectories(ParentOf(run->dir)));
  if (mkdir(run->dir.c_str(), 0755) != 0) {
    if (errno == EEXIST) return ExistsAlready(run->dir);
    return FileError("make", run->dir, errno);
  }
  ASSIGN_OR_RETURN(run->lock, LockRun(run->dir));
  return MakeDirectories(run->dir + "/logs");
}

// The configuration last: it is what makes it a run.
absl::Status FillRunDirectory(const PreparedRun& run,
                              const std::vector<Task>& tasks) {
  RETURN_IF_ERROR(KeepRunModel(run.dir, run.config.model()));
  RETURN_IF_ERROR(WriteTaskFile(run.dir + "/tasks.jsonl", tasks));
  // The run's own: what is registered otherwise later is for later runs.
  RETURN_IF_ERROR(WriteRegistrations(absl::StrCat(run.dir, "/", kRegistryFile),
                                     run.registrations));
  return WriteFileDurably(run.dir + kConfigFile, FormatConfig(run.config));
}

// Checks what a resume reads of the run's model: the weights of the configured
// one only where they are the reference's, or there is no checkpoint. Returns
// where the rest is read from.
absl::StatusOr<std::string> CheckRunModel(PreparedRun* run) {
  const std::string& base = run->config.model();
  ASSIGN_OR_RETURN(const TrainStepOptions options,
                   MakeTrainStepOptions(run->config));
  ASSIGN_OR_RETURN(const std::string checkpoint,
                   CheckpointStore::Newest(run->dir + "/checkpoints"));
  if (options.NeedsReference() || checkpoint.empty()) {
    RETURN_IF_ERROR(CheckNamedModel(base).status());
  }
  std::string dir = RunModelDir(run->dir, base);
  if (dir == base && !Exists(base + "/config.json")) {
    dir = checkpoint + "/model";
  }
  ASSIGN_OR_RETURN(run->model, CheckModelWithoutWeights(dir));
  return dir;
}

absl::StatusOr<std::vector<Task>> GenerateTasks(const RunConfig& config) {
  const uint64_t wanted =
      uint64_t{config.steps()} * config.objective().prompts_per_step();
  // One environment may get as few as one kind of three.
  const uint64_t train =
      wanted * (config.environments_size() == 1 ? kQuickstartKinds : 1);
  const uint64_t heldout = kQuickstartKinds * config.schedule().eval_tasks();
  if (train > kQuickstartTasksMax || heldout > kQuickstartTasksMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "steps * prompts_per_step = ", wanted, " train tasks, chosen from ",
        train, ", and 3 * eval_tasks = ", heldout,
        " held-out tasks: the quickstart generator has ", kQuickstartTasksMax,
        " of each; lower steps, prompts_per_step or eval_tasks"));
  }
  std::vector<Task> tasks = QuickstartTasks(config.seed(), TaskSplit::kTrain,
                                            static_cast<uint32_t>(train));
  KeepNamed(config, &tasks);
  if (tasks.size() > wanted) tasks.resize(wanted);
  // The held-out tasks are the same whatever the seed of the run.
  std::vector<Task> held = QuickstartTasks(
      /*seed=*/0, TaskSplit::kHeldOut, static_cast<uint32_t>(heldout));
  KeepNamed(config, &held);
  tasks.insert(tasks.end(), held.begin(), held.end());
  return tasks;
}

// Signs of life while many tasks are checked.
class Progress {
 public:
  explicit Progress(const std::string& source) : source_(source) {}

  // After `tasks` of them, `part` of `whole`.
  void Show(size_t tasks, uint64_t part, uint64_t whole) {
    const int64_t now = SystemClock()->MonotonicMicros();
    if (now - shown_us_ < kProgressUs) return;
    shown_us_ = now;
    PrintErr("checking tasks: %d of %s, %.0f %%\n", tasks, source_,
             100.0 * static_cast<double>(part) /
                 static_cast<double>(std::max<uint64_t>(1, whole)));
  }

 private:
  const std::string source_;
  int64_t shown_us_ = SystemClock()->MonotonicMicros();
};

absl::StatusOr<std::vector<Task>> ReadTasks(
    const std::string& path,
    const std::function<absl::Status(const Task&)>& check) {
  auto reader = TaskFileReader::Open(path);
  RETURN_IF_ERROR(IfUnusable(
      reader.status(),
      absl::StrCat("set tasks to a tasks.jsonl file, or to ", kQuickstart)));
  std::vector<Task> tasks;
  FaultList faults;
  Progress progress(path);
  for (size_t seen = 0;;) {
    ASSIGN_OR_RETURN(auto line, (*reader)->Next());
    if (!line.has_value()) {
      RETURN_IF_ERROR(faults.status(
          TasksCannotRun(path, faults, static_cast<int64_t>(seen))));
      return tasks;
    }
    ++seen;
    progress.Show(seen, (*reader)->bytes_read(), (*reader)->bytes_total());
    if (!line->task.ok()) {
      faults.Add(std::string(line->task.status().message()));
      continue;
    }
    const absl::Status checked = check ? check(*line->task) : absl::OkStatus();
    if (checked.ok()) {
      tasks.push_back(*std::move(line->task));
    } else if (!absl::IsInvalidArgument(checked)) {
      return checked;  // nobody there to ask: of no task, so of all
    } else {
      faults.Add(absl::StrCat(path, ":", line->number, ": ",
                              std::string(checked.message())));
    }
  }
}

}  // namespace

absl::StatusOr<RunConfig> ReadRunConfig(const std::string& dir) {
  const std::string path = dir + kConfigFile;
  const auto text = ReadFile(path, kConfigBytesMax);
  RETURN_IF_ERROR(IfUnusable(
      text.status(), "name a run directory, which `temper train` makes"));
  ASSIGN_OR_RETURN(RunConfig config, ParseConfig(*text, path));
  RETURN_IF_ERROR(ResolveConfig(&config));
  FillInDevice(&config);
  return config;
}

absl::StatusOr<std::vector<Task>> MakeTasks(
    const RunConfig& config,
    const std::function<absl::Status(const Task&)>& check) {
  if (config.tasks() != kQuickstart) {
    return ReadTasks(config.tasks(), check);
  }
  ASSIGN_OR_RETURN(std::vector<Task> tasks, GenerateTasks(config));
  FaultList faults;
  Progress progress(kQuickstart);
  for (size_t i = 0; check && i < tasks.size(); ++i) {
    const absl::Status checked = check(tasks[i]);
    if (!checked.ok() && !absl::IsInvalidArgument(checked)) return checked;
    if (!checked.ok()) faults.Add(std::string(checked.message()));
    progress.Show(i + 1, i + 1, tasks.size());
  }
  RETURN_IF_ERROR(faults.status(
      TasksCannotRun(kQuickstart, faults, static_cast<int64_t>(tasks.size()))));
  return tasks;
}

absl::Status CheckTasks(const std::vector<Task>& tasks,
                        const EnvironmentSet& environments, RunConfig* config) {
  std::set<std::string> used, domains, trained;
  std::map<std::string, uint64_t> heldout;
  for (const Task& task : tasks) {
    used.insert(task.environment());
    domains.insert(task.domain());
    if (task.split() == "train") trained.insert(task.domain());
    heldout[task.environment()] += task.split() == "heldout";
  }
  RETURN_IF_ERROR(CheckEnvironments(used, environments, config));
  for (const auto& [name, count] : heldout) {
    if (count < config->schedule().eval_tasks()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "eval_tasks ", config->schedule().eval_tasks(), " exceeds the ",
          count, " held-out tasks of environment ", name, "; lower it"));
    }
  }
  return CheckDomains(domains, trained, *config);
}

absl::StatusOr<PreparedRun> PrepareRun(RunConfig config,
                                       const std::string& config_path,
                                       int64_t unix_seconds) {
  PreparedRun run;
  RETURN_IF_ERROR(ResolveConfig(&config));
  RETURN_IF_ERROR(MakePathsAbsolute(&config));
  if (config.name().empty()) {
    config.set_name(DefaultName(config_path, unix_seconds));
  }
  run.dir = absl::StrCat(config.runs_dir(), "/", config.name());
  if (Exists(run.dir)) return ExistsAlready(run.dir);
  ASSIGN_OR_RETURN(run.model, CheckNamedModel(config.model()));
  // What is started to be asked ends with this function: the run has its own.
  ASSIGN_OR_RETURN(const auto environments,
                   EnvironmentSet::Open(kRegistryFile));
  ASSIGN_OR_RETURN(const auto check,
                   TaskCheck::Create(config.model(), run.model,
                                     config.sampling(), environments.get()));
  ASSIGN_OR_RETURN(
      const std::vector<Task> tasks,
      MakeTasks(config, [&](const Task& t) { return check->Check(t); }));
  run.prompt_tokens = check->prompt_tokens();
  RETURN_IF_ERROR(CheckTasks(tasks, *environments, &config));
  Count(tasks, &run);
  run.registrations = UsedRegistrations(*environments, config);
  if (std::none_of(tasks.begin(), tasks.end(),
                   [](const Task& task) { return task.split() == "train"; })) {
    return absl::InvalidArgumentError(
        absl::StrCat(config.tasks(),
                     " has no task of split \"train\", of which a run has one "
                     "at least; `temper eval` does without"));
  }
  run.config = std::move(config);
  RETURN_IF_ERROR(SettleDevice(&run));
  // From here on something is on disk: what could be refused has been.
  RETURN_IF_ERROR(MakeRunDirectory(&run));
  const absl::Status filled = FillRunDirectory(run, tasks);
  if (filled.ok()) return run;
  RemoveAll(run.dir).IgnoreError();  // it holds nothing yet, and is ours
  return filled;
}

absl::StatusOr<std::string> FindRunDir(const std::string& run,
                                       const std::string& runs_dir) {
  std::vector<std::string> places = {run};
  const bool absolute = absl::StartsWith(run, "/");
  if (!absolute) places.push_back(absl::StrCat(runs_dir, "/", run));
  const std::string looked = absl::StrJoin(places, " or ");
  if (absl::EndsWith(run, "/run.db")) places.push_back(ParentOf(run));
  for (const std::string& place : places) {
    if (Exists(place + kConfigFile)) return place;
  }
  for (const std::string& place : places) {
    if (IsLeftOver(place)) return absl::NotFoundError(RemoveLeftOver(place));
  }
  return absl::NotFoundError(
      absl::StrCat("no run at ", looked, "; ", kNameARun));
}

absl::StatusOr<PreparedRun> ReopenRun(const std::string& dir,
                                      const std::vector<std::string>& sets) {
  PreparedRun run;
  ASSIGN_OR_RETURN(run.dir, AbsolutePath(dir));
  if (!Exists(run.dir + kConfigFile)) return ReadRunConfig(run.dir).status();
  ASSIGN_OR_RETURN(run.lock, LockRun(run.dir));
  ASSIGN_OR_RETURN(const RunConfig was, ReadRunConfig(run.dir));
  run.config = was;
  for (const std::string& assignment : sets) {
    RETURN_IF_ERROR(SetConfigValue(assignment, &run.config));
  }
  RETURN_IF_ERROR(ResolveConfig(&run.config));
  // All checks before the first write: a resume that is refused leaves the run
  // as it was.
  RETURN_IF_ERROR(CheckResume(was, run.config));
  RETURN_IF_ERROR(SettleDevice(&run));
  ASSIGN_OR_RETURN(run.finished, CheckGoesOn(run.dir, was, run.config));
  ASSIGN_OR_RETURN(const std::string model_dir, CheckRunModel(&run));
  ASSIGN_OR_RETURN(const auto environments, EnvironmentSet::Open(absl::StrCat(
                                                run.dir, "/", kRegistryFile)));
  run.registrations = environments->registrations();
  ASSIGN_OR_RETURN(const auto check, TaskCheck::Create(model_dir, run.model,
                                                       run.config.sampling(),
                                                       environments.get()));
  ASSIGN_OR_RETURN(const std::vector<Task> tasks,
                   ReadTasks(run.dir + "/tasks.jsonl", [&](const Task& task) {
                     return check->Check(task);
                   }));
  run.prompt_tokens = check->prompt_tokens();
  Count(tasks, &run);
  // A live learner's processes read their configuration from here: one that was
  // started by hand, or that has not yet died with its `temper train`.
  ASSIGN_OR_RETURN(const auto no_learner, RunDbLock::Take(run.dir + "/run.db"));
  if (RunModelDir(run.dir, model_dir) == model_dir) {
    RETURN_IF_ERROR(KeepRunModel(run.dir, model_dir));
  }
  RETURN_IF_ERROR(MakeDirectories(run.dir + "/logs"));
  RETURN_IF_ERROR(
      WriteFileDurably(run.dir + kConfigFile, FormatConfig(run.config)));
  return run;
}

}  // namespace temper
