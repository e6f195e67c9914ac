// An exact rational number read from digits: numerator / denominator, each a
// decimal string of any length. No rounding, no overflow; comparing takes time
// in the product of the lengths. Pure; thread-safe.

#ifndef ENVIRONMENTS_RATIONAL_H_
#define ENVIRONMENTS_RATIONAL_H_

#include <cstddef>
#include <string>

namespace temper {

// Digits without superfluous zeros in front; "0" is zero, and is not negative.
struct Rational {
  bool negative = false;
  std::string numerator = "0";
  std::string denominator = "1";  // never "0"
};

// digits / 10^scale; a negative scale adds zeros. `digits` may be empty: zero.
Rational MakeDecimal(const std::string& digits, int scale);

// `by` is not zero.
Rational Divide(const Rational& a, const Rational& by);

// Both are at least 0.
Rational Add(const Rational& a, const Rational& b);

bool IsZero(const Rational& a);
bool SameValue(const Rational& a, const Rational& b);

}  // namespace temper

#endif  // ENVIRONMENTS_RATIONAL_H_
