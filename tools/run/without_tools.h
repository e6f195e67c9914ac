// An environment whose tools are out of order: what a model solves in its head.
// For `temper eval --without-tools`.

#ifndef TOOLS_RUN_WITHOUT_TOOLS_H_
#define TOOLS_RUN_WITHOUT_TOOLS_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "environments/environment.h"

namespace temper {

// The prompt offers the tools as ever, for a model that has learnt to read
// their preamble answers nothing right without it; but every call is answered
// as RefuseCalls does, and `inner` never sees one. Messages and grading are
// `inner`'s.
std::unique_ptr<Environment> WithoutTools(std::unique_ptr<Environment> inner);

// A TOOL_ERROR result for each call: "error: the tools are off". Errors as
// Environment::Step.
absl::StatusOr<std::vector<ToolResult>> RefuseCalls(
    const std::vector<ToolCall>& calls);

}  // namespace temper

#endif  // TOOLS_RUN_WITHOUT_TOOLS_H_
