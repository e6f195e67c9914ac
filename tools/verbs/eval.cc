#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "environments/environment_set.h"
#include "environments/registration.h"
#include "environments/sandbox.h"
#include "environments/sandbox_supervisor.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "proto/trajectory.pb.h"
#include "proto/wire/outcome.h"
#include "proto/wire/run_numerics.h"
#include "proto/wire/task_file.h"
#include "rollout/local_rollout.h"
#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/cli/json_output.h"
#include "tools/cli/print.h"
#include "tools/config/config.h"
#include "tools/config/config_leaf.h"
#include "tools/run/compute.h"
#include "tools/run/engine_size.h"
#include "tools/run/loaded_model.h"
#include "tools/run/run_setup.h"
#include "tools/run/run_tasks.h"
#include "tools/run/task_check.h"
#include "tools/run/without_tools.h"
#include "tools/verbs/verbs.h"
#include "tools/view/pass_at_k.h"
#include "tools/view/progress.h"

namespace temper {
namespace {

struct EvalFlags {
  std::string model;
  ConfigFlags config;
  int64_t samples = 1;
  bool without_tools = false;
  bool json = false;
};

// What was measured of one environment.
struct EnvironmentResult {
  std::vector<TaskScore> scores;  // of its tasks
  int64_t correct = 0;
  int64_t well_formed = 0;  // proto/wire/outcome.h
  int64_t without_verdict = 0;
  std::string first_error;  // of those without a verdict

  int64_t episodes() const {  // with a verdict
    int64_t count = 0;
    for (const TaskScore& score : scores) count += score.samples;
    return count;
  }
};

// By environment. Trajectories are ordered by task, then sample.
std::map<std::string, EnvironmentResult> Collect(
    const std::vector<Task>& tasks, const std::vector<Trajectory>& trajectories,
    int64_t samples) {
  std::map<std::string, EnvironmentResult> results;
  auto next = trajectories.begin();
  for (const Task& task : tasks) {
    EnvironmentResult& result = results[task.environment()];
    TaskScore score;
    for (int64_t s = 0; s < samples; ++s, ++next) {
      if (!next->has_reward()) {
        // No verdict is no failure of the model's (promise P4): left out, and
        // told of.
        if (++result.without_verdict == 1) result.first_error = next->error();
        continue;
      }
      ++score.samples;
      score.correct += next->verdict().correct();
      result.well_formed += IsWellFormed(next->outcome());
    }
    result.correct += score.correct;
    result.scores.push_back(score);
  }
  return results;
}

// Tasks of which an episode had no verdict, with the reason.
void WarnOfFailedTasks(const std::vector<Task>& tasks,
                       const std::vector<Trajectory>& trajectories,
                       int64_t samples) {
  std::vector<FailedTaskView> failed;
  for (size_t i = 0; i < tasks.size(); ++i) {
    for (int64_t s = 0; s < samples; ++s) {
      const Trajectory& trajectory =
          trajectories[i * static_cast<size_t>(samples) +
                       static_cast<size_t>(s)];
      if (trajectory.has_reward()) continue;
      failed.push_back(
          {0, tasks[i].id(), tasks[i].environment(), trajectory.error()});
      break;
    }
  }
  PrintErr("%s", Lines{FormatFailedTasks(failed)});
}

void PrintText(const std::map<std::string, EnvironmentResult>& results,
               int64_t samples) {
  for (const auto& [name, result] : results) {
    for (const int64_t k : ReportedK(samples)) {
      const PassRate rate = MeanPassAtK(result.scores, k);
      const std::string text =
          rate.tasks == 0
              ? "-"
              : absl::StrFormat("%.3f +- %.3f", rate.mean, rate.standard_error);
      PrintOut("%-16s pass@%-4d %s  (%d tasks x %d samples)\n", name, k, text,
               rate.tasks, samples);
    }
    PrintOut("%-16s well-formed %d/%d\n", name, result.well_formed,
             result.episodes());
    if (result.without_verdict > 0) {
      PrintOut(
          "%-16s %d episodes had no verdict and are left out; the first: "
          "%s\n",
          name, result.without_verdict, result.first_error);
    }
  }
}

Json ToJson(const std::map<std::string, EnvironmentResult>& results,
            const EvalFlags& flags) {
  Json rows = Json::array();
  for (const auto& [name, result] : results) {
    Json rates = Json::array();
    for (const int64_t k : ReportedK(flags.samples)) {
      const PassRate rate = MeanPassAtK(result.scores, k);
      const bool any = rate.tasks > 0;
      rates.push_back(
          {{"k", k},
           {"mean", any ? Json(rate.mean) : Json(nullptr)},
           {"standard_error", any ? Json(rate.standard_error) : Json(nullptr)},
           {"tasks", rate.tasks}});
    }
    rows.push_back({{"environment", name},
                    {"tasks", result.scores.size()},
                    {"episodes", result.episodes()},
                    {"correct", result.correct},
                    {"well_formed", result.well_formed},
                    {"without_verdict", result.without_verdict},
                    {"first_error", result.without_verdict == 0
                                        ? Json(nullptr)
                                        : Json(result.first_error)},
                    {"pass_at_k", std::move(rates)}});
  }
  return {{"model", flags.model},
          {"samples", flags.samples},
          {"without_tools", flags.without_tools},
          {"environments", std::move(rows)}};
}

// InternalError where an environment was not measured at all.
absl::Status CheckMeasured(
    const std::map<std::string, EnvironmentResult>& results) {
  for (const auto& [name, result] : results) {
    if (result.episodes() > 0) continue;
    return absl::InternalError(absl::StrCat(
        name, " was not measured: none of its ", result.without_verdict,
        " episodes had a verdict; the first: ", result.first_error));
  }
  return absl::OkStatus();
}

// Of a configuration that was written to train by, eval heeds the sampling and
// these. A file may say the rest as well, --set may not.
constexpr const char* kHeededKeys[] = {"seed",     "tasks",   "environments",
                                       "numerics", "threads", "eval_tasks",
                                       "device"};

bool IsHeeded(const ConfigLeaf& leaf) {
  if (leaf.section != nullptr && leaf.section->name() == "sampling") {
    return true;
  }
  for (const char* key : kHeededKeys) {
    if (leaf.field->name() == key) return true;
  }
  return false;
}

absl::Status CheckSets(const std::vector<std::string>& sets) {
  std::vector<std::string> heeded;
  for (const ConfigLeaf& leaf : ConfigLeaves(RunConfig::descriptor())) {
    if (IsHeeded(leaf)) heeded.push_back(leaf.field->name());
  }
  for (const std::string& assignment : sets) {
    const std::string key = assignment.substr(0, assignment.find('='));
    // A key that was given for nothing is refused (promise P7); one in a file
    // was meant for training.
    const ConfigLeaf leaf = FindConfigLeaf(RunConfig::descriptor(), key);
    // What is no key at all is told by the configuration's reader.
    if (leaf.field == nullptr && key != "domain") continue;
    if (leaf.field != nullptr && IsHeeded(leaf)) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "--set ", assignment, " has no effect on eval, which heeds ",
        absl::StrJoin(heeded, ", "), "; remove it"));
  }
  return absl::OkStatus();
}

