// The payload of a code task, and the code of an answer.
//
// Task.payload_json of a function task:
//
//   {"entry_point": "add", "prelude": "import math\n",
//    "examples": [{"args": "1, 2", "value": "3"}],
//    "tests": [{"args": "2, 2", "value": "4"}, ...]}
//
// `args` are the arguments of one call and `value` what it returns, as Python
// writes plain values (python_value.h). A test may have "check"
// (value_check.h; "equal" if absent; "root" has no value) and "tolerance", of
// floats, 0 if absent. `prelude` runs before the answer: what a prompt takes
// for granted.
//
// Of a task whose program reads stdin and writes stdout:
//
//   {"language": "cpp", "examples": [], "tests": [{"stdin": "1 2\n",
//    "stdout": "3\n"}, ...]}
//
// `language` is "python", or "cpp" (C++20). The output is right if its lines
// are, blanks at their ends and empty lines at the end aside.
//
// Examples are the model's to see and to try; tests are hidden. All examples
// and tests of a task together are at most kTestsMax, and a task has one test.

#ifndef ENVIRONMENTS_CODE_CODE_TASK_H_
#define ENVIRONMENTS_CODE_CODE_TASK_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "environments/code/python_value.h"
#include "environments/code/value_check.h"
#include "environments/step_limits.h"
#include "proto/task.pb.h"

namespace temper {

// One grading runs each once, and a C++ program's compiler.
inline constexpr size_t kTestsMax = kRunCountMax / 2;
inline constexpr size_t kCodeBytesMax = 64 << 10;
inline constexpr size_t kStdinBytesMax = 256 << 10;

struct CodeTest {
  // Of a function.
  PythonValue arguments;  // a tuple
  PythonValue value;
  ValueCheck check = ValueCheck::kEqual;
  double tolerance = 0;
  // Of a program.
  std::string stdin_text;
  std::string stdout_text;
};

struct CodeTask {
  enum class Language { kPython, kCpp };
  Language language = Language::kPython;
  std::string entry_point;  // empty: a program
  std::string prelude;
  std::vector<CodeTest> examples;
  std::vector<CodeTest> tests;
};

// InvalidArgument names the field and what is allowed (payload.h).
absl::StatusOr<CodeTask> ReadCodeTask(const Task& task);

// The code in an assistant's message: what stands in the last fenced block
// (three backticks, a word or none, a line each) that is closed, else the whole
// of it, if no fence is there at all.
std::string ExtractCode(const std::string& content);

// What is compared of an output: see above.
std::string CanonicalOutput(const std::string& output);

}  // namespace temper

#endif  // ENVIRONMENTS_CODE_CODE_TASK_H_
