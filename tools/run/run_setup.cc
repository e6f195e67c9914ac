#include "tools/run/run_setup.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "environments/registration.h"
#include "environments/search/search.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "learner/store/checkpoint.h"
#include "learner/store/run_db.h"
#include "learner/store/run_model.h"
#include "learner/train/train_step_options.h"
#include "proto/wire/run_numerics.h"
#include "proto/wire/task_file.h"
#include "tools/cli/next_step.h"
#include "tools/config/config.h"
#include "tools/quickstart/tasks.h"
#include "tools/run/loaded_model.h"
#include "tools/run/open_files.h"
#include "tools/run/resume_check.h"
#include "tools/run/run_tasks.h"
#include "tools/run/task_check.h"

namespace temper {
namespace {

constexpr char kConfigFile[] = "/config.textproto";
constexpr char kLockFile[] = "/train.lock";
constexpr uint64_t kConfigBytesMax = 1 << 20;

// The run goes on from any working directory, so nothing in it depends on one.
absl::Status MakePathsAbsolute(RunConfig* config) {
  ASSIGN_OR_RETURN(*config->mutable_model(), AbsolutePath(config->model()));
  ASSIGN_OR_RETURN(*config->mutable_runs_dir(),
                   AbsolutePath(config->runs_dir()));
  for (std::string& source : *config->mutable_tasks()) {
    if (source == kQuickstartTasks) continue;
    ASSIGN_OR_RETURN(source, AbsolutePath(source));
  }
  return absl::OkStatus();
}

// From here on the run is of one kind of device, whatever the machine of a
// resume has.
absl::Status SettleDevice(const ComputeWish& wish, PreparedRun* run) {
  ASSIGN_OR_RETURN(run->compute, ChooseComputeBackend(wish));
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
    ASSIGN_OR_RETURN(const NamedModel named,
                     CheckNamedModel(base, NumericsOf(run->config)));
    run->codes = named.codes;
  }
  std::string dir = RunModelDir(run->dir, base);
  if (dir == base && !Exists(base + "/config.json")) {
    dir = checkpoint + "/model";
  }
  ASSIGN_OR_RETURN(run->model, CheckModelWithoutWeights(dir));
  return dir;
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

absl::StatusOr<PreparedRun> PrepareRun(RunConfig config,
                                       const std::string& config_path,
                                       int64_t unix_seconds) {
  PreparedRun run;
  RETURN_IF_ERROR(OpenFilesMax().status());
  RETURN_IF_ERROR(ResolveConfig(&config));
  RETURN_IF_ERROR(MakePathsAbsolute(&config));
  if (config.name().empty()) {
    config.set_name(DefaultName(config_path, unix_seconds));
  }
  run.dir = absl::StrCat(config.runs_dir(), "/", config.name());
  if (Exists(run.dir)) return ExistsAlready(run.dir);
  ASSIGN_OR_RETURN(const NamedModel named,
                   CheckNamedModel(config.model(), NumericsOf(config)));
  run.model = named.config;
  run.codes = named.codes;
  // What is started to be asked ends with this function: the run has its own.
  ASSIGN_OR_RETURN(const auto environments,
                   EnvironmentSet::Open(kRegistryFile));
  ASSIGN_OR_RETURN(const auto check,
                   TaskCheck::Create(config.model(), run.model,
                                     config.sampling(), environments.get()));
  ASSIGN_OR_RETURN(
      std::vector<Task> tasks,
      MakeTasks(config, [&](const Task& t) { return check->Check(t); }));
  for (Task& task : tasks) RETURN_IF_ERROR(PinIndex(&task));
  run.prompt_tokens = check->prompt_tokens();
  RETURN_IF_ERROR(CheckTasks(tasks, *environments, &config));
  Count(tasks, &run);
  run.registrations = UsedRegistrations(*environments, config);
  if (std::none_of(tasks.begin(), tasks.end(),
                   [](const Task& task) { return task.split() == "train"; })) {
    return absl::InvalidArgumentError(
        absl::StrCat(absl::StrJoin(config.tasks(), ", "),
                     " has no task of split \"train\", of which a run has one "
                     "at least; `temper eval` does without"));
  }
  run.config = std::move(config);
  RETURN_IF_ERROR(SettleDevice(WishOf(run.config), &run));
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
  RETURN_IF_ERROR(OpenFilesMax().status());
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
  ASSIGN_OR_RETURN(run.finished, CheckGoesOn(run.dir, was, run.config));
  if (!run.finished) {
    RETURN_IF_ERROR(SettleDevice(ToGoOn(WishOf(run.config)), &run));
  }
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
