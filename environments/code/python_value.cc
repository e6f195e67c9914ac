#include "environments/code/python_value.h"

#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"

namespace temper {
namespace {

using Kind = PythonValue::Kind;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// As UTF-8 would have it, of a surrogate too: Python's strings hold them.
void AppendCodePoint(uint32_t c, std::string* out) {
  if (c < 0xD800 || c > 0xDFFF) return AppendUtf8(c, out);
  out->push_back(static_cast<char>(0xE0 | (c >> 12)));
  out->push_back(static_cast<char>(0x80 | ((c >> 6) & 0x3F)));
  out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
}

// Whether two of the keys of `items`, each the first of `step`, are one.
bool HasKeyTwice(const std::vector<PythonValue>& items, size_t step) {
  std::vector<std::string> keys;
  for (size_t i = 0; i < items.size(); i += step) {
    keys.push_back(CanonicalText(items[i]));
  }
  std::sort(keys.begin(), keys.end());
  return std::adjacent_find(keys.begin(), keys.end()) != keys.end();
}

class Parser {
 public:
  explicit Parser(const std::string& text) : text_(text) {}

  absl::StatusOr<PythonValue> Whole() {
    ASSIGN_OR_RETURN(PythonValue value, Value(0));
    SkipBlanks();
    if (at_ != text_.size()) return Fault("more than one value");
    return value;
  }

