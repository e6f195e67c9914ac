// What every environment does with a tool call: reads its arguments strictly
// and words its refusals alike.

#ifndef ENVIRONMENTS_TOOL_CALL_H_
#define ENVIRONMENTS_TOOL_CALL_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "proto/task.pb.h"

namespace temper {

// The arguments of `call`, which must be one JSON object; which members it has
// is the caller's to check. InvalidArgument says what the model did wrong.
absl::StatusOr<nlohmann::json> CallArguments(const ToolCall& call);

// The string argument `name` of `call`, whose arguments must be one JSON object
// with exactly this member. InvalidArgument says what the model did wrong.
absl::StatusOr<std::string> StringArgument(const ToolCall& call,
                                           const std::string& name);

// A TOOL_ERROR result reading "error: <why>".
ToolResult FailedCall(const std::string& why);

// FailedCall for a tool that was not offered.
ToolResult UnknownTool(const ToolCall& call);

// InvalidArgument if there are more calls than a step may have.
absl::Status CheckCallCount(const std::vector<ToolCall>& calls);

// What `answer` makes of each call, in order, with the time that it took. Its
// first error ends the step: InvalidArgument too if there are too many calls.
absl::StatusOr<std::vector<ToolResult>> AnswerCalls(
    const std::vector<ToolCall>& calls,
    absl::FunctionRef<absl::StatusOr<ToolResult>(const ToolCall&)> answer);

}  // namespace temper

#endif  // ENVIRONMENTS_TOOL_CALL_H_
