// The smallest complete environment, annotated, for copying. The model is
// asked for a word; one tool, `reverse`, spells a word backwards.
//
// Task.payload_json: {"answer": "drow"}

#ifndef ENVIRONMENTS_EXAMPLE_EXAMPLE_H_
#define ENVIRONMENTS_EXAMPLE_EXAMPLE_H_

#include <memory>

#include "environments/environment.h"

namespace temper {

// What `temper env list` prints and the registry's line points to.
extern const EnvironmentFacts kExampleFacts;

// The registry's factory. This environment needs nothing of `context`.
absl::StatusOr<std::unique_ptr<Environment>> NewExampleEnvironment(
    const EnvironmentContext& context);

}  // namespace temper

#endif  // ENVIRONMENTS_EXAMPLE_EXAMPLE_H_
