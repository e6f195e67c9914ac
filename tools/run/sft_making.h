// One making of a model by `temper sft`, from its inputs to its directory:
//
//   OUTPUT/unfinished/step_N/   checkpoints (learner/train/sft_state.h)
//   OUTPUT/unfinished/lock      held by the process that is at it
//   OUTPUT/{config.json,model.safetensors,tokenizer.json,manifest.json}
//                               the model; unfinished/ is gone then
//
// All inputs are read and checked before the directory is made. A making that
// was stopped or killed goes on from its newest checkpoint that verifies, to
// the very bytes it would have made.
//
// Not thread-safe. Talks on stderr as it goes.

#ifndef TOOLS_RUN_SFT_MAKING_H_
#define TOOLS_RUN_SFT_MAKING_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace temper {

struct SftRequest {
  // An SftConfig in text format; with `resume` it may be empty, and if not it
  // must say what the making began with (CheckSameMaking).
  std::string config_path;
  // The directory of a making to go on with; none: a new one, with the rest.
  std::optional<std::string> resume;
  std::string output;    // instead of the configuration's, new or empty; or ""
  std::string revision;  // for the manifest; or ""
  int64_t steps = 0;     // stop after so many; 0: all
};

// Returns the directory of the finished model; one that was finished already
// is left as it is. InvalidArgument or NotFound: what the user named is no
// good, and nothing was made or changed. Cancelled: a stop signal came, and
// there is a checkpoint. FailedPrecondition: another process is at it.
absl::StatusOr<std::string> RunSft(const SftRequest& request);

}  // namespace temper

#endif  // TOOLS_RUN_SFT_MAKING_H_
