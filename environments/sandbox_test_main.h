// main() of a test whose environments need sandboxes: the helper is started
// before anything makes threads, then the tests run.

#ifndef ENVIRONMENTS_SANDBOX_TEST_MAIN_H_
#define ENVIRONMENTS_SANDBOX_TEST_MAIN_H_

#include "environments/sandbox.h"

namespace temper {

// Sets *sandboxes, which lives while the tests run, and returns main's status.
// 1, with the reason on stderr, where this machine has no sandbox.
int RunTestsWithSandboxes(int argc, char** argv, SandboxPool** sandboxes);

}  // namespace temper

#endif  // ENVIRONMENTS_SANDBOX_TEST_MAIN_H_
