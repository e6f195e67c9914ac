// temper: one binary, its verbs in a table.

#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/base/float_mode.h"
#include "tools/cli/cli.h"
#include "tools/cli/print.h"
#include "tools/run/compute.h"
#include "tools/verbs/config.h"
#include "tools/verbs/doctor.h"
#include "tools/verbs/env.h"
#include "tools/verbs/env_host.h"
#include "tools/verbs/eval.h"
#include "tools/verbs/generate.h"
#include "tools/verbs/inspect.h"
#include "tools/verbs/learner.h"
#include "tools/verbs/rollout.h"
#include "tools/verbs/sft.h"
#include "tools/verbs/status.h"
#include "tools/verbs/train.h"

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
