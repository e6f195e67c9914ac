#include "environments/answer_environment.h"

#include "environments/answer.h"
#include "environments/tool_call.h"
#include "kernels/base/status_macros.h"

namespace temper {

absl::StatusOr<Observation> AnswerEnvironment::Validate(
    const Task& task) const {
  std::string truth;
  return Read(task, &truth);
}

absl::StatusOr<Observation> AnswerEnvironment::Reset(const Task& task,
                                                     uint64_t) {
  return Read(task, &truth_);
}

absl::StatusOr<std::vector<ToolResult>> AnswerEnvironment::Step(
    const std::vector<ToolCall>& calls) {
  RETURN_IF_ERROR(CheckCallCount(calls));
  std::vector<ToolResult> results;
  for (const ToolCall& call : calls) results.push_back(Answer(call));
  return results;
}

absl::StatusOr<Verdict> AnswerEnvironment::Grade(
    Outcome outcome, const std::vector<Message>& transcript) {
  return GradeAnswer(outcome, transcript, truth_);
}

}  // namespace temper
