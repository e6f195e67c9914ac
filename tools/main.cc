// temper: one binary, its verbs in a table (tools/verbs/verbs.h).

#include <iterator>

#include "kernels/base/float_mode.h"
#include "tools/cli/cli.h"
#include "tools/cli/print.h"
#include "tools/run/build_info.h"
#include "tools/run/compute.h"
#include "tools/verbs/verbs.h"

namespace temper {
namespace {

int Main(int argc, char** argv) {
  // Before any thread starts: they inherit the mode, and every number that is
  // computed depends on it (DESIGN.md section 6).
  SetFlushDenormals();
  // A tier that is not there is refused whatever the verb, before it starts.
  const absl::Status named = CheckNamedBackend();
  if (!named.ok()) {
    PrintErr("temper: %s\n", named.message());
    return kExitMisused;
  }
  if (argc == 2 && std::string(argv[1]) == "--version") {
    // What run.db says of the program that made a run.
    PrintOut("temper %s\n", Revision());
    return kExitDone;
  }
  return RunVerb("", {std::begin(kVerbs), std::end(kVerbs)}, argc, argv);
}

}  // namespace
}  // namespace temper

int main(int argc, char** argv) { return temper::Main(argc, argv); }
