#include "environments/code/code_grader.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "environments/code/python_value.h"
#include "environments/code/value_check.h"
#include "environments/text.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

constexpr size_t kShownBytesMax = 512;

std::string Shown(const std::string& text) {
  return SanitizeText(text, kShownBytesMax);
}

std::string ShownValue(const PythonValue& value) {
  return Shown(ToPython(value));
}

// ", at its limit of memory"; nothing of time, which the error has.
std::string AtLimit(const FreshRun& run) {
  if (run.limit == ProgramLimit::kNone || run.limit == ProgramLimit::kTime) {
    return "";
  }
  return absl::StrCat(", at its limit of ", ProgramLimitName(run.limit));
}

TestReport Failed(const FreshRun& run, const std::string& what) {
  TestReport report;
  report.outcome = run.outcome == OUTCOME_OK ? OUTCOME_TOOL_ERROR : run.outcome;
  report.what = what;
  return report;
}

// What came of `call`, as text.
TestReport JudgeCall(const std::string& call, const CodeTest& test,
                     const FreshRun& run) {
  const std::string shown = Shown(call);
  if (run.outcome != OUTCOME_OK) {
    return Failed(run, absl::StrCat(shown, ": ", Shown(run.error)));
  }
  const absl::StatusOr<PythonValue> value = ParsePythonValue(run.value);
  if (!value.ok()) {
    return Failed(run, absl::StrCat(shown, ": ", value.status().message()));
  }
  TestReport report;
  report.passed =
      Passes(test.check, test.value, test.tolerance, test.arguments, *value);
  report.what = absl::StrCat(shown, " returned ", ShownValue(*value));
  if (!report.passed && test.check == ValueCheck::kRoot) {
    absl::StrAppend(&report.what, ", which is no root");
  } else if (!report.passed) {
    absl::StrAppend(&report.what, ", expected ", ShownValue(test.value));
  }
  return report;
}

absl::StatusOr<TestReport> RunCall(const CodeTask& task,
                                   const std::string& code,
                                   const CodeTest& test, FreshRuns* runs) {
  // A tuple of one has a comma, which a call's arguments may have too.
  const std::string call =
      absl::StrCat(task.entry_point, ToPython(test.arguments));
  ASSIGN_OR_RETURN(const FreshRun run, runs->Call(task.prelude, code, call));
  TestReport report = JudgeCall(call, test, run);
  report.printed = run.printed;
  return report;
}

TestReport CompareOutput(const CodeTest& test, const FreshRun& run) {
  const std::string given =
      absl::StrCat("given ", ShownValue({.kind = PythonValue::Kind::kString,
                                         .text = test.stdin_text}));
  if (run.outcome != OUTCOME_OK) {
    return Failed(run,
                  absl::StrCat(given, ": ", Shown(run.error), AtLimit(run)));
  }
  if (run.exit_code != 0) {
    return Failed(
        run, absl::StrCat(given, ": exit status ", run.exit_code, AtLimit(run),
                          "\n", Shown(run.stderr_text)));
  }
  TestReport report;
  report.passed =
      CanonicalOutput(run.printed) == CanonicalOutput(test.stdout_text);
  report.what =
      report.passed
          ? absl::StrCat(given, " printed what it should")
          : absl::StrCat(given, AtLimit(run), " printed:\n", Shown(run.printed),
                         "\nexpected:\n", Shown(test.stdout_text));
  return report;
}

// What runs the program `code`; or, in *failure, why there is none.
absl::StatusOr<Program> MakeProgram(const CodeTask& task,
                                    const std::string& code, FreshRuns* runs,
                                    TestReport* failure) {
  Program program;
  if (task.language == CodeTask::Language::kPython) {
    // Without `site`, as a session has it.
    program.argv = {"/usr/bin/python3", "-s", "-S", "-X", "utf8",
                    "/tmp/main.py"};
    program.snapshot = {{.path = "main.py", .contents = code}};
    return program;
  }
  Program compiler;
  compiler.argv = {"/usr/bin/g++", "-std=c++20", "-O2",
                   "-o",           "main",       "main.cpp"};
  compiler.snapshot = {{.path = "main.cpp", .contents = code}};
  compiler.artifact = "main";
  ASSIGN_OR_RETURN(const FreshRun run, runs->Compile(compiler));
  if (run.outcome != OUTCOME_OK || run.exit_code != 0) {
    *failure =
        Failed(run, absl::StrCat("it does not compile", AtLimit(run), ": ",
                                 Shown(run.error), Shown(run.stderr_text)));
  }
  program.argv = {"/tmp/main"};
  program.snapshot = {{.kind = SnapshotEntry::Kind::kExecutable,
                       .path = "main",
                       .contents = run.artifact}};
  return program;
}

}  // namespace

absl::StatusOr<std::vector<TestReport>> RunTests(
    const CodeTask& task, const std::string& code,
    const std::vector<CodeTest>& tests, FreshRuns* runs) {
  std::vector<TestReport> reports;
  if (!task.entry_point.empty()) {
    for (const CodeTest& test : tests) {
      ASSIGN_OR_RETURN(TestReport report, RunCall(task, code, test, runs));
      reports.push_back(std::move(report));
    }
    return reports;
  }
  TestReport failure;
  ASSIGN_OR_RETURN(Program program, MakeProgram(task, code, runs, &failure));
  if (!failure.what.empty()) {
    return std::vector<TestReport>(tests.size(), failure);
  }
  for (const CodeTest& test : tests) {
    program.stdin_text = test.stdin_text;
    ASSIGN_OR_RETURN(const FreshRun run, runs->Execute(program));
    reports.push_back(CompareOutput(test, run));
  }
  return reports;
}

}  // namespace temper
