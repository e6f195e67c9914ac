#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "environments/environment_set.h"
#include "environments/registration.h"
#include "environments/remote_environment.h"
#include "kernels/base/status_macros.h"
#include "learner/store/run_model.h"
#include "proto/wire/episode_limit.h"
#include "rollout/job_lanes.h"
#include "rollout/worker.h"
#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/cli/print.h"
#include "tools/run/address_wait.h"
#include "tools/run/compute.h"
#include "tools/run/engine_size.h"
#include "tools/run/loaded_model.h"
#include "tools/run/run_setup.h"
#include "tools/run/stop_signal.h"
#include "tools/verbs/verbs.h"
#include "tools/view/run_view.h"

namespace temper {
namespace {

constexpr int64_t kPollMs = 100;

struct RolloutFlags {
  std::string run_dir;
  std::string name = "worker-0";
  std::string env_host_file;
  int64_t threads = 0;
  int64_t prompt_tokens = 0;
};

// Says to *stop when a signal came, until `done`.
class StopWatch {
 public:
  explicit StopWatch(std::atomic<bool>* stop)
      : thread_([this, stop] {
          while (!done_) {
            if (WaitForStopSignal(kPollMs)) *stop = true;
          }
        }) {}
  ~StopWatch() {
    done_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> done_{false};
  std::thread thread_;
};

absl::Status Work(const RolloutFlags& flags) {
  ASSIGN_OR_RETURN(const RunConfig config, ReadRunConfig(flags.run_dir));
  WorkerOptions options;
  ASSIGN_OR_RETURN(const auto environments,
                   EnvironmentSet::OfRun(flags.run_dir));
  const EngineDemand demand =
      WorkerDemand(config, flags.prompt_tokens,
                   HaveOpenSteps(environments->registrations()));
  ASSIGN_OR_RETURN(const ModelConfig model,
                   ReadNamedConfig(RunModelDir(flags.run_dir, config.model())));
  options.engine = SizeEngine(demand, model);
  options.learner.worker = flags.name;
  std::unique_ptr<EnvironmentClient> host;
  if (!flags.env_host_file.empty()) {
    // That there is one, not which: a host that was started again may have
    // another, so the client asks the file each time.
    RETURN_IF_ERROR(AwaitAddress({.path = flags.env_host_file}).status());
    host = std::make_unique<EnvironmentClient>(
        [file = flags.env_host_file] { return ReadAddress(file); },
        RemoteEnvironmentOptions());
  }
  options.busy_max = static_cast<int>(demand.samples);
  options.learner.capacity_samples = static_cast<uint32_t>(demand.open);
  options.lanes = JobLanes(environments->All());
  for (const Registration& registration : environments->registrations()) {
    if (registration.command().empty()) continue;
    RETURN_IF_ERROR(AwaitAddress({.path = ServedAddressFile(
                                      flags.run_dir, registration.name())})
                        .status());
  }
  // A worker counts as hung only beyond what a call may take.
  options.environment_limits = [&](const std::string& name) {
    const EnvironmentFacts* facts = environments->Find(name);
    const bool remote =
        facts != nullptr &&
        (facts->served_in == ServedIn::kRegistered ||
         (facts->served_in == ServedIn::kHost && host != nullptr));
    return remote ? facts->limits : EnvironmentLimits{0, 0, 0};
  };
  options.new_environment = [&](const std::string& name)
      -> absl::StatusOr<std::unique_ptr<Environment>> {
    const EnvironmentFacts* facts = environments->Find(name);
    const bool in_host =
        facts != nullptr && facts->served_in == ServedIn::kHost;
    if (in_host && host != nullptr) return host->NewEnvironment(name);
    return environments->New(name, EnvironmentContext());
  };
  AddressWait learner;
  learner.path = flags.run_dir + "/learner.address";
  // Held by a learner from its first look at run.db to its end.
  learner.at_work = [&flags] {
    return IsBeingWritten(flags.run_dir + "/run.db");
  };
  ASSIGN_OR_RETURN(options.learner.address, AwaitAddress(learner));
  ComputeWish wish = WishOf(config);
  // One that is started by hand may be of another kind of device than the run,
  // whose learner then says whether it takes it.
  if (BackendIsNamed()) wish.device.reset();
  wish.otherwise =
      "name a CPU tier by TEMPER_ISA, which the learner of an fp32 run takes";
  wish.threads = static_cast<int>(flags.threads);
  ASSIGN_OR_RETURN(const auto backend, NewComputeBackend(wish));
  options.numerics = wish.numerics;
  std::atomic<bool> stop{StopSignalCount() > 0};
  const StopWatch watch(&stop);
  return RunWorker(options, backend.get(), &stop);
}

}  // namespace

int RunRolloutVerb(int argc, char** argv) {
  RolloutFlags values;
  Flags flags("rollout",
              "Samples episodes for the learner of a run until it says stop. "
              "It computes on the run's device, unless TEMPER_ISA names a CPU "
              "tier or cuda.");
  flags.Text("--run-dir", &values.run_dir,
             "The run directory: config.textproto, and learner.address as soon "
             "as the learner is up.");
  flags.Require();
  flags.Text("--name", &values.name,
             "Unique among the run's live workers; default worker-0.");
  flags.Text("--env-host-file", &values.env_host_file,
             "Where an environment host writes its address; without it every "
             "environment runs in this process, those with sandboxes not at "
             "all.");
  flags.Number("--threads", &values.threads, 0, 1024,
               "Compute threads; 0: this machine's cores.");
  flags.Number("--prompt-tokens", &values.prompt_tokens, 0, kEpisodeTokensMax,
               "Of the run's longest prompt, which the cache is sized by; 0: "
               "not known.");
  if (const auto code = flags.Parse(argc, argv)) return *code;
  absl::Status status = InstallStopSignal();
  if (status.ok()) status = Work(values);
  // Stopped while it waited: it was asked to, so nothing failed.
  if (absl::IsCancelled(status) && StopSignalCount() > 0) return kExitDone;
  return status.ok() ? kExitDone : ReportError("rollout", status);
}

}  // namespace temper
