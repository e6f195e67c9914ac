// Whether what a function returned is right: decided here, outside of every
// sandbox, on plain values (python_value.h), by one of a closed set of checks.
//
// Functions without state; thread-safe.

#ifndef ENVIRONMENTS_CODE_VALUE_CHECK_H_
#define ENVIRONMENTS_CODE_VALUE_CHECK_H_

#include <optional>
#include <string>

#include "environments/code/python_value.h"

namespace temper {

enum class ValueCheck {
  kEqual,     // is the expected value
  kSequence,  // is a list or a tuple of the expected list's items, in order
  kTruth,     // counts as the expected bool, as `if` takes it
  kRoot,      // the polynomial of the first argument's coefficients, the lowest
              // first, is within `tolerance` of 0 there; nothing is expected
};

// The check called `name` in a task: "equal", "sequence", "truth", "root".
std::optional<ValueCheck> ValueCheckNamed(const std::string& name);

// Two values are equal if they are of one type and
//   None, bool, int, str, bytes   are the same; so True is not 1;
//   float         are within max(tolerance, 1e-9 * |expected|), or both NaN, or
//                 the same infinity. Where a float is expected an int of the
//                 value will do, not the other way round;
//   list, tuple   have equal items in one order;
//   dict          have the same keys, and equal values to each;
//   set           have the same elements.
// Keys and elements are compared exactly, 1 and 1.0 being two.
bool Equal(const PythonValue& expected, const PythonValue& got,
           double tolerance);

// `arguments`: the tuple of what the function was given.
bool Passes(ValueCheck check, const PythonValue& expected, double tolerance,
            const PythonValue& arguments, const PythonValue& got);

}  // namespace temper

#endif  // ENVIRONMENTS_CODE_VALUE_CHECK_H_
