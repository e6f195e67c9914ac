#include "environments/example/example.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "environments/answer.h"
#include "environments/answer_environment.h"
#include "environments/payload.h"
#include "environments/text.h"
#include "environments/tool_call.h"
#include "kernels/base/status_macros.h"

namespace temper {

const EnvironmentFacts kExampleFacts = {
    .name = "example",
    .description = "spell a word backwards with one tool; for copying",
    .deterministic = true,
    .served_in = ServedIn::kWorker,
    .needs_sandbox = false,
};

namespace {

// The object the chat format shows the model, JSON schema and all.
constexpr char kReverseJson[] =
    R"({"name": "reverse", "description": "Spells a word backwards.", )"
    R"("parameters": {"type": "object", "properties": {"word": )"
    R"({"type": "string"}}, "required": ["word"]}})";

constexpr uint32_t kWordBytesMax = 1024;

// What answer_environment.h leaves to say. One that grades otherwise derives
// from Environment and has all its methods.
class ExampleEnvironment : public AnswerEnvironment {
 public:
  const EnvironmentFacts& facts() const override { return kExampleFacts; }

 private:
  absl::StatusOr<Observation> Read(const Task& task,
                                   std::string* truth) const override {
    // The truth stays here. Nothing of payload_json may reach the model.
    ASSIGN_OR_RETURN(const auto payload, ReadPayload(task, {"answer"}));
    ASSIGN_OR_RETURN(*truth, TruthOf(task, payload));
    ASSIGN_OR_RETURN(Observation observation, PromptOf(task));
    Tool tool;
    tool.set_name("reverse");
    tool.set_function_json(kReverseJson);
    observation.tools.push_back(tool);
    return observation;
  }

  // The model's mistakes are results, not errors.
  ToolResult Answer(const ToolCall& call) const override {
    if (call.name() != "reverse") return UnknownTool(call);
    absl::StatusOr<std::string> word = StringArgument(call, "word");
    if (!word.ok()) return FailedCall(std::string(word.status().message()));
    if (word->size() > kWordBytesMax) {
      return FailedCall(absl::StrCat("the word has ", word->size(),
                                     " bytes, at most ", kWordBytesMax));
    }
    std::reverse(word->begin(), word->end());
    ToolResult result;
    result.set_outcome(OUTCOME_OK);
    result.set_content(SanitizeText(*word, kToolResultBytesMax));
    return result;
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Environment>> NewExampleEnvironment(
    const EnvironmentContext&) {
  return std::unique_ptr<Environment>(new ExampleEnvironment);
}

}  // namespace temper
