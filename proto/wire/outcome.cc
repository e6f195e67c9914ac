#include "proto/wire/outcome.h"

#include <string.h>

#include "absl/strings/str_cat.h"

namespace temper {
namespace {

constexpr char kPrefix[] = "OUTCOME_";

}  // namespace

bool IsGraded(Outcome outcome) {
  // Named one by one, not by their order: an outcome that is added later is not
  // graded until someone says so here.
  switch (outcome) {
    case OUTCOME_OK:
    case OUTCOME_TRUNCATED:
    case OUTCOME_MODEL_ERROR:
    case OUTCOME_TOOL_ERROR:
    case OUTCOME_TIMEOUT:
      return true;
    default:
      return false;
  }
}

bool IsWellFormed(Outcome outcome) {
  return outcome == OUTCOME_OK || outcome == OUTCOME_TOOL_ERROR ||
         outcome == OUTCOME_TIMEOUT;
}

std::string OutcomeName(Outcome outcome) {
  const std::string name = Outcome_Name(outcome);
  // A number from a newer program, or from a wire.
  if (name.empty()) return absl::StrCat("outcome ", static_cast<int>(outcome));
  return name.substr(strlen(kPrefix));
}

}  // namespace temper
