// Runs an answer's code on tests and says, test by test, what came of it.
//
// A test's expected value or output stays in this process. Into a sandbox goes
// the code and the input of one test; what comes out is a claim, bytes that are
// parsed strictly and compared here (value_check.h). So the one way to pass a
// test is to know its answer: a forged reply, a patched builtin or an exit code
// can claim no more than a return can. Each test has a sandbox of its own
// (fresh_runs.h), so that what one leaves behind the next cannot find.
//
// The value is written inside the sandbox, by functions that were taken aside
// before the candidate's code ran: an honest program may give any name another
// meaning, patch json, or print, and is read all the same.

#ifndef ENVIRONMENTS_CODE_CODE_GRADER_H_
#define ENVIRONMENTS_CODE_CODE_GRADER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "environments/code/code_task.h"
#include "environments/fresh_runs.h"
#include "proto/task.pb.h"

namespace temper {

// What came of one test.
struct TestReport {
  bool passed = false;
  Outcome outcome = OUTCOME_OK;  // of the run
  std::string what;     // called or given what it gave or why it did not; says
                        // what was expected too
  std::string printed;  // by a function on the way
};

// Runs `code` on `tests`, which are some of `task`, by `runs`. A C++ program is
// compiled once, in a sandbox too. Unavailable is the machine's fault.
absl::StatusOr<std::vector<TestReport>> RunTests(
    const CodeTask& task, const std::string& code,
    const std::vector<CodeTest>& tests, FreshRuns* runs);

}  // namespace temper

#endif  // ENVIRONMENTS_CODE_CODE_GRADER_H_
