#include "environments/math/math.h"

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "environments/answer.h"
#include "environments/answer_environment.h"
#include "environments/payload.h"
#include "environments/tool_call.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace temper {

const EnvironmentFacts kMathFacts = {
    .name = "math",
    .description = "a question with one right answer, checked by rule",
    .deterministic = true,
    .served_in = ServedIn::kWorker,
    .needs_sandbox = false,
};

namespace {

constexpr size_t kToolsMax = 16;

// The payload's "tools", none if it has none.
absl::StatusOr<std::vector<Tool>> ToolsOf(
    const Task& task, const nlohmann::ordered_json& payload) {
  std::vector<Tool> tools;
  if (!payload.contains("tools")) return tools;
  const auto& list = payload["tools"];
  bool good = list.is_array() && list.size() <= kToolsMax;
  std::set<std::string> names;
  for (size_t i = 0; good && i < list.size(); ++i) {
    good = list[i].is_object() && list[i].contains("name") &&
           list[i]["name"].is_string();
    if (!good) break;
    tools.emplace_back();
    tools.back().set_name(list[i]["name"].get<std::string>());
    // In the payload's order of members, for another order is another prompt.
    tools.back().set_function_json(list[i].dump());
    // Observation promises names of their own.
    good = names.insert(tools.back().name()).second;
  }
  if (good) return tools;
  return PayloadFault(
      task, "tools",
      absl::StrCat("must be a list of at most ", kToolsMax,
                   " objects, each with a string \"name\" of its own"));
}

class MathEnvironment : public AnswerEnvironment {
 public:
  const EnvironmentFacts& facts() const override { return kMathFacts; }

 private:
  absl::StatusOr<Observation> Read(const Task& task,
                                   std::string* truth) const override {
    ASSIGN_OR_RETURN(const auto payload,
                     ReadPayload(task, {"answer", "tools"}));
    ASSIGN_OR_RETURN(*truth, TruthOf(task, payload));
    ASSIGN_OR_RETURN(Observation observation, PromptOf(task));
    ASSIGN_OR_RETURN(observation.tools, ToolsOf(task, payload));
    return observation;
  }

  // Offered tools are for the prompt's sake: none of them is there.
  ToolResult Answer(const ToolCall& call) const override {
    return UnknownTool(call);
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Environment>> NewMathEnvironment(
    const EnvironmentContext&) {
  return std::unique_ptr<Environment>(new MathEnvironment);
}

}  // namespace temper