// Resolved, with something to measure.
absl::StatusOr<RunConfig> EvalConfig(const EvalFlags& flags) {
  RETURN_IF_ERROR(CheckSets(flags.config.sets));
  ASSIGN_OR_RETURN(RunConfig config, LoadConfig(flags.config));
  config.set_model(flags.model);
  // A key that must be given, and that means nothing here.
  if (!config.has_steps()) config.set_steps(1);
  RETURN_IF_ERROR(ResolveConfig(&config));
  if (config.schedule().eval_tasks() == 0) {
    return absl::InvalidArgumentError(
        "eval_tasks 0 leaves nothing to measure; set it to 1 or more");
  }
  return config;
}

// The helper that sandboxes come from, where an environment needs one.
struct Sandboxes {
  std::unique_ptr<SandboxSupervisor> supervisor;
  std::unique_ptr<SandboxPool> pool;
};

// Forks the helper: to be called before anything makes threads, as the backend
// does, and as the connection to a registered environment does, which is asked
// about its tasks before it is known that another needs sandboxes.
absl::StatusOr<Sandboxes> StartSandboxes() {
  Sandboxes sandboxes;
  ASSIGN_OR_RETURN(sandboxes.supervisor,
                   SandboxSupervisor::Start(SandboxSupervisorOptions()));
  ASSIGN_OR_RETURN(sandboxes.pool,
                   SandboxPool::Create(sandboxes.supervisor.get()));
  return sandboxes;
}

bool NeedSandboxes(const RunConfig& config,
                   const EnvironmentSet& environments) {
  return std::any_of(config.environments().begin(), config.environments().end(),
                     [&](const std::string& name) {
                       const EnvironmentFacts* facts = environments.Find(name);
                       return facts->served_in == ServedIn::kHost &&
                              facts->needs_sandbox;
                     });
}

