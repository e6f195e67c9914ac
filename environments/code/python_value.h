// A plain value of Python's, as text and as a tree: what a test gives a
// candidate's function, what it is to return, what it is said to have returned.
//
// The text is Python's own notation for None, True, False, int, float, str,
// bytes, list, tuple, dict and set, with `inf` and `nan` for the floats that
// have no literal. It is read strictly and nothing is evaluated: what comes
// from a sandbox is a claim of a candidate's, and may be any bytes.

#ifndef ENVIRONMENTS_CODE_PYTHON_VALUE_H_
#define ENVIRONMENTS_CODE_PYTHON_VALUE_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace temper {

// Of a text that is read.
inline constexpr size_t kValueBytesMax = 256 << 10;
inline constexpr int kValueDepthMax = 64;

struct PythonValue {
  enum class Kind {
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kBytes,
    kList,
    kTuple,
    kDict,
    kSet,
  };
  Kind kind = Kind::kNone;
  bool truth = false;  // of kBool
  double number = 0;   // of kFloat
  std::string text;    // of kInt its decimal digits, no zero in front; of
                       // kString UTF-8 (surrogates alike), of kBytes they
  std::vector<PythonValue> items;  // of a kDict key, value, key, value; in the
                                   // order they are written in
};

// InvalidArgument, with the place, if `text` is not one whole value, has more
// than kValueBytesMax bytes, nests deeper than kValueDepthMax, or has a key or
// an element of a set twice. An int is of decimal digits, as many as it likes.
absl::StatusOr<PythonValue> ParsePythonValue(const std::string& text);

// What Python reads as the same value, wherever it stands and whatever names
// are taken; dicts in their order.
std::string ToPython(const PythonValue& value);

// ToPython with what has no order in one of its own: equal texts are equal
// values, but for the two zeros of a float, and other texts other ones.
std::string CanonicalText(const PythonValue& value);

}  // namespace temper

#endif  // ENVIRONMENTS_CODE_PYTHON_VALUE_H_
