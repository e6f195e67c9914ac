// Questions with one right answer, checked by rule (environments/answer.h). No
// tools: the model reasons and answers.
//
// Task.payload_json: {"answer": "933"}; GSM8K's own answers work as they are.

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
