#include <string>

#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/cli/print.h"
#include "tools/run/sft_making.h"
#include "tools/run/stop_signal.h"
#include "tools/verbs/verbs.h"

namespace temper {

int RunSftVerb(int argc, char** argv) {
  SftRequest request;
  Flags flags("sft", "Makes a checkpoint from demonstrations.");
  flags.Text("CONFIG", &request.config_path,
             "An SftConfig in text format (proto/sft_config.proto).");
  flags.Text("--output", &request.output,
             "The checkpoint's directory, new or empty, instead of the "
             "configuration's.");
  flags.Text("--revision", &request.revision,
             "The source revision, written into manifest.json.");
  flags.Number("--steps", &request.steps, 0, 1'000'000'000,
               "Stop after so many steps; 0 runs them all.");
  flags.Text("--resume", &request.resume,
             "Go on with this unfinished output directory from its newest "
             "checkpoint; CONFIG may be left out.");
  if (const auto code = flags.Parse(argc, argv)) return *code;
  // Before anything is read: Ctrl-C ends the check of demonstrations too. What
  // takes long and does not look (a tokenizer that is learnt) ends by a second
  // one; a making that is killed goes on from its last checkpoint.
  const absl::Status caught = InstallStopSignal(SecondStop::kEnds);
  if (!caught.ok()) return ReportError("sft", caught);
  const absl::StatusOr<std::string> made = RunSft(request);
  if (!made.ok()) return ReportError("sft", made.status());
  // The one result, for a script that goes on with it; the rest was talk.
  PrintOut("%s\n", *made);
  return kExitDone;
}

}  // namespace temper
