#include "environments/same_answer.h"

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "environments/latex_argument.h"
#include "environments/plain_answer.h"
#include "environments/plain_character.h"
#include "environments/rational.h"

namespace temper {
namespace {

constexpr int kDepthMax = 8;
constexpr int kWrappersMax = 16;
constexpr int kExponentMax = 1000;

using Substitute = std::pair<absl::string_view, absl::string_view>;

// The place just after the bracket that closes the one at `open`; npos if none
// does. Brackets of all kinds are counted together: (1, 2] is an interval.
size_t AfterClosing(absl::string_view s, size_t open) {
  int depth = 0;
  for (size_t i = open; i < s.size(); ++i) {
    const char c = s[i];
    if (c == '(' || c == '[' || c == '{') ++depth;
    if ((c == ')' || c == ']' || c == '}') && --depth == 0) return i + 1;
  }
  return absl::string_view::npos;
}

absl::string_view Trimmed(absl::string_view s) {
  return absl::StripAsciiWhitespace(s);
}

// The parts of `s` between `separator`, where that stands outside of brackets.
// One of letters is a command and ends with its name: \cupx is none.
std::vector<absl::string_view> Parts(absl::string_view s,
                                     absl::string_view separator) {
  std::vector<absl::string_view> parts;
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i < s.size();) {
    const size_t end = i + separator.size();
    if (depth <= 0 && absl::StartsWith(s.substr(i), separator) &&
        !(IsLetter(separator.back()) && end < s.size() && IsLetter(s[end]))) {
      parts.push_back(s.substr(begin, i - begin));
      begin = i = end;
      continue;
    }
    const char c = s[i++];
    if (c == '(' || c == '[' || c == '{') ++depth;
    if (c == ')' || c == ']' || c == '}') --depth;
  }
  parts.push_back(s.substr(begin));
  return parts;
}

constexpr Substitute kWrappers[] = {
    {"$$", "$$"}, {"$", "$"},        {"\\(", "\\)"},   {"\\[", "\\]"},
    {"**", "**"}, {"*", "*"},        {"__", "__"},     {"_", "_"},
    {"`", "`"},   {"\\boxed{", "}"}, {"\\fbox{", "}"}, {"{", "}"}};

// Whether `s` can be a name in a program: __init__ is another than init. Plain
// answers have a_b as a_{b}; one letter is an option's, as (E) is.
bool IsIdentifier(absl::string_view s) {
  if (s.size() < 2) return false;
  for (const char c : s) {
    const bool word = IsLetter(c) || IsDigit(c);
    if (!word && c != '_' && c != '{' && c != '}') return false;
  }
  return IsLetter(s[0]) || s[0] == '_';
}

// Takes one wrapper off `s`, if it is around all of it.
bool Unwrap(absl::string_view* s) {
  for (const auto& [open, close] : kWrappers) {
    if (s->size() <= open.size() + close.size()) continue;
    if (!absl::StartsWith(*s, open) || !absl::EndsWith(*s, close)) continue;
    const absl::string_view inner =
        s->substr(open.size(), s->size() - open.size() - close.size());
    const bool whole = close == "}"
                           ? AfterClosing(*s, open.size() - 1) == s->size()
                           : inner.find(close) == absl::string_view::npos;
    if (!whole || (open[0] == '_' && IsIdentifier(inner))) continue;
    // As {1, 2} many write a set.
    if (open == "{" && Parts(inner, ",").size() > 1) continue;
    *s = inner;
    return true;
  }
  return false;
}

absl::string_view Unwrapped(absl::string_view s) {
  bool stop = false;  // one full stop, inside the wrappers or outside
  for (int i = 0; i < kWrappersMax; ++i) {
    s = Trimmed(s);
    if (!stop && s.size() > 1 && s.back() == '.') {
      stop = true;
      s.remove_suffix(1);
      s = Trimmed(s);
    }
    if (!Unwrap(&s)) break;
  }
  if (s.size() == 3 && s[0] == '(' && IsLetter(s[1]) && s[2] == ')') {
    s = s.substr(1, 1);
  }
  return s;
}

// Reads a number off the front of a text.
class NumberReader {
 public:
  explicit NumberReader(absl::string_view s) : s_(s) {}

