// An environment with its tools taken away: what a model solves in its head.
// For `temper eval --without-tools`.

#ifndef TOOLS_WITHOUT_TOOLS_H_
#define TOOLS_WITHOUT_TOOLS_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "environments/environment.h"

namespace temper {

// The episode offers no tools, so its prompt has no preamble, and every call
// the model writes all the same is answered as RefuseCalls does; `inner` never
// sees one. Messages and grading are `inner`'s.
std::unique_ptr<Environment> WithoutTools(std::unique_ptr<Environment> inner);

// A TOOL_ERROR result for each call: "error: there are no tools". Errors as
// Environment::Step.
absl::StatusOr<std::vector<ToolResult>> RefuseCalls(
    const std::vector<ToolCall>& calls);

}  // namespace temper

#endif  // TOOLS_WITHOUT_TOOLS_H_
