// The tools that every task of the interpreter environment offers, apart from
// what runs them: whoever writes prompts or demonstrations needs the same
// words.

#ifndef ENVIRONMENTS_INTERPRETER_INTERPRETER_TOOLS_H_
#define ENVIRONMENTS_INTERPRETER_INTERPRETER_TOOLS_H_

#include <vector>

#include "proto/task.pb.h"

namespace temper {

// `python` {"code": string} and `lookup` {"key": string}, in the order and the
// words the model sees; a change here is a change of every prompt.
std::vector<Tool> InterpreterTools();

}  // namespace temper

#endif  // ENVIRONMENTS_INTERPRETER_INTERPRETER_TOOLS_H_
