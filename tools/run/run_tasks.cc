#include "tools/run/run_tasks.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/fault_list.h"
#include "kernels/base/status_macros.h"
#include "proto/wire/task_file.h"
#include "tools/cli/next_step.h"
#include "tools/cli/progress_timer.h"
#include "tools/quickstart/tasks.h"
#include "tools/run/task_check.h"

namespace temper {
namespace {

constexpr uint64_t kQuickstartTasksMax = 30'000;
// The generator deals three kinds in turn, two of them to one environment.
constexpr uint64_t kQuickstartKinds = 3;

// Those of the environments that the configuration names; all, if none.
void KeepNamed(const RunConfig& config, std::vector<Task>* tasks) {
  const std::set<std::string> named(config.environments().begin(),
                                    config.environments().end());
  if (named.empty()) return;
  std::erase_if(*tasks, [&named](const Task& task) {
    return named.count(task.environment()) == 0;
  });
}

// Of the generator, whose tasks are of two environments.
bool TakesEveryKind(const RunConfig& config) {
  const auto& named = config.environments();
  const auto names = [&named](const char* name) {
    return std::count(named.begin(), named.end(), name) > 0;
  };
  return named.empty() || (names("interpreter") && names("math"));
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
        "these tasks one, or domain { } the name of their environment");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Task>> GenerateTasks(const RunConfig& config) {
  const uint64_t wanted =
      uint64_t{config.steps()} * config.objective().prompts_per_step();
  // One environment may get as few as one kind of three.
  const uint64_t train =
      wanted * (TakesEveryKind(config) ? 1 : kQuickstartKinds);
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

absl::StatusOr<std::vector<Task>> CheckedQuickstart(
    const RunConfig& config,
    const std::function<absl::Status(const Task&)>& check) {
  ASSIGN_OR_RETURN(std::vector<Task> tasks, GenerateTasks(config));
  FaultList faults;
  ProgressTimer timer;
  for (size_t i = 0; check && i < tasks.size(); ++i) {
    const absl::Status checked = check(tasks[i]);
    if (!checked.ok() && !absl::IsInvalidArgument(checked)) return checked;
    if (!checked.ok()) faults.Add(std::string(checked.message()));
    TellChecking(&timer, kQuickstartTasks, static_cast<int64_t>(i + 1), i + 1,
                 tasks.size());
  }
  RETURN_IF_ERROR(faults.status(TasksCannotRun(
      kQuickstartTasks, faults, static_cast<int64_t>(tasks.size()))));
  return tasks;
}

// A task without a domain is of the one that bears its environment's name, if
// the configuration has it.
void TakeDomains(const RunConfig& config, std::vector<Task>* tasks) {
  std::set<std::string> named;
  for (const DomainConfig& domain : config.domain()) {
    named.insert(domain.domain_name());
  }
  for (Task& task : *tasks) {
    if (task.domain().empty() && named.count(task.environment()) > 0) {
      task.set_domain(task.environment());
    }
  }
}

}  // namespace

absl::StatusOr<std::vector<Task>> ReadTasks(
    const std::string& path,
    const std::function<absl::Status(const Task&)>& check) {
  auto reader = TaskFileReader::Open(path);
  RETURN_IF_ERROR(IfUnusable(
      reader.status(), absl::StrCat("set tasks to a tasks.jsonl file, or to ",
                                    kQuickstartTasks)));
  std::vector<Task> tasks;
  FaultList faults;
  ProgressTimer timer;
  for (int64_t seen = 0;;) {
    ASSIGN_OR_RETURN(auto line, (*reader)->Next());
    if (!line.has_value()) {
      RETURN_IF_ERROR(faults.status(TasksCannotRun(path, faults, seen)));
      return tasks;
    }
    ++seen;
    TellChecking(&timer, path, seen, (*reader)->bytes_read(),
                 (*reader)->bytes_total());
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

absl::StatusOr<std::vector<Task>> MakeTasks(
    const RunConfig& config,
    const std::function<absl::Status(const Task&)>& check) {
  std::vector<Task> tasks;
  absl::flat_hash_map<std::string, std::string> source_of;  // by task id
  for (const std::string& source : config.tasks()) {
    ASSIGN_OR_RETURN(std::vector<Task> part,
                     source == kQuickstartTasks
                         ? CheckedQuickstart(config, check)
                         : ReadTasks(source, check));
    for (Task& task : part) {
      const auto [other, is_new] = source_of.emplace(task.id(), source);
      if (!is_new) {
        return absl::InvalidArgumentError(absl::StrCat(
            "tasks: ", source, " has a task ", task.id(), ", and ",
            other->second, " has one too; give each an id of its own"));
      }
      tasks.push_back(std::move(task));
    }
  }
  TakeDomains(config, &tasks);
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

}  // namespace temper