// The tasks to play, all of which can run; what else the file holds is only
// read.
absl::StatusOr<std::vector<Task>> PlayedTasks(
    const EnvironmentSet& environments, RunConfig* config, TaskCheck& check) {
  const int64_t count = config->schedule().eval_tasks();
  std::map<std::string, int64_t> taken;  // as HeldOutTasks takes them
  ASSIGN_OR_RETURN(
      const std::vector<Task> all,
      MakeTasks(*config, [&](const Task& task) -> absl::Status {
        if (task.split() != "heldout" || taken[task.environment()]++ >= count) {
          return absl::OkStatus();
        }
        return check.Check(task);
      }));
  RETURN_IF_ERROR(CheckTasks(all, environments, config));
  return HeldOutTasks(all, count);
}

absl::Status Evaluate(const EvalFlags& flags) {
  ASSIGN_OR_RETURN(const ModelConfig named, ReadNamedConfig(flags.model));
  ASSIGN_OR_RETURN(RunConfig config, EvalConfig(flags));
  ASSIGN_OR_RETURN(const auto environments,
                   EnvironmentSet::Open(kRegistryFile));
  absl::StatusOr<Sandboxes> sandboxes = Sandboxes();
  if (!environments->registrations().empty()) sandboxes = StartSandboxes();
  ASSIGN_OR_RETURN(const auto check,
                   TaskCheck::Create(flags.model, named, config.sampling(),
                                     environments.get()));
  ASSIGN_OR_RETURN(const std::vector<Task> tasks,
                   PlayedTasks(*environments, &config, *check));
  EnvironmentContext context;
  if (NeedSandboxes(config, *environments)) {
    if (environments->registrations().empty()) sandboxes = StartSandboxes();
    RETURN_IF_ERROR(sandboxes.status());
    context.sandboxes = sandboxes->pool.get();
  }
  // After the sandboxes' helper was forked: a GPU's driver makes threads.
  ASSIGN_OR_RETURN(const auto backend,
                   NewComputeBackendSayingWhy(WishOf(config)));
  ASSIGN_OR_RETURN(const LoadedModel model,
                   LoadModel(backend.get(), NumericsOf(config), flags.model));
  LocalRolloutOptions options;
  options.engine =
      SizeEngine({.samples = static_cast<int64_t>(tasks.size()) * flags.samples,
                  .group_size = flags.samples,
                  .prompt_tokens = check->prompt_tokens(),
                  .max_tokens = config.sampling().max_tokens(),
                  .max_turns = config.sampling().max_turns()},
                 named);
  options.sampling = config.sampling();
  options.rewards = config.rewards();
  options.seed = config.seed();
  options.samples = static_cast<uint32_t>(flags.samples);
  int64_t shown = 0;
  options.progress = [&shown](int64_t done, int64_t total) {
    // Ten lines at most, however many episodes.
    if (done * 10 / total == shown * 10 / total) return;
    shown = done;
    PrintErr("%d of %d episodes\n", done, total);
  };
  const auto new_environment = [&](const std::string& name)
      -> absl::StatusOr<std::unique_ptr<Environment>> {
    ASSIGN_OR_RETURN(auto episode, environments->New(name, context));
    if (!flags.without_tools) return episode;
    return WithoutTools(std::move(episode));
  };
  ASSIGN_OR_RETURN(
      const std::vector<Trajectory> trajectories,
      RunLocalRollout(backend.get(), model.weights.get(), *model.tokenizer,
                      tasks, new_environment, options));
  WarnOfFailedTasks(tasks, trajectories, flags.samples);
  const auto results = Collect(tasks, trajectories, flags.samples);
  if (flags.json) {
    PrintJson(ToJson(results, flags));
  } else {
    PrintText(results, flags.samples);
  }
  return CheckMeasured(results);
}

}  // namespace

int RunEvalVerb(int argc, char** argv) {
  EvalFlags values;
  Flags flags("eval",
              "Measures pass@k on held-out tasks, and how many episodes are "
              "well-formed. CONFIG or --set give tasks, which have no default, "
              "eval_tasks, sampling and seed, as for `temper train`.");
  flags.Text("MODEL", &values.model, "A Hugging Face directory.");
  flags.Require();
  AddConfigFlags(&flags, &values.config);
  flags.Number("--samples", &values.samples, 1, 1024,
               "Samples of each task; default 1.");
  flags.Switch("--without-tools", &values.without_tools,
               "Refuse every tool call: what the model solves in its head.");
  AddJsonFlag(&flags, &values.json);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  const absl::Status status = Evaluate(values);
  return status.ok() ? kExitDone : ReportError("eval", status);
}

}  // namespace temper
