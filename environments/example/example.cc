#include "environments/example/example.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "environments/answer.h"
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

class ExampleEnvironment : public Environment {
 public:
  const EnvironmentFacts& facts() const override { return kExampleFacts; }

  // All that can be wrong with a task is found here, before a run starts.
  absl::StatusOr<Observation> Validate(const Task& task) const override {
    std::string truth;
    return Read(task, &truth);
  }

  absl::StatusOr<Observation> Reset(const Task& task, uint64_t) override {
    // The truth stays here. Nothing of payload_json may reach the model.
    return Read(task, &truth_);
  }

  absl::StatusOr<std::vector<ToolResult>> Step(
      const std::vector<ToolCall>& calls) override {
    RETURN_IF_ERROR(CheckCallCount(calls));
    std::vector<ToolResult> results;
    for (const ToolCall& call : calls) results.push_back(Answer(call));
    return results;
  }

  absl::StatusOr<Verdict> Grade(
      Outcome outcome, const std::vector<Message>& transcript) override {
    return GradeAnswer(outcome, transcript, truth_);
  }

 private:
  static absl::StatusOr<Observation> Read(const Task& task,
                                          std::string* truth) {
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
  static ToolResult Answer(const ToolCall& call) {
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

  std::string truth_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Environment>> NewExampleEnvironment(
    const EnvironmentContext&) {
  return std::unique_ptr<Environment>(new ExampleEnvironment);
}

}  // namespace temper
