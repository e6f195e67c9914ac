// temper: one binary, its verbs in a table.

#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/base/float_mode.h"
#include "tools/cli.h"
#include "tools/cmd_config.h"
#include "tools/cmd_doctor.h"
#include "tools/cmd_env.h"
#include "tools/cmd_env_host.h"
#include "tools/cmd_eval.h"
#include "tools/cmd_generate.h"
#include "tools/cmd_inspect.h"
#include "tools/cmd_learner.h"
#include "tools/cmd_rollout.h"
#include "tools/cmd_sft.h"
#include "tools/cmd_status.h"
#include "tools/cmd_train.h"
#include "tools/compute.h"
#include "tools/print.h"

namespace temper {
namespace {

std::vector<Verb> Verbs() {
  return {
      {"train", "post-train a model: all processes, on this machine",
       RunTrainVerb},
      {"learner", "the training process of a run", RunLearnerVerb},
      {"rollout", "a worker process that samples episodes", RunRolloutVerb},
      {"env-host", "serve environments to rollout workers", RunEnvHostVerb},
      {"sft", "make a checkpoint from demonstrations", RunSftVerb},
      {"eval", "measure pass@k on held-out tasks", RunEvalVerb},
      {"generate", "let a model answer a prompt", RunGenerateVerb},
      {"inspect", "show a run's steps, groups and trajectories",
       RunInspectVerb},
      {"status", "show where a run stands and who waits for what",
       RunStatusVerb},
      {"env", "list the environments, or test one", RunEnvVerb},
      {"config", "resolve a configuration, or explain its keys", RunConfigVerb},
      {"doctor", "check what a run needs of this machine", RunDoctorVerb},
  };
}

int Main(int argc, char** argv) {
  SetFlushDenormals();
  // A tier that is not there is refused whatever the verb, before it starts.
  const auto tier = ComputeTierName();
  if (!tier.ok()) {
    PrintErr("temper: %s\n", std::string(tier.status().message()).c_str());
    return kExitMisused;
  }
  return RunVerb("", Verbs(), argc, argv);
}

}  // namespace
}  // namespace temper

int main(int argc, char** argv) { return temper::Main(argc, argv); }
