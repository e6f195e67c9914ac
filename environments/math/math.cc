#include "environments/math/math.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "environments/answer.h"
#include "environments/tool_call.h"
#include "kernels/base/status_macros.h"

namespace temper {

const EnvironmentFacts kMathFacts = {
    .name = "math",
    .description = "a question with one right answer, checked by rule",
    .deterministic = true,
    .served_in = ServedIn::kWorker,
    .needs_sandbox = false,
    .max_turns = 1,
};

namespace {

class MathEnvironment : public Environment {
 public:
  const EnvironmentFacts& facts() const override { return kMathFacts; }

  absl::StatusOr<Observation> Reset(const Task& task, uint64_t) override {
    ASSIGN_OR_RETURN(truth_, TruthOf(task));
    Observation observation;
    observation.messages.assign(task.messages().begin(), task.messages().end());
    if (observation.messages.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("task ", task.id(), ": messages is empty"));
    }
    return observation;
  }

  absl::StatusOr<std::vector<ToolResult>> Step(
      const std::vector<ToolCall>& calls) override {
    RETURN_IF_ERROR(CheckCallCount(calls));
    std::vector<ToolResult> results;
    for (const ToolCall& call : calls) results.push_back(UnknownTool(call));
    return results;
  }

  absl::StatusOr<Verdict> Grade(
      Outcome outcome, const std::vector<Message>& transcript) override {
    return GradeAnswer(outcome, transcript, truth_);
  }

 private:
  std::string truth_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Environment>> NewMathEnvironment(
    const EnvironmentContext&) {
  return std::unique_ptr<Environment>(new MathEnvironment);
}

}  // namespace temper