 private:
  absl::Status Fault(const char* what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("no plain Python value: ", what, " at byte ", at_));
  }
  void SkipBlanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) {
      ++at_;
    }
  }
  char Peek(size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  // Whether `word` stands here, and is passed.
  bool Take(const char* word) {
    const absl::string_view rest = absl::string_view(text_).substr(at_);
    if (rest.substr(0, absl::string_view(word).size()) != word) return false;
    at_ += absl::string_view(word).size();
    return true;
  }

  absl::StatusOr<PythonValue> Value(int depth) {
    if (depth > kValueDepthMax) return Fault("nested too deeply");
    SkipBlanks();
    PythonValue value;
    const char c = Peek();
    if (c == '[') return Items(Kind::kList, ']', depth);
    if (c == '(') return Items(Kind::kTuple, ')', depth);
    if (c == '{') return Braces(depth);
    if (c == '\'' || c == '"') return Text(Kind::kString);
    if (c == 'b' && (Peek(1) == '\'' || Peek(1) == '"')) {
      ++at_;
      return Text(Kind::kBytes);
    }
    if (Take("None")) return value;
    if (Take("set()")) {
      value.kind = Kind::kSet;
      return value;
    }
    value.kind = Kind::kBool;
    value.truth = c == 'T';
    if (Take("True") || Take("False")) return value;
    return Number();
  }

  absl::StatusOr<PythonValue> Number() {
    PythonValue value;
    const size_t begin = at_;
    if (Peek() == '-') ++at_;
    value.kind = Kind::kFloat;
    if (Take("inf") || Take("nan")) {
      value.number = text_[at_ - 1] == 'n'
                         ? std::numeric_limits<double>::quiet_NaN()
                         : std::numeric_limits<double>::infinity();
      if (text_[begin] == '-') value.number = -value.number;
      return value;
    }
    const size_t digits = at_;
    while (IsDigit(Peek())) ++at_;
    if (at_ == digits) return Fault("what is none");
    bool whole = true;
    const size_t integer_end = at_;
    if (Peek() == '.') {
      whole = false;
      ++at_;
      while (IsDigit(Peek())) ++at_;
    }
    if (Peek() == 'e' || Peek() == 'E') {
      whole = false;
      ++at_;
      if (Peek() == '-' || Peek() == '+') ++at_;
      if (!IsDigit(Peek())) return Fault("a number cut short");
      while (IsDigit(Peek())) ++at_;
    }
    if (text_[digits] == '0' && integer_end > digits + 1) {
      return Fault("a number with a zero in front");
    }
    const std::string spelt = text_.substr(begin, at_ - begin);
    if (whole) {
      value.kind = Kind::kInt;
      value.text = spelt == "-0" ? "0" : spelt;
    } else {
      // The program never sets a locale; beyond the range it is infinite, as
      // Python has it.
      value.number = strtod(spelt.c_str(), nullptr);
    }
    return value;
  }

  // `count` hexadecimal digits.
  absl::StatusOr<uint32_t> Hex(int count) {
    uint32_t code = 0;
    for (int i = 0; i < count; ++i, ++at_) {
      const char c = Peek();
      const bool letter = (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
      if (!IsDigit(c) && !letter) return Fault("an escape cut short");
      code = code * 16 +
             static_cast<uint32_t>(letter ? (c | 32) - 'a' + 10 : c - '0');
    }
    return code;
  }

  absl::Status Escape(Kind kind, std::string* out) {
    static constexpr char kPlain[] = "\\\\''\"\"n\nr\rt\ta\ab\bf\fv\v";
    const char c = Peek();
    ++at_;
    for (size_t i = 0; i + 1 < sizeof(kPlain); i += 2) {
      if (c != kPlain[i]) continue;
      out->push_back(kPlain[i + 1]);
      return absl::OkStatus();
    }
    const bool text = kind == Kind::kString;
    const int count = c == 'x'   ? 2
                      : !text    ? 0
                      : c == 'u' ? 4
                      : c == 'U' ? 8
                                 : 0;
    if (count == 0) return Fault("an escape that is not read here");
    ASSIGN_OR_RETURN(const uint32_t code, Hex(count));
    if (code > 0x10FFFF) return Fault("no character");
    if (text) {
      AppendCodePoint(code, out);
    } else {
      out->push_back(static_cast<char>(code));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<PythonValue> Text(Kind kind) {
    PythonValue value;
    value.kind = kind;
    const char quote = text_[at_++];
    while (at_ < text_.size() && text_[at_] != quote) {
      const char c = text_[at_];
      if (c == '\\') {
        ++at_;
        RETURN_IF_ERROR(Escape(kind, &value.text));
        continue;
      }
      const Utf8Step step = NextUtf8(text_.data() + at_, text_.size() - at_);
      const bool fits = kind == Kind::kString || step.bytes == 1;
      if (c == '\n' || c == '\r' || step.state != Utf8State::kValid || !fits) {
        return Fault("no character of a literal");
      }
      value.text.append(text_, at_, step.bytes);
      at_ += step.bytes;
    }
    if (Peek() != quote) return Fault("a literal without an end");
    ++at_;
    return value;
  }

  // A list or a tuple.
  absl::StatusOr<PythonValue> Items(Kind kind, char close, int depth) {
    PythonValue value;
    value.kind = kind;
    ++at_;
    bool comma = true;
    for (;;) {
      SkipBlanks();
      if (Peek() == close) break;
      if (!comma) return Fault("a missing comma");
      ASSIGN_OR_RETURN(PythonValue item, Value(depth + 1));
      value.items.push_back(std::move(item));
      SkipBlanks();
      comma = Take(",");
    }
    ++at_;
    // One in parentheses without a comma is no tuple.
    if (kind == Kind::kTuple && value.items.size() == 1 && !comma) {
      PythonValue item = std::move(value.items[0]);
      return item;
    }
    return value;
  }

  // A dict or a set.
  absl::StatusOr<PythonValue> Braces(int depth) {
    PythonValue value;
    value.kind = Kind::kSet;
    if (Take("{*()}")) return value;
    value.kind = Kind::kDict;
    ++at_;
    bool comma = true;
    for (;;) {
      SkipBlanks();
      if (Peek() == '}') break;
      if (!comma) return Fault("a missing comma");
      ASSIGN_OR_RETURN(PythonValue key, Value(depth + 1));
      SkipBlanks();
      const bool first = value.items.empty();
      value.items.push_back(std::move(key));
      if (first && Peek() != ':') value.kind = Kind::kSet;
      if (value.kind == Kind::kDict) {
        if (!Take(":")) return Fault("a key without a value");
        ASSIGN_OR_RETURN(PythonValue item, Value(depth + 1));
        value.items.push_back(std::move(item));
        SkipBlanks();
      }
      comma = Take(",");
    }
    ++at_;
    if (HasKeyTwice(value.items, value.kind == Kind::kDict ? 2 : 1)) {
      return Fault("something twice in a dict or a set, ended");
    }
    return value;
  }

  const std::string& text_;
  size_t at_ = 0;
};

std::string QuotedText(const std::string& text, bool bytes) {
  std::string out = bytes ? "b'" : "'";
  for (const char c : text) {
    const unsigned char byte = static_cast<unsigned char>(c);
    if (c == '\'' || c == '\\') {
      out += {'\\', c};
    } else if (byte < 0x20 || byte == 0x7F || (bytes && byte > 0x7F)) {
      char escape[8];
      snprintf(escape, sizeof(escape), "\\x%02x", byte);
      out += escape;
    } else {
      out += c;
    }
  }
  return out + "'";
}

// A surrogate is spelt, for it has no UTF-8.
std::string QuotedString(const std::string& text) {
  std::string out, part;
  for (size_t i = 0; i < text.size();) {
    const unsigned char second =
        i + 2 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
    if (text[i] != '\xED' || second < 0xA0) {
      part += text[i++];
      continue;
    }
    const unsigned low = static_cast<unsigned char>(text[i + 2]) & 0x3F;
    char escape[8];
    snprintf(escape, sizeof(escape), "\\u%04x",
             0xD000u | (second & 0x3Fu) << 6 | low);
    const std::string quoted = QuotedText(part, /*bytes=*/false);
    out += quoted.substr(1, quoted.size() - 2) + escape;
    part.clear();
    i += 3;
  }
  const std::string quoted = QuotedText(part, /*bytes=*/false);
  return "'" + out + quoted.substr(1);
}

std::string FloatText(double number) {
  if (std::isnan(number)) return "(1e999-1e999)";
  if (std::isinf(number)) return number > 0 ? "1e999" : "-1e999";
  char text[40];
  snprintf(text, sizeof(text), "%.17g", number);
  std::string out = text;
  if (out.find_first_of(".e") == std::string::npos) out += ".0";
  return out;
}

std::string Write(const PythonValue& value, bool canonical);

// Between `open` and `close`. What has no order comes, if canonical, in that of
// its keys' texts.
std::string WriteItems(const PythonValue& value, bool canonical,
                       const char* open, const char* close) {
  const bool dict = value.kind == Kind::kDict;
  std::vector<std::string> items;
  for (size_t i = 0; i < value.items.size(); i += dict ? 2 : 1) {
    items.push_back(Write(value.items[i], canonical));
    if (!dict) continue;
    absl::StrAppend(&items.back(), ": ", Write(value.items[i + 1], canonical));
  }
  if (canonical && (dict || value.kind == Kind::kSet)) {
    std::sort(items.begin(), items.end());
  }
  return absl::StrCat(open, absl::StrJoin(items, ", "), close);
}

std::string Write(const PythonValue& value, bool canonical) {
  switch (value.kind) {
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return value.truth ? "True" : "False";
    case Kind::kInt:
      return value.text;
    case Kind::kFloat:
      return FloatText(value.number);
    case Kind::kString:
      return QuotedString(value.text);
    case Kind::kBytes:
      return QuotedText(value.text, /*bytes=*/true);
    case Kind::kList:
      return WriteItems(value, canonical, "[", "]");
    case Kind::kTuple:
      return WriteItems(value, canonical, "(",
                        value.items.size() == 1 ? ",)" : ")");
    case Kind::kDict:
      return WriteItems(value, canonical, "{", "}");
    case Kind::kSet:
      return WriteItems(value, canonical, value.items.empty() ? "{*()" : "{",
                        "}");
  }
  return "";
}

}  // namespace

absl::StatusOr<PythonValue> ParsePythonValue(const std::string& text) {
  if (text.size() > kValueBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a Python value of ", text.size(), " bytes; at most ", kValueBytesMax));
  }
  return Parser(text).Whole();
}

std::string ToPython(const PythonValue& value) {
  return Write(value, /*canonical=*/false);
}

std::string CanonicalText(const PythonValue& value) {
  return Write(value, /*canonical=*/true);
}

}  // namespace temper
