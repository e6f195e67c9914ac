// compare.py (tests/golden/model/compare.py) in C++: the same names, the same
// tolerances, for tests that must not need Python. FP8 tensors are left out.

#ifndef TESTS_GOLDEN_COMPARE_H_
#define TESTS_GOLDEN_COMPARE_H_

#include <string>
#include <vector>

#include "tests/golden_file.h"

namespace temper {

struct GoldenReport {
  int compared = 0;
  std::vector<std::string> failed;   // name and by how much
  std::vector<std::string> missing;  // not in the candidate, not left out
};

// `without` is a regular expression (ECMAScript, searched) of golden names that
// may be missing; empty: none. Names under fp8/ are ignored.
GoldenReport CompareGolden(const GoldenTensors& golden,
                           const GoldenTensors& candidate,
                           const std::string& without);

}  // namespace temper

#endif  // TESTS_GOLDEN_COMPARE_H_