  // All of the text as a number.
  std::optional<Rational> Read() {
    bool negative = false;
    const bool sign = Sign(&negative);
    const bool dollars = Take("$") || Take(std::string(1, kDollar));
    if (dollars) {
      Blanks();
      if (!sign) Sign(&negative);
    }
    std::optional<Rational> value = Unsigned();
    if (!value.has_value()) return std::nullopt;
    Blanks();
    if (Take("%")) {
      value = Divide(*value, MakeDecimal("1", -2));
    } else if (!dollars) {
      Take(std::string(1, kDollar));  // 42\$
    }
    if (!s_.empty()) return std::nullopt;
    value->negative = value->negative != negative && !IsZero(*value);
    return value;
  }

 private:
  bool Take(absl::string_view prefix) {
    if (!absl::StartsWith(s_, prefix)) return false;
    s_.remove_prefix(prefix.size());
    return true;
  }
  bool Blanks() {
    const size_t before = s_.size();
    while (Take(" ")) {
    }
    return s_.size() != before;
  }
  bool Sign(bool* negative) {
    *negative = absl::StartsWith(s_, "-");
    if (!Take("-") && !Take("+")) return false;
    Blanks();
    return true;
  }
  std::string Digits() {
    size_t size = 0;
    while (size < s_.size() && IsDigit(s_[size])) ++size;
    const std::string digits(s_.substr(0, size));
    s_.remove_prefix(size);
    return digits;
  }

  // "12", "12.5", ".5", each perhaps with an exponent.
  std::optional<Rational> Decimal() {
    std::string digits = Digits();
    int scale = 0;
    if (s_.size() > 1 && s_[0] == '.' && IsDigit(s_[1])) {
      s_.remove_prefix(1);
      const std::string decimals = Digits();
      scale = static_cast<int>(decimals.size());
      digits += decimals;
    }
    if (digits.empty()) return std::nullopt;
    const std::optional<int> exponent = Exponent();
    whole_ = scale == 0 && !exponent.has_value();
    if (std::abs(exponent.value_or(0)) > kExponentMax) return std::nullopt;
    return MakeDecimal(digits, scale - exponent.value_or(0));
  }

  // "e3", "\times 10^{3}" and the like; nothing is taken if there is none.
  std::optional<int> Exponent() {
    const absl::string_view before = s_;
    if (const auto exponent = TryExponent()) return exponent;
    s_ = before;
    return std::nullopt;
  }
  std::optional<int> TryExponent() {
    bool brace = false;
    if (!Take("e") && !Take("E")) {
      Blanks();
      if (!Take("\\times") && !Take("\\cdot") && !Take("*")) {
        return std::nullopt;
      }
      Blanks();
      if (!Take("10^{")) return std::nullopt;
      brace = true;
    }
    bool negative = false;
    Sign(&negative);
    const std::string digits = Digits();
    if (digits.empty() || (brace && !Take("}"))) return std::nullopt;
    const std::string value = MakeDecimal(digits, 0).numerator;
    // Too large for what follows, whatever it is.
    if (value.size() > 4) return kExponentMax + 1;
    return negative ? -std::atoi(value.c_str()) : std::atoi(value.c_str());
  }

  // What stands in the braces of \frac: {-1.5}.
  std::optional<Rational> Argument() {
    if (!Take("{")) return std::nullopt;
    Blanks();
    bool negative = false;
    Sign(&negative);
    std::optional<Rational> value = Decimal();
    Blanks();
    if (!value.has_value() || !Take("}")) return std::nullopt;
    value->negative = negative && !IsZero(*value);
    return value;
  }
  std::optional<Rational> LatexFraction() {
    const std::optional<Rational> above = Argument();
    if (!above.has_value()) return std::nullopt;
    const std::optional<Rational> below = Argument();
    if (!below.has_value() || IsZero(*below)) return std::nullopt;
    return Divide(*above, *below);
  }

