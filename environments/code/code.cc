#include "environments/code/code.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "environments/answer.h"
#include "environments/code/code_grader.h"
#include "environments/code/code_self_test.h"
#include "environments/code/code_task.h"
#include "environments/cpp_compiler.h"
#include "environments/fresh_runs.h"
#include "environments/payload.h"
#include "environments/text.h"
#include "environments/tool_call.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {

const EnvironmentFacts kCodeFacts = {
    .name = "code",
    .description = "programming tasks graded by hidden tests",
    .deterministic = true,
    .served_in = ServedIn::kHost,
    .needs_sandbox = true,
    .self_test = CodeSelfTest,
};

namespace {

constexpr char kTestJson[] =
    R"({"name": "test", "description": "Runs your code on the examples of the )"
    R"(task.", "parameters": {"type": "object", "properties": {"code": )"
    R"({"type": "string"}}, "required": ["code"]}})";

constexpr size_t kReportBytesMax = 8 << 10;
constexpr size_t kPrintedBytesShown = 1 << 10;

// Of an answer: the tests' runs are as many as a task may have.
FreshRunsLimits LimitsOf(const CodeTask& task) {
  FreshRunsLimits limits;
  // A function's printing is shown, never compared.
  if (!task.entry_point.empty()) limits.output_bytes_max = kPrintedBytesShown;
  return limits;
}

class CodeEnvironment : public Environment {
 public:
  explicit CodeEnvironment(SandboxPool* sandboxes) : sandboxes_(sandboxes) {}

  const EnvironmentFacts& facts() const override { return kCodeFacts; }

  absl::StatusOr<Observation> Validate(const Task& task) const override {
    CodeTask read;
    return Read(task, &read);
  }

  absl::StatusOr<Observation> Reset(const Task& task, uint64_t seed) override {
    CHECK(sandboxes_ != nullptr) << "an episode without sandboxes";
    ASSIGN_OR_RETURN(Observation observation, Read(task, &task_));
    seed_ = seed;
    trials_ = std::make_unique<FreshRuns>(sandboxes_, seed, LimitsOf(task_));
    return observation;
  }

  absl::StatusOr<std::vector<ToolResult>> Step(
      const std::vector<ToolCall>& calls) override {
    ASSIGN_OR_RETURN(std::vector<ToolResult> results,
                     AnswerCalls(calls, [this](const ToolCall& call) {
                       return Answer(call);
                     }));
    // Whoever waits may have the slot while the model thinks.
    trials_->Release();
    return results;
  }

  absl::StatusOr<Verdict> Grade(
      Outcome outcome, const std::vector<Message>& transcript) override {
    trials_.reset();
    const std::string* content = nullptr;
    ASSIGN_OR_RETURN(Verdict verdict,
                     VerdictBeforeAnswer(outcome, transcript, &content));
    // Paid nothing, not left out: a part of the reward is one of every episode.
    double passed = 0;
    if (content != nullptr) {
      ASSIGN_OR_RETURN(passed, GradeCode(ExtractCode(*content), &verdict));
    }
    VerdictScore* const score = verdict.add_scores();
    score->set_name("tests_passed");
    score->set_value(passed);
    score->set_weight(1);
    return verdict;
  }

 private:
  static absl::StatusOr<Observation> Read(const Task& task, CodeTask* read) {
    ASSIGN_OR_RETURN(*read, ReadCodeTask(task));
    if (read->language == CodeTask::Language::kCpp) {
      // Of this machine, which is the one that starts the host.
      const absl::Status can = CanCompileCpp();
      if (!can.ok()) {
        return PayloadFault(task, "language",
                            absl::StrCat("is \"cpp\": ", can.message()));
      }
    }
    ASSIGN_OR_RETURN(Observation observation, PromptOf(task));
    Tool tool;
    tool.set_name("test");
    tool.set_function_json(kTestJson);
    observation.tools.push_back(tool);
    return observation;
  }

  absl::StatusOr<ToolResult> Answer(const ToolCall& call) {
    if (call.name() != "test") return UnknownTool(call);
    const absl::StatusOr<std::string> code = StringArgument(call, "code");
    if (!code.ok()) return FailedCall(std::string(code.status().message()));
    if (task_.examples.empty()) return FailedCall("the task has no examples");
    ASSIGN_OR_RETURN(const std::vector<TestReport> reports,
                     RunTests(task_, *code, task_.examples, trials_.get()));
    ToolResult result;
    result.set_outcome(OUTCOME_OK);
    std::string text;
    for (size_t i = 0; i < reports.size(); ++i) {
      const TestReport& report = reports[i];
      if (report.outcome != OUTCOME_OK) result.set_outcome(report.outcome);
      absl::StrAppend(&text, "example ", i + 1, " ",
                      report.passed ? "passed" : "failed", ": ", report.what,
                      "\n");
      if (report.passed || report.printed.empty()) continue;
      absl::StrAppend(&text, "it printed:\n", report.printed, "\n");
    }
    result.set_content(SanitizeText(text, kReportBytesMax));
    return result;
  }

  // The share of the hidden tests that `code` passes. Unavailable if the
  // machine failed.
  absl::StatusOr<double> GradeCode(const std::string& code, Verdict* verdict) {
    verdict->set_answer(SanitizeText(code, kCodeBytesMax));
    if (TrimBlanks(code).empty() || code.size() > kCodeBytesMax) {
      verdict->set_detail("the answer has no code, or too much");
      return 0.0;
    }
    FreshRuns runs(sandboxes_, seed_, LimitsOf(task_));
    ASSIGN_OR_RETURN(const std::vector<TestReport> reports,
                     RunTests(task_, code, task_.tests, &runs));
    CHECK(reports.size() == task_.tests.size() && !reports.empty());
    size_t passed = 0;
    std::string first;
    for (size_t i = 0; i < reports.size(); ++i) {
      passed += reports[i].passed;
      if (reports[i].passed || !first.empty()) continue;
      first = absl::StrCat("; the first that failed, ", i + 1, ": ",
                           reports[i].what);
    }
    verdict->set_correct(passed == reports.size());
    verdict->set_detail(SanitizeText(
        absl::StrCat(passed, " of ", reports.size(), " tests passed", first),
        kReportBytesMax));
    return static_cast<double>(passed) / static_cast<double>(reports.size());
  }

  SandboxPool* const sandboxes_;  // null: only Validate
  uint64_t seed_ = 0;
  CodeTask task_;
  std::unique_ptr<FreshRuns> trials_;  // of the tool's calls, all together
};

}  // namespace

absl::StatusOr<std::unique_ptr<Environment>> NewCodeEnvironment(
    const EnvironmentContext& context) {
  return std::unique_ptr<Environment>(new CodeEnvironment(context.sandboxes));
}

}  // namespace temper
