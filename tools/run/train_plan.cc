#include "tools/run/train_plan.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "environments/environment_command.h"
#include "environments/environment_set.h"
#include "environments/registration.h"
#include "environments/registry.h"
#include "kernels/model/kv_cache.h"
#include "proto/wire/run_numerics.h"
#include "rollout/worker.h"
#include "tools/run/compute.h"
#include "tools/run/engine_size.h"
#include "tools/run/loaded_model.h"
#include "tools/run/memory_plan.h"

namespace temper {
namespace {

constexpr int64_t kSandboxesMin = 8;

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

// Where each environment is served; and, below, behind which walls.
std::string DescribeEnvironments(const PreparedRun& run) {
  std::map<std::string, std::string> registered;
  for (const Registration& registration : run.registrations) {
    registered[registration.name()] = WhereServed(registration);
  }
  std::vector<std::string> parts;
  for (const std::string& name : run.config.environments()) {
    const EnvironmentFacts* facts = FindEnvironment(name);
    const auto found = registered.find(name);
    const bool in_host =
        facts != nullptr && facts->served_in == ServedIn::kHost;
    parts.push_back(absl::StrCat(name, " (",
                                 found != registered.end() ? found->second
                                 : in_host                 ? "env-host"
                                                           : "each worker",
                                 ")"));
  }
  return absl::StrJoin(parts, ", ");
}

bool StartsCommands(const PreparedRun& run) {
  return std::any_of(run.registrations.begin(), run.registrations.end(),
                     [](const Registration& registration) {
                       return !registration.command().empty();
                     });
}

// What serves environments to workers, and ends after them.
ChildSpec Server(const TrainOptions& options, const std::string& name) {
  ChildSpec spec;
  spec.name = spec.group = name;
  spec.restarts_max = options.restarts_max;
  spec.stop_order = 2;
  spec.stop_grace_ms = options.worker_grace_ms;
  return spec;
}

ChildSpec PlanHost(const TrainOptions& options) {
  // One for each worker at least: a worker asks for no more Steps at a time
  // than one sandbox serves before their deadline (step_limits.h).
  const int64_t workers = options.run.config.workers();
  const int64_t sandboxes = std::max<int64_t>(kSandboxesMin, workers);
  // What all workers hold, or ask, at once; and once more what workers that
  // died did, until the host notices.
  const EngineDemand demand = WorkerDemand(
      options.run.config, 0, HaveOpenSteps(options.run.registrations));
  // Those in a Step that stays open have their place elsewhere.
  const int64_t episodes = 2 * workers * demand.samples;
  const int64_t calls = 2 * workers * kJobThreads;
  ChildSpec spec = Server(options, "env-host");
  spec.args = {"env-host",
               "--address-file",
               options.run.dir + kHostAddressFile,
               "--sandboxes",
               absl::StrCat(sandboxes),
               "--episodes",
               absl::StrCat(episodes),
               "--calls",
               absl::StrCat(calls)};
  return spec;
}

// Its log has the name of the process, too.
ChildSpec PlanRegistered(const TrainOptions& options, const std::string& name) {
  const std::string& dir = options.run.dir;
  ChildSpec spec = Server(options, "environment-" + name);
  // It costs its own episodes alone: a run whose other environments serve is
  // not ended for it. One whose groups never come whole ends the run all the
  // same (learner/intake/trajectory_buffer.h).
  spec.restarts_max = kRestartsUncounted;
  spec.args = {"env",
               "serve",
               name,
               "--registry",
               absl::StrCat(dir, "/", kRegistryFile),
               "--address-file",
               ServedAddressFile(dir, name)};
  return spec;
}

// What the cache takes, and would take otherwise.
std::string DescribeCache(const RunConfig& config, const ModelConfig& model) {
  const Numerics numerics = NumericsOf(config);
  const auto bytes = [&](const Numerics& in) {
    return KvCache::TokenBytes(model, in);
  };
  const int64_t heads = KvCache::MultiHeadTokenBytes(model);
  const double less = 100.0 * static_cast<double>(heads - bytes(numerics)) /
                      static_cast<double>(heads);
  std::string text = absl::StrFormat(
      "%d bytes a token and layer in %s, %.0f %% %s than multi-head attention "
      "in bf16 takes (%d)",
      bytes(numerics), NameOf(numerics), std::abs(less),
      less < 0 ? "more" : "less", heads);
  for (const Numerics& other : {kBf16, kFp8}) {
    if (other == numerics) continue;
    absl::StrAppend(&text, "; ", bytes(other), " in ", NameOf(other));
  }
  return text;
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

}  // namespace

std::vector<ChildSpec> PlanChildren(const TrainOptions& options) {
  const RunConfig& config = options.run.config;
  const std::string& dir = options.run.dir;
  std::vector<ChildSpec> children;
  const bool host = NeedsHost(config);
  if (host) children.push_back(PlanHost(options));
  for (const Registration& registration : options.run.registrations) {
    if (registration.command().empty()) continue;
    children.push_back(PlanRegistered(options, registration.name()));
  }
  ChildSpec learner;
  learner.name = learner.group = "learner";
  learner.args = {"learner", "--run-dir", dir};
  if (options.resume) learner.args.push_back("--resume");
  // Its end is the run's, and nobody can take its place: what it had in memory
  // is not in the last checkpoint.
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
      worker.args.insert(worker.args.end(),
                         {"--env-host-file", dir + kHostAddressFile});
    }
    worker.restarts_max = options.restarts_max;
    // After the learner, which may need none of them, and before the hosts,
    // whose calls they wait for.
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
  std::vector<std::pair<std::string, std::string>> lines = {
      {"run", run.dir},
      {"model",
       absl::StrCat(config.model(), ": ", Mega(model.parameter_count()),
                    " parameters, ", Mega(model.active_parameter_count()),
                    " active a token, ", model.num_hidden_layers,
                    " layers, index_topk ", model.index_topk)},
      {"numerics",
       absl::StrCat(
           RunConfig::Numerics_Name(config.numerics()),
           run.compute.device == Device::kCpu ? " on CPU tier " : " on ",
           run.compute.name, " (", run.compute.why, ")")},
      {"cache", DescribeCache(config, model)},
      {"processes", DescribeProcesses(options)},
      {"environments", DescribeEnvironments(run)},
      {"tasks", DescribeTasks(run)},
      {"steps", absl::StrCat(config.steps(), " of ",
                             config.objective().prompts_per_step(),
                             " prompts x ", config.objective().group_size(),
                             " samples, seed ", config.seed())},
      {"evaluation", absl::StrCat(config.schedule().eval_tasks(),
                                  " held-out tasks an environment, with the "
                                  "run's own sampling")},
  };
  if (const std::string stored = WordsOf(run.codes, NumericsOf(config));
      !stored.empty()) {
    lines.emplace_back("weights", stored);
  }
  if (StartsCommands(run)) {
    lines.emplace_back(
        "isolation",
        absl::StrCat("of commands: ", EnvironmentCommand::DescribeWalls()));
  }
  const auto memory =
      DescribeMemory(PlanMemory(config, model, run.prompt_tokens,
                                HaveOpenSteps(run.registrations)),
                     {AvailableMemoryBytes(), run.compute.gpu_memory_bytes});
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

}  // namespace temper
