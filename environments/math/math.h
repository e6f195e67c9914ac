// Questions with one right answer, checked by rule (environments/answer.h). The
// model reasons and answers; there is nothing to call.
//
// Task.payload_json: {"answer": "933"}; GSM8K's own answers work as they are.
// "tools": [{"name": ...}, ...], which may be left out, are described to the
// model although a call of any is refused: so that a batch mixed with tasks of
// an environment that has these tools shares one preamble.

#ifndef ENVIRONMENTS_MATH_MATH_H_
#define ENVIRONMENTS_MATH_MATH_H_

#include <memory>

#include "environments/environment.h"

namespace temper {

extern const EnvironmentFacts kMathFacts;

absl::StatusOr<std::unique_ptr<Environment>> NewMathEnvironment(
    const EnvironmentContext& context);

}  // namespace temper

#endif  // ENVIRONMENTS_MATH_MATH_H_
