// The smallest complete environment, annotated, for copying. The model is
// asked for a word; one tool, `reverse`, spells a word backwards.
//
// Task.payload_json: {"answer": "drow"}
//
// To make an environment `name` of it:
//   1. In the root of the sources, `temper env init name --cpp`: a copy of this
//      folder in environments/name, in which example is name, Example is Name
//      and EXAMPLE is NAME; in environments/registry.cc its #include and its
//      line; in environments/BUILD "//environments/name" in the deps of
//      registry. All of it can be done by hand as well.
//   2. Write what yours does.
//   3. environments/conformance_test.cc: TaskFor gives your Reset its task, by
//      default with the payload {"answer": kSecret}. Add a case
//      if yours wants another; its right answer is to be kSecret. PlausibleCall
//      makes a call of each tool, every argument a string: likewise.
//      One that grades code has a self_test among its facts (environment.h).
//      What yours says to that task is to be in environments/golden/name.txt:
//      the test makes the file, which you read before it is kept.
//   4. bazel test //environments:conformance_test holds it to what
//      environment.h promises; add a test of what is its own.
//   5. `temper env test name --tasks FILE` plays real tasks of it.

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
