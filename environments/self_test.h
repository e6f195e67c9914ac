// Holds an environment to the verdicts that are known beforehand: what is right
// is correct, what is wrong, empty or an attack is not.

#ifndef ENVIRONMENTS_SELF_TEST_H_
#define ENVIRONMENTS_SELF_TEST_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "environments/environment.h"

namespace temper {

struct SelfTestReport {
  int good = 0;  // and how many of each kind came out as they should
  int bad = 0;
  int empty = 0;
  int attacks = 0;
  std::vector<std::string> skipped;  // names, and why none of it runs here
};

// Plays all of facts.self_test, which is not null. Internal, with the case's
// name, if one came out otherwise or had no verdict, or if a kind has no case.
// A case that does not run here is skipped. Unavailable: no sandbox.
absl::StatusOr<SelfTestReport> RunSelfTest(const EnvironmentFacts& facts,
                                           const EnvironmentContext& context);

}  // namespace temper

#endif  // ENVIRONMENTS_SELF_TEST_H_
