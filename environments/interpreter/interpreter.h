// Questions answered with two tools. `python` runs code in a sandboxed session
// that keeps its state between calls, up to a cell whose first line is %restart
// (python_session.h). `lookup` reads a table that is in no
// sandbox: the environment answers it, so a value of the table can enter a
// computation only after the model has read it.
//
// Task.payload_json: {"answer": "3679", "table": {"k7": "58"}}; the table may
// be left out. Every task offers both tools, so that their description is one
// preamble for a whole batch. Answers are graded as in math.
//
// It is deterministic as far as its cells are: one that reads the clock, the
// kernel's random numbers or the state of the machine prints what it reads, and
// one that needs a limit's time, or comes near to it, may be cut off or not.

#ifndef ENVIRONMENTS_INTERPRETER_INTERPRETER_H_
#define ENVIRONMENTS_INTERPRETER_INTERPRETER_H_

#include <memory>

#include "environments/environment.h"

namespace temper {

extern const EnvironmentFacts kInterpreterFacts;

// Without `context.sandboxes` only Validate may be called.
absl::StatusOr<std::unique_ptr<Environment>> NewInterpreterEnvironment(
    const EnvironmentContext& context);

}  // namespace temper

#endif  // ENVIRONMENTS_INTERPRETER_INTERPRETER_H_
