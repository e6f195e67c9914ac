#include "environments/rational.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/base/log.h"

namespace temper {
namespace {

std::string WithoutZeros(const std::string& digits) {
  const size_t first = digits.find_first_not_of('0');
  return first == std::string::npos ? "0" : digits.substr(first);
}

std::string Product(const std::string& a, const std::string& b) {
  if (a == "1") return b;
  if (b == "1") return a;
  // Carries are left to the end: a sum of 81 for each digit of an answer, of
  // some thousands, is far from 64 bits.
  std::vector<uint64_t> sums(a.size() + b.size(), 0);  // least digit first
  for (size_t i = 0; i < a.size(); ++i) {
    const uint64_t digit = a[a.size() - 1 - i] - '0';
    for (size_t j = 0; digit != 0 && j < b.size(); ++j) {
      sums[i + j] += digit * (b[b.size() - 1 - j] - '0');
    }
  }
  std::string digits(sums.size(), '0');
  uint64_t carry = 0;
  for (size_t k = 0; k < sums.size(); ++k) {
    carry += sums[k];
    digits[sums.size() - 1 - k] = static_cast<char>('0' + carry % 10);
    carry /= 10;
  }
  return WithoutZeros(digits);
}

std::string Sum(const std::string& a, const std::string& b) {
  const size_t size = std::max(a.size(), b.size()) + 1;
  std::string digits(size, '0');
  int carry = 0;
  for (size_t k = 0; k < size; ++k) {
    if (k < a.size()) carry += a[a.size() - 1 - k] - '0';
    if (k < b.size()) carry += b[b.size() - 1 - k] - '0';
    digits[size - 1 - k] = static_cast<char>('0' + carry % 10);
    carry /= 10;
  }
  return WithoutZeros(digits);
}

}  // namespace

Rational MakeDecimal(const std::string& digits, int scale) {
  Rational value;
  value.numerator = WithoutZeros(digits);
  if (IsZero(value)) return value;
  // 1.50 as 15 / 10: most numbers then compare without a product.
  while (scale > 0 && value.numerator.back() == '0') {
    value.numerator.pop_back();
    --scale;
  }
  if (scale < 0) value.numerator.append(static_cast<size_t>(-scale), '0');
  if (scale > 0) value.denominator.append(static_cast<size_t>(scale), '0');
  return value;
}

Rational Divide(const Rational& a, const Rational& by) {
  CHECK(!IsZero(by));
  Rational value;
  value.numerator = Product(a.numerator, by.denominator);
  value.denominator = Product(a.denominator, by.numerator);
  // There is no -0, so that SameValue may ask for the sign first.
  value.negative = !IsZero(a) && a.negative != by.negative;
  return value;
}

Rational Add(const Rational& a, const Rational& b) {
  CHECK(!a.negative && !b.negative);
  Rational value;
  value.numerator = Sum(Product(a.numerator, b.denominator),
                        Product(b.numerator, a.denominator));
  value.denominator = Product(a.denominator, b.denominator);
  return value;
}

bool IsZero(const Rational& a) { return a.numerator == "0"; }

bool SameValue(const Rational& a, const Rational& b) {
  if (a.negative != b.negative) return false;
  // Neither is in lowest terms, which would cost a division; equal by chance
  // they need no product.
  if (a.numerator == b.numerator && a.denominator == b.denominator) return true;
  return Product(a.numerator, b.denominator) ==
         Product(b.numerator, a.denominator);
}

}  // namespace temper
