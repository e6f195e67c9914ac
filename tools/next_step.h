// What a user may do about something that is not there.
//
// Stateless; thread-safe.

#ifndef TOOLS_NEXT_STEP_H_
#define TOOLS_NEXT_STEP_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace temper {

// Where `status` is NotFound, it with "; <next_step>" behind its message; every
// other status as it is.
inline absl::Status IfNotFound(const absl::Status& status,
                               const std::string& next_step) {
  if (!absl::IsNotFound(status)) return status;
  return absl::NotFoundError(
      absl::StrCat(std::string(status.message()), "; ", next_step));
}

// For whatever reads a model directory.
inline constexpr char kNameAModel[] =
    "name a directory in the Hugging Face layout: config.json, safetensors and "
    "tokenizer.json, as a checkpoint's model/ is";

}  // namespace temper

#endif  // TOOLS_NEXT_STEP_H_
