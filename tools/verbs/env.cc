#include "tools/cli/cli.h"
#include "tools/verbs/env_verbs.h"
#include "tools/verbs/verbs.h"

namespace temper {

int RunEnvVerb(int argc, char** argv) {
  return RunVerb(
      "env",
      {{"list", "list the environments", RunEnvList},
       {"init", "write one to begin with", RunEnvInit},
       {"register", "add one of yours to the list", RunEnvRegister},
       {"validate", "ask an environment about tasks", RunEnvValidate},
       {"test", "check what an environment promises", RunEnvTest},
       {"serve", "start and watch a registered environment", RunEnvServe},
       {"index", "index a corpus for environment search", RunEnvIndex},
       {"search-tasks", "make a corpus and questions on it",
        RunEnvSearchTasks}},
      argc, argv);
}

}  // namespace temper
