#include "environments/interpreter/interpreter.h"

#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "environments/answer.h"
#include "environments/interpreter/interpreter_tools.h"
#include "environments/payload.h"
#include "environments/python_session.h"
#include "environments/text.h"
#include "environments/tool_call.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace temper {

const EnvironmentFacts kInterpreterFacts = {
    .name = "interpreter",
    .description = "a sandboxed Python session and a look-up table as tools",
    .deterministic = true,
    .served_in = ServedIn::kHost,
    .needs_sandbox = true,
};

namespace {

// A table is read by single look-ups; one of more entries is no task for a
// model that has some turns.
constexpr size_t kTableEntriesMax = 1000;
constexpr size_t kKeyBytesShown = 64;

using Table = std::map<std::string, std::string>;

// The payload's table, empty if it has none.
absl::StatusOr<Table> TableOf(const Task& task,
                              const nlohmann::ordered_json& payload) {
  Table table;
  if (!payload.contains("table")) return table;
  const auto& entries = payload["table"];
  if (!entries.is_object() || entries.size() > kTableEntriesMax) {
    return PayloadFault(task, "table",
                        absl::StrCat("must be an object of at most ",
                                     kTableEntriesMax, " strings"));
  }
  for (const auto& [key, value] : entries.items()) {
    if (!value.is_string()) {
      return PayloadFault(
          task,
          absl::StrCat("table[\"", SanitizeText(key, kKeyBytesShown), "\"]"),
          absl::StrCat("is a ", value.type_name(), "; it must be a string"));
    }
    table[key] = value.get<std::string>();
  }
  return table;
}

class InterpreterEnvironment : public Environment {
 public:
  explicit InterpreterEnvironment(SandboxPool* sandboxes)
      : sandboxes_(sandboxes) {}

  const EnvironmentFacts& facts() const override { return kInterpreterFacts; }

  absl::StatusOr<Observation> Validate(const Task& task) const override {
    Table table;
    std::string truth;
    return Read(task, &table, &truth);
  }

  absl::StatusOr<Observation> Reset(const Task& task, uint64_t seed) override {
    CHECK(sandboxes_ != nullptr) << "an episode without sandboxes";
    ASSIGN_OR_RETURN(Observation observation, Read(task, &table_, &truth_));
    session_ = std::make_unique<PythonSession>(sandboxes_, seed,
                                               PythonSessionLimits());
    return observation;
  }

  absl::StatusOr<std::vector<ToolResult>> Step(
      const std::vector<ToolCall>& calls) override {
    CHECK(session_ != nullptr) << "Step before Reset";
    // An error is no sandbox, for which the rest of the calls has none either.
    ASSIGN_OR_RETURN(std::vector<ToolResult> results,
                     AnswerCalls(calls, [this](const ToolCall& call) {
                       return Answer(call);
                     }));
    // Whoever waits may have the slot while the model thinks.
    session_->EndStep();
    return results;
  }

  absl::StatusOr<Verdict> Grade(
      Outcome outcome, const std::vector<Message>& transcript) override {
    session_.reset();  // Nothing runs while, or after, it is graded.
    return GradeAnswer(outcome, transcript, truth_);
  }

 private:
  static absl::StatusOr<Observation> Read(const Task& task, Table* table,
                                          std::string* truth) {
    ASSIGN_OR_RETURN(const auto payload,
                     ReadPayload(task, {"answer", "table"}));
    ASSIGN_OR_RETURN(*table, TableOf(task, payload));
    ASSIGN_OR_RETURN(*truth, TruthOf(task, payload));
    ASSIGN_OR_RETURN(Observation observation, PromptOf(task));
    // Both tools to every task: one preamble, shared by a whole batch.
    observation.tools = InterpreterTools();
    return observation;
  }

  absl::StatusOr<ToolResult> Answer(const ToolCall& call) {
    if (call.name() == "lookup") return Lookup(call);
    if (call.name() != "python") return UnknownTool(call);
    const absl::StatusOr<std::string> code = StringArgument(call, "code");
    if (!code.ok()) return FailedCall(std::string(code.status().message()));
    return session_->Run(*code);
  }

  ToolResult Lookup(const ToolCall& call) const {
    const absl::StatusOr<std::string> key = StringArgument(call, "key");
    if (!key.ok()) return FailedCall(std::string(key.status().message()));
    const auto found = table_.find(*key);
    if (found == table_.end()) {
      return FailedCall(absl::StrCat("there is no key \"", *key, "\""));
    }
    ToolResult result;
    result.set_outcome(OUTCOME_OK);
    result.set_content(SanitizeText(found->second, kToolResultBytesMax));
    return result;
  }

  SandboxPool* const sandboxes_;  // null: only Validate
  std::string truth_;
  Table table_;
  std::unique_ptr<PythonSession> session_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Environment>> NewInterpreterEnvironment(
    const EnvironmentContext& context) {
  return std::unique_ptr<Environment>(
      new InterpreterEnvironment(context.sandboxes));
}

}  // namespace temper
