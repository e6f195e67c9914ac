#include "environments/code/value_check.h"

#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>

namespace temper {
namespace {

using Kind = PythonValue::Kind;

constexpr double kRelativeTolerance = 1e-9;

// Of an int or a float.
std::optional<double> NumberOf(const PythonValue& value) {
  if (value.kind == Kind::kFloat) return value.number;
  if (value.kind == Kind::kInt) return strtod(value.text.c_str(), nullptr);
  return std::nullopt;
}

bool IsClose(double expected, double got, double tolerance) {
  if (std::isnan(expected) || std::isnan(got)) {
    return std::isnan(expected) && std::isnan(got);
  }
  if (std::isinf(expected) || std::isinf(got)) return expected == got;
  return std::fabs(expected - got) <=
         std::max(tolerance, kRelativeTolerance * std::fabs(expected));
}

// The values of a dict by the canonical texts of their keys.
std::map<std::string, const PythonValue*> ByKey(const PythonValue& dict) {
  std::map<std::string, const PythonValue*> values;
  for (size_t i = 0; i < dict.items.size(); i += 2) {
    values[CanonicalText(dict.items[i])] = &dict.items[i + 1];
  }
  return values;
}

bool SameDict(const PythonValue& expected, const PythonValue& got,
              double tolerance) {
  const auto a = ByKey(expected), b = ByKey(got);
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [tolerance](const auto& x, const auto& y) {
                      return x.first == y.first &&
                             Equal(*x.second, *y.second, tolerance);
                    });
}

bool SameItems(const PythonValue& expected, const PythonValue& got,
               double tolerance) {
  if (expected.items.size() != got.items.size()) return false;
  if (expected.kind == Kind::kSet) {
    return CanonicalText(expected) == CanonicalText(got);
  }
  if (expected.kind == Kind::kDict) return SameDict(expected, got, tolerance);
  for (size_t i = 0; i < expected.items.size(); ++i) {
    if (!Equal(expected.items[i], got.items[i], tolerance)) return false;
  }
  return true;
}

bool Truth(const PythonValue& value) {
  switch (value.kind) {
    case Kind::kNone:
      return false;
    case Kind::kBool:
      return value.truth;
    case Kind::kInt:
      return value.text != "0";
    case Kind::kFloat:
      return value.number != 0;
    case Kind::kString:
    case Kind::kBytes:
      return !value.text.empty();
    default:
      return !value.items.empty();
  }
}

bool IsRoot(const PythonValue& arguments, const PythonValue& got,
            double tolerance) {
  const std::optional<double> x = NumberOf(got);
  if (!x.has_value() || arguments.items.empty()) return false;
  double value = 0;
  const std::vector<PythonValue>& coefficients = arguments.items[0].items;
  for (size_t i = coefficients.size(); i > 0; --i) {
    value = value * *x + NumberOf(coefficients[i - 1]).value_or(NAN);
  }
  return std::fabs(value) < tolerance;  // which no NaN is
}

}  // namespace

std::optional<ValueCheck> ValueCheckNamed(const std::string& name) {
  if (name == "equal") return ValueCheck::kEqual;
  if (name == "sequence") return ValueCheck::kSequence;
  if (name == "truth") return ValueCheck::kTruth;
  if (name == "root") return ValueCheck::kRoot;
  return std::nullopt;
}

bool Equal(const PythonValue& expected, const PythonValue& got,
           double tolerance) {
  if (expected.kind == Kind::kFloat) {
    const std::optional<double> number = NumberOf(got);
    return number.has_value() && IsClose(expected.number, *number, tolerance);
  }
  return expected.kind == got.kind && expected.truth == got.truth &&
         expected.text == got.text && SameItems(expected, got, tolerance);
}

bool Passes(ValueCheck check, const PythonValue& expected, double tolerance,
            const PythonValue& arguments, const PythonValue& got) {
  switch (check) {
    case ValueCheck::kEqual:
      return Equal(expected, got, tolerance);
    case ValueCheck::kSequence:
      return (got.kind == Kind::kList || got.kind == Kind::kTuple) &&
             SameItems(expected, got, tolerance);
    case ValueCheck::kTruth:
      return Truth(got) == expected.truth;
    case ValueCheck::kRoot:
      return IsRoot(arguments, got, tolerance);
  }
  return false;
}

}  // namespace temper