  std::optional<Rational> Unsigned() {
    if (Take("\\frac")) return LatexFraction();
    const std::optional<Rational> first = Decimal();
    if (!first.has_value() || !whole_) return first;
    const bool blank = Blanks();
    if (Take("/")) return Below(*first);
    if (Take("\\frac")) return Mixed(*first, LatexFraction());
    if (!blank || s_.empty() || !IsDigit(s_[0])) return first;
    const std::optional<Rational> above = Decimal();
    Blanks();
    if (!above.has_value() || !whole_ || !Take("/")) return std::nullopt;
    return Mixed(*first, Below(*above));
  }
  std::optional<Rational> Below(const Rational& above) {
    Blanks();
    const std::optional<Rational> below = Decimal();
    if (!below.has_value() || !whole_ || IsZero(*below)) return std::nullopt;
    return Divide(above, *below);
  }
  // A mixed number's fraction is below 1, or it is a product.
  static std::optional<Rational> Mixed(const Rational& whole,
                                       const std::optional<Rational>& part) {
    if (!part.has_value() || part->negative || IsZero(*part) ||
        part->numerator.size() > part->denominator.size() ||
        (part->numerator.size() == part->denominator.size() &&
         part->numerator >= part->denominator)) {
      return std::nullopt;
    }
    return Add(whole, *part);
  }

  absl::string_view s_;
  bool whole_ = true;  // the last decimal had neither point nor exponent
};

struct Brackets {
  std::string open, close;  // empty: `inner` is in none
  absl::string_view inner;
};

Brackets SplitBrackets(absl::string_view s) {
  const size_t size = absl::StartsWith(s, "\\{") ? 2 : 1;
  const bool opens = size == 2 || (!s.empty() && strchr("([{", s[0]));
  if (!opens || s.size() < 2 * size || AfterClosing(s, size - 1) != s.size() ||
      (size == 2 && !absl::EndsWith(s, "\\}"))) {
    return {"", "", s};
  }
  absl::string_view inner = s.substr(size, s.size() - 2 * size);
  if (s[0] == '{') return {"\\{", "\\}", inner};  // a set in bare braces
  // In ( {1, 2} ) they only keep the line whole.
  const absl::string_view within = Trimmed(inner);
  if (size == 1 && absl::StartsWith(within, "{") &&
      AfterClosing(within, 0) == within.size()) {
    inner = within.substr(1, within.size() - 2);
  }
  return {std::string(s.substr(0, size)),
          std::string(s.substr(s.size() - size)), inner};
}

constexpr absl::string_view kMatrices[] = {"matrix",     "pmatrix", "bmatrix",
                                           "Bmatrix",    "vmatrix", "Vmatrix",
                                           "smallmatrix"};

struct Matrix {
  absl::string_view kind;  // empty: there is none
  std::vector<std::vector<absl::string_view>> rows;
};

Matrix ReadMatrix(absl::string_view s) {
  for (const absl::string_view kind : kMatrices) {
    const std::string begin = "\\begin{" + std::string(kind) + "}";
    const std::string end = "\\end{" + std::string(kind) + "}";
    if (!absl::StartsWith(s, begin) || !absl::EndsWith(s, end) ||
        s.size() < begin.size() + end.size()) {
      continue;
    }
    Matrix matrix = {kind, {}};
    s = s.substr(begin.size(), s.size() - begin.size() - end.size());
    for (const absl::string_view row : Parts(s, "\\\\")) {
      matrix.rows.push_back(Parts(row, "&"));
    }
    // A line end behind the last row begins none.
    if (matrix.rows.size() > 1 && Trimmed(matrix.rows.back()[0]).empty() &&
        matrix.rows.back().size() == 1) {
      matrix.rows.pop_back();
    }
    return matrix;
  }
  return {};
}

// Whether a number that is no part of a name ends before `i` of `s`.
bool NumberEnds(absl::string_view s, size_t i) {
  if (i == 0 || !IsDigit(s[i - 1])) return false;
  while (i > 0 && (IsDigit(s[i - 1]) || s[i - 1] == '.')) --i;
  return i == 0 || !IsWord(s[i - 1]);
}

// Whether an exponent of ten would begin at `i` of `s`, did a number end there.
bool ExponentBegins(absl::string_view s, size_t i) {
  return i + 1 < s.size() && (s[i] == 'e' || s[i] == 'E') &&
         (IsDigit(s[i + 1]) || s[i + 1] == '-' || s[i + 1] == '+');
}

// Whether the "+" at `i` of `s` is the sign of what follows, which it does not
// change.
bool IsIdlePlus(absl::string_view s, size_t i) {
  if (s[i] != '+' || i + 1 >= s.size()) return false;
  if (i > 0 && strchr("([,=<>", s[i - 1]) == nullptr) return false;
  return IsWord(s[i + 1]) || s[i + 1] == '\\' || s[i + 1] == '(';
}

// Whether the blank at `i` of `s` (one, not at an end) means nothing. Around a
// sign only where it is on both sides: "3 -4" is not "3-4".
bool IsIdleBlank(absl::string_view s, size_t i) {
  const char before = s[i - 1], after = s[i + 1];
  const auto sign = [](char c) { return c == '-' || c == '+'; };
  if (sign(after)) {
    return (!IsWord(before) && !sign(before)) ||
           (i + 2 < s.size() && s[i + 2] == ' ');
  }
  if (sign(before)) {
    return i == 1 || s[i - 2] == ' ' || !IsWord(s[i - 2]);
  }
  // The one behind a command ends its name, which only a letter would go on.
  if (!IsLetter(after) && !LastCommand(s.substr(0, i)).empty()) return true;
  // 2 n is 2n, and 5 cm 5cm.
  if (IsLetter(after) && NumberEnds(s, i)) return !ExponentBegins(s, i + 1);
  return !IsWord(before) || !IsWord(after);
}

// Text as it is compared.
std::string Text(absl::string_view s) {
  std::string single;
  for (const char c : Trimmed(s)) {
    if (c == kJoint) continue;  // it has kept what it parts from a number
    if (c != ' ' || single.back() != ' ') single.push_back(c);
  }
  std::string out;
  for (size_t i = 0; i < single.size(); ++i) {
    if (single[i] == ' ' && IsIdleBlank(single, i)) continue;
    out.push_back(single[i] == kDollar ? '$' : single[i]);
  }
  // Last, when no blank is left beside a sign.
  for (size_t i = 0; i < out.size(); ++i) {
    if (IsIdlePlus(out, i)) out.erase(i, 1);
  }
  return out;
}

bool Same(absl::string_view a, absl::string_view b, int depth);

bool AllSame(const std::vector<absl::string_view>& a,
             const std::vector<absl::string_view>& b, int depth) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!Same(a[i], b[i], depth)) return false;
  }
  return true;
}

