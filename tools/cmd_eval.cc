#include "tools/cmd_eval.h"

#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "environments/registry.h"
#include "environments/sandbox.h"
#include "environments/sandbox_supervisor.h"
#include "kernels/base/status_macros.h"
#include "proto/trajectory.pb.h"
#include "rollout/local_rollout.h"
#include "tools/cli.h"
#include "tools/compute.h"
#include "tools/config.h"
#include "tools/flags.h"
#include "tools/loaded_model.h"
#include "tools/pass_at_k.h"
#include "tools/run_setup.h"

namespace temper {
namespace {

struct EvalFlags {
  std::string model;
  ConfigFlags config;
  int64_t samples = 1;
};

// The first `count` held-out tasks of each environment.
std::vector<Task> HeldOut(const std::vector<Task>& tasks, int64_t count) {
  std::map<std::string, int64_t> taken;
  std::vector<Task> held;
  for (const Task& task : tasks) {
    if (task.split() != "heldout") continue;
    if (taken[task.environment()]++ < count) held.push_back(task);
  }
  return held;
}

void PrintRates(const std::vector<Task>& tasks,
                const std::vector<Trajectory>& trajectories, int64_t samples) {
  // Trajectories come ordered by task, then sample.
  std::map<std::string, std::vector<TaskScore>> scores;
  std::map<std::string, int64_t> lost;
  for (size_t i = 0; i < tasks.size(); ++i) {
    TaskScore score;
    for (int64_t s = 0; s < samples; ++s) {
      const Trajectory& trajectory =
          trajectories[i * static_cast<size_t>(samples) +
                       static_cast<size_t>(s)];
      if (!trajectory.has_reward()) {
        ++lost[tasks[i].environment()];
        continue;
      }
      ++score.samples;
      score.correct += trajectory.verdict().correct();
    }
    scores[tasks[i].environment()].push_back(score);
  }
  for (const auto& [name, of_tasks] : scores) {
    for (int64_t k = 1; k <= samples; k *= 2) {
      const PassRate rate = MeanPassAtK(of_tasks, k);
      printf("%-16s pass@%-4lld %.3f +- %.3f  (%lld tasks x %lld samples)\n",
             name.c_str(), static_cast<long long>(k), rate.mean,
             rate.standard_error, static_cast<long long>(rate.tasks),
             static_cast<long long>(samples));
    }
    if (lost[name] > 0) {
      printf("%-16s %lld episodes had no verdict and are left out\n",
             name.c_str(), static_cast<long long>(lost[name]));
    }
  }
}

absl::Status Evaluate(const EvalFlags& flags) {
  ASSIGN_OR_RETURN(RunConfig config, LoadConfig(flags.config));
  config.set_model(flags.model);
  if (!config.has_steps()) config.set_steps(1);
  RETURN_IF_ERROR(ResolveConfig(&config));
  ASSIGN_OR_RETURN(const std::vector<Task> all, MakeTasks(config));
  RETURN_IF_ERROR(CheckTasks(all, &config));
  const std::vector<Task> tasks = HeldOut(all, config.schedule().eval_tasks());
  std::unique_ptr<SandboxSupervisor> supervisor;
  std::unique_ptr<SandboxPool> pool;
  for (const std::string& name : config.environments()) {
    if (!FindEnvironment(name)->needs_sandbox || supervisor != nullptr) {
      continue;
    }
    // Forks its helper: before the backend makes threads.
    ASSIGN_OR_RETURN(supervisor,
                     SandboxSupervisor::Start(SandboxSupervisorOptions()));
    ASSIGN_OR_RETURN(pool, SandboxPool::Create(supervisor.get()));
  }
  EnvironmentContext context;
  context.sandboxes = pool.get();
  ASSIGN_OR_RETURN(const auto backend,
                   NewComputeBackend(static_cast<int>(config.threads())));
  ASSIGN_OR_RETURN(const LoadedModel model,
                   LoadModel(backend.get(), flags.model));
  LocalRolloutOptions options;
  options.engine =
      SizeEngine(static_cast<int64_t>(tasks.size()) * flags.samples,
                 config.sampling().max_tokens());
  options.sampling = config.sampling();
  options.rewards = config.rewards();
  options.seed = config.seed();
  options.samples = static_cast<uint32_t>(flags.samples);
  int64_t shown = 0;
  options.progress = [&shown](int64_t done, int64_t total) {
    if (done * 10 / total == shown * 10 / total) return;
    shown = done;
    fprintf(stderr, "%lld of %lld episodes\n", static_cast<long long>(done),
            static_cast<long long>(total));
  };
  ASSIGN_OR_RETURN(
      const std::vector<Trajectory> trajectories,
      RunLocalRollout(
          backend.get(), model.weights.get(), *model.tokenizer, tasks,
          [&context](const std::string& name) {
            return NewEnvironment(name, context);
          },
          options));
  PrintRates(tasks, trajectories, flags.samples);
  return absl::OkStatus();
}

}  // namespace

int RunEvalVerb(int argc, char** argv) {
  EvalFlags values;
  Flags flags("eval",
              "Measures pass@k on held-out tasks. CONFIG and --set give tasks, "
              "eval_tasks, sampling and seed, as for `temper train`.");
  flags.Text("MODEL", &values.model, "A Hugging Face directory.");
  flags.Require();
  AddConfigFlags(&flags, &values.config);
  flags.Number("--samples", &values.samples, 1, 1024,
               "Samples of each task; default 1.");
  if (const auto code = flags.Parse(argc, argv)) return *code;
  const absl::Status status = Evaluate(values);
  return status.ok() ? kExitDone : ReportError("eval", status);
}

}  // namespace temper
