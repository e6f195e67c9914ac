// What a user may do about something that cannot be used.
//
// Stateless; thread-safe.

#ifndef TOOLS_CLI_NEXT_STEP_H_
#define TOOLS_CLI_NEXT_STEP_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace temper {

// Of reading what the user named: "; <next_step>" behind the message (after
// the advice to make it readable, where it is only forbidden), and
// InvalidArgument (a missing file stays NotFound) whichever way it cannot be
// used: it is forbidden, of another kind, damaged, not what it should be. What
// is no fault of what was named (a lack of memory or descriptors, a disk that
// fails, a stop) stays as it is: it says itself what to do.
inline absl::Status IfUnusable(const absl::Status& status,
                               const std::string& next_step) {
  const absl::StatusCode code = status.code();
  const bool not_found = code == absl::StatusCode::kNotFound;
  if (!not_found && code != absl::StatusCode::kInvalidArgument &&
      code != absl::StatusCode::kPermissionDenied &&
      code != absl::StatusCode::kDataLoss) {
    return status;
  }
  // It may well be what was meant.
  const char* const readable =
      code == absl::StatusCode::kPermissionDenied
          ? "make it readable to the user who runs temper, or "
          : "";
  const std::string message =
      absl::StrCat(std::string(status.message()), "; ", readable, next_step);
  return not_found ? absl::NotFoundError(message)
                   : absl::InvalidArgumentError(message);
}

// For whatever reads a model directory.
inline constexpr char kNameAModel[] =
    "name a directory in the Hugging Face layout: config.json, safetensors and "
    "tokenizer.json, as a checkpoint's model/ is";

// For whatever reads a run.
inline constexpr char kNameARun[] =
    "name a run directory, or a run below --runs-dir";

// For whatever reads a tokenizer.
inline constexpr char kNameATokenizer[] =
    "name the tokenizer.json that was made for the model, as a checkpoint's "
    "model/ has it";

}  // namespace temper

#endif  // TOOLS_CLI_NEXT_STEP_H_
