// Episodes of the code environment whose verdicts are known: answers that are
// right, wrong, empty, and the attacks of attacks.txt with their honest twins.

#ifndef ENVIRONMENTS_CODE_CODE_SELF_TEST_H_
#define ENVIRONMENTS_CODE_CODE_SELF_TEST_H_

#include <string>
#include <vector>

#include "environments/environment.h"

namespace temper {

struct CodeAttack {
  std::string name;
  std::string attack;  // Python, for the task that attacks.txt states
  std::string twin;
};

// Of attacks.txt, compiled in.
std::vector<CodeAttack> CodeAttacks();

std::vector<SelfTestCase> CodeSelfTest();

}  // namespace temper

#endif  // ENVIRONMENTS_CODE_CODE_SELF_TEST_H_
