// Programming tasks whose hidden tests decide: functions in Python, and
// programs from stdin to stdout in Python or C++. code_task.h says what a
// task's payload_json holds and which part of an answer is its code,
// code_grader.h why a candidate cannot cheat.
//
// One tool, `test`, runs code on the task's examples before the model answers;
// the final code is graded apart, on the hidden tests. An answer is correct if
// all of them pass; the score `tests_passed` is the share that did. The same
// code has the same verdict unless it reads the clock, the kernel's random
// numbers or the state of the machine, or comes near to a limit of time.
//
// C++ takes memory to compile: without a memory cgroup a process has so little
// (ProcessLimits of sandbox_policy.h) that the machine would fail honest code,
// so such tasks are refused there, and where g++ is not installed.

#ifndef ENVIRONMENTS_CODE_CODE_H_
#define ENVIRONMENTS_CODE_CODE_H_

#include <memory>

#include "environments/environment.h"

namespace temper {

extern const EnvironmentFacts kCodeFacts;

// Without `context.sandboxes` only Validate may be called.
absl::StatusOr<std::unique_ptr<Environment>> NewCodeEnvironment(
    const EnvironmentContext& context);

}  // namespace temper

#endif  // ENVIRONMENTS_CODE_CODE_H_
