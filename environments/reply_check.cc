#include "environments/reply_check.h"

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/base/shown_text.h"
#include "nlohmann/json.hpp"
#include "proto/wire/outcome.h"

namespace temper {
namespace {

constexpr size_t kMessagesMax = 1024;
constexpr size_t kToolsMax = 128;
// Of a prompt and its tools, all of which the engine's thread turns into
// tokens: a line of a task file (kTaskLineBytesMax), and as much again.
constexpr size_t kObservationBytesMax = 2 << 20;
constexpr size_t kShownBytesMax = 100;
// Of Verdict.answer and Verdict.detail.
constexpr size_t kVerdictTextBytesMax = 64 << 10;

template <typename... Parts>
absl::Status Broken(const Parts&... parts) {
  return absl::InternalError(absl::StrCat(parts...));
}

absl::Status CheckTool(const Tool& tool) {
  const auto function = nlohmann::json::parse(tool.function_json(), nullptr,
                                              /*allow_exceptions=*/false);
  const std::string name = ShownLine(tool.name().substr(0, kShownBytesMax));
  if (!function.is_object() || !function.contains("name") ||
      function["name"] != tool.name()) {
    return Broken("function_json of tool \"", name,
                  "\" is no JSON object with that name");
  }
  if (function.contains("parameters") && !function["parameters"].is_object()) {
    return Broken("parameters of tool \"", name, "\" are no JSON object");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckObservation(const Observation& observation) {
  if (observation.messages.empty()) return Broken("Reset gave no message");
  if (observation.messages.size() > kMessagesMax) {
    return Broken("Reset gave ", observation.messages.size(),
                  " messages, at most ", kMessagesMax);
  }
  for (const Message& message : observation.messages) {
    if (message.role().empty()) return Broken("a message has no role");
  }
  if (observation.tools.size() > kToolsMax) {
    return Broken("Reset gave ", observation.tools.size(), " tools, at most ",
                  kToolsMax);
  }
  // Before what they are is looked at.
  size_t bytes = 0;
  for (const Message& message : observation.messages) {
    bytes += message.ByteSizeLong();
  }
  for (const Tool& tool : observation.tools) bytes += tool.ByteSizeLong();
  if (bytes > kObservationBytesMax) {
    return Broken("Reset gave messages and tools of ", bytes,
                  " bytes, at most ", kObservationBytesMax);
  }
  std::set<std::string> names;
  for (const Tool& tool : observation.tools) {
    absl::Status status = CheckTool(tool);
    if (!status.ok()) return status;
    // A call names its tool and nothing else.
    if (!names.insert(tool.name()).second) {
      return Broken("two tools are called ", tool.name());
    }
  }
  return absl::OkStatus();
}

absl::Status CheckResults(size_t calls,
                          const std::vector<ToolResult>& results) {
  if (results.size() != calls) {
    return Broken(results.size(), " results of ", calls, " calls");
  }
  for (const ToolResult& result : results) {
    if (result.outcome() != OUTCOME_OK &&
        result.outcome() != OUTCOME_TOOL_ERROR &&
        result.outcome() != OUTCOME_TIMEOUT) {
      return Broken("a result has outcome ", static_cast<int>(result.outcome()),
                    "; it is OK, TOOL_ERROR or TIMEOUT");
    }
    if (result.content().size() > kToolResultBytesMax) {
      return Broken("a result has ", result.content().size(),
                    " bytes, at most ", kToolResultBytesMax);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckVerdict(const Verdict& verdict) {
  const Outcome outcome = verdict.outcome();
  if (outcome != OUTCOME_UNSPECIFIED && !IsGraded(outcome)) {
    return Broken("a verdict has outcome ", static_cast<int>(outcome),
                  ", which carries no reward; where nothing could be graded "
                  "Grade is an error");
  }
  for (const std::string* text : {&verdict.answer(), &verdict.detail()}) {
    if (text->size() > kVerdictTextBytesMax) {
      return Broken("a verdict's text has ", text->size(), " bytes, at most ",
                    kVerdictTextBytesMax);
    }
  }
  return absl::OkStatus();
}

}  // namespace temper
