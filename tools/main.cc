// temper: one binary, its verbs in a table.

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/base/float_mode.h"
#include "tools/cli.h"
#include "tools/cmd_config.h"
#include "tools/cmd_doctor.h"
#include "tools/isa.h"

namespace temper {
namespace {

std::vector<Verb> Verbs() {
  return {
      {"config", "resolve a configuration, or explain its keys", RunConfigVerb},
      {"doctor", "check what a run needs of this machine", RunDoctorVerb},
  };
}

int Main(int argc, char** argv) {
  SetFlushDenormals();
  // A tier that is not there is refused whatever the verb, before it starts.
  const auto isa = ChooseIsa(getenv("TEMPER_ISA"), ThisCpu());
  if (!isa.ok()) {
    fprintf(stderr, "temper: %s\n",
            std::string(isa.status().message()).c_str());
    return kExitMisused;
  }
  return RunVerb("", Verbs(), argc, argv);
}

}  // namespace
}  // namespace temper

int main(int argc, char** argv) { return temper::Main(argc, argv); }
