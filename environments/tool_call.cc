#include "environments/tool_call.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "environments/environment.h"
#include "environments/text.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

constexpr size_t kNameBytesMax = 64;
constexpr size_t kWhyBytesMax = 1024;

}  // namespace

absl::StatusOr<nlohmann::json> CallArguments(const ToolCall& call) {
  if (call.arguments_json().size() > kToolArgumentsBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("the arguments have ", call.arguments_json().size(),
                     " bytes, at most ", kToolArgumentsBytesMax));
  }
  auto arguments = nlohmann::json::parse(call.arguments_json(), nullptr,
                                         /*allow_exceptions=*/false);
  if (!arguments.is_object()) {
    return absl::InvalidArgumentError("the arguments are not a JSON object");
  }
  return arguments;
}

absl::StatusOr<std::string> StringArgument(const ToolCall& call,
                                           const std::string& name) {
  ASSIGN_OR_RETURN(const nlohmann::json arguments, CallArguments(call));
  if (!arguments.contains(name) || !arguments[name].is_string()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the arguments need a string \"", name, "\""));
  }
  // An argument that nobody reads would seem to have worked.
  if (arguments.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the arguments take \"", name, "\" alone"));
  }
  return arguments[name].get<std::string>();
}

ToolResult FailedCall(const std::string& why) {
  ToolResult result;
  result.set_outcome(OUTCOME_TOOL_ERROR);
  // What is wrong quotes what the model wrote, whatever that is.
  result.set_content(absl::StrCat("error: ", SanitizeText(why, kWhyBytesMax)));
  return result;
}

ToolResult UnknownTool(const ToolCall& call) {
  return FailedCall(absl::StrCat(
      "there is no tool \"", SanitizeText(call.name(), kNameBytesMax), "\""));
}

absl::Status CheckCallCount(const std::vector<ToolCall>& calls) {
  if (calls.size() <= kToolCallsPerStepMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      calls.size(), " tool calls in one step, at most ", kToolCallsPerStepMax));
}

absl::StatusOr<std::vector<ToolResult>> AnswerCalls(
    const std::vector<ToolCall>& calls,
    absl::FunctionRef<absl::StatusOr<ToolResult>(const ToolCall&)> answer) {
  RETURN_IF_ERROR(CheckCallCount(calls));
  std::vector<ToolResult> results;
  for (const ToolCall& call : calls) {
    const auto begin = std::chrono::steady_clock::now();
    ASSIGN_OR_RETURN(ToolResult result, answer(call));
    const auto elapsed = std::chrono::steady_clock::now() - begin;
    result.set_elapsed_us(
        std::chrono::duration_cast<std::chrono::microseconds>(elapsed).count());
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace temper