bool SameMatrix(const Matrix& a, const Matrix& b, int depth) {
  if (a.kind != b.kind || a.rows.size() != b.rows.size()) return false;
  for (size_t i = 0; i < a.rows.size(); ++i) {
    if (!AllSame(a.rows[i], b.rows[i], depth)) return false;
  }
  return true;
}

bool Same(absl::string_view a, absl::string_view b, int depth) {
  a = Unwrapped(a);
  b = Unwrapped(b);
  if (depth == kDepthMax) return Text(a) == Text(b);
  for (const char* separator : {",", "\\cup"}) {
    const auto left = Parts(a, separator), right = Parts(b, separator);
    if (left.size() > 1 || right.size() > 1) {
      return AllSame(left, right, depth + 1);
    }
  }
  const std::optional<Rational> x = NumberReader(a).Read();
  const std::optional<Rational> y = NumberReader(b).Read();
  if (x.has_value() || y.has_value()) {
    return x.has_value() && y.has_value() && SameValue(*x, *y);
  }
  const Matrix left = ReadMatrix(a), right = ReadMatrix(b);
  if (!left.kind.empty() || !right.kind.empty()) {
    return SameMatrix(left, right, depth + 1);
  }
  const Brackets in_a = SplitBrackets(a), in_b = SplitBrackets(b);
  if (in_a.open != in_b.open || in_a.close != in_b.close) return false;
  if (!in_a.open.empty()) return Same(in_a.inner, in_b.inner, depth + 1);
  return Text(a) == Text(b);
}

}  // namespace

bool SameAnswer(const std::string& a, const std::string& b) {
  const std::string x = PlainAnswer(a);
  const std::string y = PlainAnswer(b);
  // Nothing is no answer, not even to a truth that is nothing to see.
  return !Text(Unwrapped(x)).empty() && Same(x, y, 0);
}

}  // namespace temper
