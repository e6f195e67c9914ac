// compare.py (tests/golden/model/compare.py) in C++, for tests that must not
// need Python. What is compared how, and within which tolerance, both read from
// rules.json beside it. FP8 tensors are left out.

#ifndef TESTS_GOLDEN_COMPARE_H_
#define TESTS_GOLDEN_COMPARE_H_

#include <cstddef>
#include <regex>
#include <string>
#include <vector>

#include "tests/golden_file.h"

namespace temper {

// rules.json, which says what its entries mean.
struct GoldenRules {
  enum class Kind { kSets, kRelativeMax, kAbsolute, kAbsoluteAboveOne, kFp8 };
  struct Rule {
    std::regex name;
    Kind kind;
    double tolerance;
  };
  std::vector<Rule> rules;  // the first match wins
  std::regex not_compared;
  double gradient_tolerance = 0;
  size_t gradient_sample_stride = 1;
};

// CHECKs that the file, which is ours, can be read.
GoldenRules ReadGoldenRules(const std::string& path);

struct GoldenReport {
  int compared = 0;
  std::vector<std::string> failed;   // name and by how much
  std::vector<std::string> missing;  // not in the candidate, not left out
};

// `without` is a regular expression (ECMAScript, searched) of golden names that
// may be missing; empty: none. Names under fp8/ are ignored. CHECKs that every
// other name meets a rule of a kind that is not FP8's.
GoldenReport CompareGolden(const GoldenRules& rules,
                           const GoldenTensors& golden,
                           const GoldenTensors& candidate,
                           const std::string& without);

}  // namespace temper

#endif  // TESTS_GOLDEN_COMPARE_H_
