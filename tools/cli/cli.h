// What every verb of the command line shares: exit codes, flags, messages.
// Results go to stdout, talk to stderr.
//
// Functions without state; main's thread only.

#ifndef TOOLS_CLI_CLI_H_
#define TOOLS_CLI_CLI_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/config.pb.h"
#include "tools/cli/exit_code.h"
#include "tools/cli/flags.h"

namespace temper {

// One verb, or a verb's sub-verb: `run` gets main's arguments from its name
// on and returns the exit code.
struct Verb {
  const char* name;
  const char* help;  // one line
  int (*run)(int argc, char** argv);
};

// Runs the sub-verb that argv[1] names, with argv from there on; without one,
// or with one that is not in `verbs`, says what there is and is misused. The
// help of `verb` ("" for the program itself) is printed for --help.
int RunVerb(const std::string& verb, const std::vector<Verb>& verbs, int argc,
            char** argv);

// Prints a failure as "temper VERB: message", in lines only where it is a list
// of faults (kernels/base/fault_list.h), and returns its exit code:
// kExitMisused for InvalidArgument and NotFound, else kExitFailed.
int ReportError(const std::string& verb, const absl::Status& status);

// The flags of every verb that takes a configuration.
struct ConfigFlags {
  std::string path;               // positional; "" if not given
  std::vector<std::string> sets;  // --set key=value, in order
  std::optional<std::string> name;
  std::optional<std::string> runs_dir;
  std::optional<std::string> seed;
  std::optional<std::string> steps;
};

// Adds CONFIG, --set and --seed; none is required. `values` outlives `flags`.
void AddConfigFlags(Flags* flags, ConfigFlags* values);

// Adds --name, --runs-dir and --steps, which only a run of training heeds.
void AddRunFlags(Flags* flags, ConfigFlags* values);

// Reads the file, if one is named, then applies --set and the other flags; not
// yet resolved. NotFound if there is no such file, InvalidArgument for what is
// in it.
absl::StatusOr<RunConfig> LoadConfig(const ConfigFlags& flags);

}  // namespace temper

#endif  // TOOLS_CLI_CLI_H_
