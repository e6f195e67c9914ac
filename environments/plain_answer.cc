#include "environments/plain_answer.h"

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/strings/match.h"

namespace temper {
namespace {

// Characters that Plainer writes, besides kDollar and kJoint.
constexpr char kThinSpace = '\x01';   // groups thousands, else is a blank
constexpr char kGroupComma = '\x03';  // "{,}"; groups, or a comma

using Substitute = std::pair<absl::string_view, absl::string_view>;

constexpr Substitute kCharacters[] = {
    {"\xE2\x88\x92", "-"},     // minus sign
    {"\xE2\x80\x93", "-"},     // en dash
    {"\xC3\x97", "\\times "},  // multiplication sign
    {"\xC2\xA0", " "},         // no-break space
    {"\xE2\x80\x89", "\x01"},  // thin space
    {"\xE2\x80\xAF", "\x01"},  // narrow no-break space
    {"{,}", "\x03"},
    {",\\!", "\x03"},
    {"\t", " "},
    {"\r", " "},
    {"\n", " "},
    {"\\,", "\x01"},
    {"\\;", " "},
    {"\\:", " "},
    {"\\ ", " "},
    {"\\!", ""},
    {"\\$", "\x02"},
    {"\\%", "%"}};

// Commands of letters; those of kLooks lose the braces after them as well.
constexpr Substitute kCommands[] = {
    {"left", ""},        {"right", ""},      {"displaystyle", ""},
    {"lbrace", "\\{"},   {"rbrace", "\\}"},  {"textstyle", ""},
    {"quad", " "},       {"qquad", " "},     {"dfrac", "\\frac"},
    {"tfrac", "\\frac"}, {"cfrac", "\\frac"}};
constexpr absl::string_view kLooks[] = {
    "text",   "textbf", "textit", "textrm", "textsf", "texttt",      "mathrm",
    "mathbf", "mathit", "mathsf", "mathtt", "mbox",   "operatorname"};

// Commands whose argument may stand without braces, and those of two.
constexpr absl::string_view kTakes[] = {"frac",     "sqrt",   "binom",
                                        "vec",      "hat",    "bar",
                                        "overline", "mathbb", "mathcal"};
constexpr absl::string_view kTakesTwo[] = {"frac", "binom"};

template <typename Table>
bool Contains(const Table& table, absl::string_view name) {
  for (const absl::string_view entry : table) {
    if (entry == name) return true;
  }
  return false;
}

const Substitute* FindCharacter(absl::string_view rest) {
  for (const Substitute& one : kCharacters) {
    if (absl::StartsWith(rest, one.first)) return &one;
  }
  return nullptr;
}

// The command of letters that `s` ends with, its backslash off; empty for none.
absl::string_view LastCommand(absl::string_view s) {
  size_t begin = s.size();
  while (begin > 0 && IsLetter(s[begin - 1])) --begin;
  if (begin == 0 || s[begin - 1] != '\\') return "";
  return s.substr(begin);
}

// Whether what follows `s` is one argument whole, so that its braces matter:
// after ^ and _, a command that takes arguments, or the first of such.
bool TakesArgument(absl::string_view s) {
  for (const bool first : {true, false}) {
    while (!s.empty() && (s.back() == ' ' || s.back() == kThinSpace)) {
      s.remove_suffix(1);
    }
    if (s.empty()) return false;
    if (s.back() == '^' || s.back() == '_') return first;
    const absl::string_view command = LastCommand(s);
    if (first ? Contains(kTakes, command) : Contains(kTakesTwo, command)) {
      return true;
    }
    // Else, once, before the argument that `s` may end with.
    if (IsWord(s.back())) {
      s.remove_suffix(1);
      continue;
    }
    if (s.back() != '}' && s.back() != ']') return false;
    const bool optional = s.back() == ']';
    int depth = 0;
    do {
      depth += s.back() == '}' || s.back() == ']';
      depth -= s.back() == '{' || s.back() == '[';
      s.remove_suffix(1);
    } while (depth > 0 && !s.empty());
    if (optional) return LastCommand(s) == "sqrt";
  }
  return false;
}

// What must stand between `out` and `next` where what stood there was dropped,
// lest the two become one thing that they were not: \pi\text{r} is not \pir,
// and 2e\!3, 2\text{e}3 (2 times e times 3) are not the number 2e3.
absl::string_view Joint(absl::string_view out, char next) {
  if (out.empty()) return "";
  if (IsLetter(next) && !LastCommand(out).empty()) return " ";
  const auto is_e = [](char c) { return c == 'e' || c == 'E'; };
  const bool begins_exponent =
      is_e(next) && (IsDigit(out.back()) || out.back() == '.');
  const bool is_exponent =
      is_e(out.back()) && (IsDigit(next) || next == '-' || next == '+');
  return begins_exponent || is_exponent
             ? absl::string_view(&kJoint, sizeof(kJoint))
             : "";
}

// Goes over a text once and writes it without what only changes how it looks,
// whatever it means.
class Plainer {
 public:
  explicit Plainer(absl::string_view text) : text_(text) {}

  std::string Run() {
    while (at_ < text_.size()) {
      const Substitute* const one = FindCharacter(text_.substr(at_));
      if (one != nullptr) {
        at_ += one->first.size();
        Put(one->second);
      } else if (text_[at_] == '\\' && at_ + 1 < text_.size()) {
        Command();
      } else {
        Character(text_[at_++]);
      }
    }
    return std::move(out_);
  }

 private:
  // Appends `piece`; none: something stood here that is dropped.
  void Put(absl::string_view piece) {
    if (piece.empty()) {
      // As an argument it is not nothing: x^\!2 is x 2, not x^2.
      if (TakesArgument(out_)) out_ += "{}";
      dropped_ = true;
      return;
    }
    if (dropped_) {
      const absl::string_view joint = Joint(out_, piece[0]);
      out_.append(joint.data(), joint.size());
      dropped_ = false;
    }
    out_.append(piece.data(), piece.size());
  }

  // A backslash and what belongs to it.
  void Command() {
    size_t end = at_ + 1;
    while (end < text_.size() && IsLetter(text_[end])) ++end;
    const absl::string_view name = text_.substr(at_ + 1, end - at_ - 1);
    if (name.empty()) {  // "\{" and the like: two characters
      Put(text_.substr(at_, 2));
      at_ += 2;
      return;
    }
    absl::string_view as = text_.substr(at_, end - at_);
    for (const Substitute& command : kCommands) {
      if (command.first == name) as = command.second;
    }
    at_ = end;
    if (!Contains(kLooks, name) || at_ == text_.size() || text_[at_] != '{') {
      Put(as);
      return;
    }
    ++at_;
    // What the braces hold may be one argument: \frac\text{12} is not \frac12.
    const bool keep = TakesArgument(out_);
    if (keep) Put("{");
    dropped_ |= !keep;
    drops_.push_back(!keep);
  }

  void Character(char c) {
    if (c == '{') drops_.push_back(false);
    if (c == '}' && !drops_.empty()) {
      const bool drop = drops_.back();
      drops_.pop_back();
      if (drop) {
        dropped_ = true;
        return;
      }
    }
    if (c == '~' && !out_.empty() && IsWord(out_.back())) {
      c = ' ';  // LaTeX's blank; in front it is "about"
    }
    // Control characters are left out: ours must not be written by others.
    if (static_cast<unsigned char>(c) < ' ') {
      dropped_ = true;
    } else {
      Put(absl::string_view(&c, 1));
    }
  }

  const absl::string_view text_;
  size_t at_ = 0;
  std::string out_;
  bool dropped_ = false;     // something was, since the last character of out_
  std::vector<bool> drops_;  // of the braces that are open
};

// What groups thousands at `at`; 0 if nothing does. A bare comma within
// brackets never does, and elsewhere is like one that says so.
char GroupMark(const std::string& s, size_t at, bool in_brackets) {
  const char c = s[at];
  if (c == kThinSpace) return c;
  if (c == kGroupComma || (c == ',' && !in_brackets)) return ',';
  return 0;
}

// Whether such a mark and three digits, no more, stand at `at`.
bool IsGroup(const std::string& s, size_t at, bool in_brackets) {
  if (at + 3 >= s.size() || GroupMark(s, at, in_brackets) == 0) return false;
  return IsDigit(s[at + 1]) && IsDigit(s[at + 2]) && IsDigit(s[at + 3]) &&
         (at + 4 == s.size() || !IsDigit(s[at + 4]));
}

// The size of the bracket or escape at `at`, 0 if none is there. A bracket is
// counted in `depth`; \( and \[ are none. One that closes nothing opens: ]1,2[.
size_t SkipBracket(absl::string_view s, size_t at, int* depth) {
  int change = 0;
  size_t size = 1;
  if (s[at] == '\\' && at + 1 < s.size()) {
    const absl::string_view rest = s.substr(at);
    change =
        (absl::StartsWith(rest, "\\{") || absl::StartsWith(rest, "\\langle")) -
        (absl::StartsWith(rest, "\\}") || absl::StartsWith(rest, "\\rangle"));
    size = 2;
  } else {
    change = (s[at] == '(' || s[at] == '[') - (s[at] == ')' || s[at] == ']');
    if (change == 0) return 0;
  }
  *depth = *depth + change < 0 ? 1 : *depth + change;
  return size;
}

// Takes out what groups thousands, so that any comma left separates.
std::string WithoutGrouping(const std::string& s) {
  std::string out;
  int depth = 0;
  for (size_t i = 0; i < s.size();) {
    if (const size_t size = SkipBracket(s, i, &depth)) {
      out.append(s, i, size);
      i += size;
      continue;
    }
    const bool number = IsDigit(s[i]) && s[i] != '0' &&
                        (i == 0 || (!IsDigit(s[i - 1]) && s[i - 1] != '.'));
    if (!number) {
      out.push_back(s[i] == kThinSpace    ? ' '
                    : s[i] == kGroupComma ? ','
                                          : s[i]);
      ++i;
      continue;
    }
    const size_t begin = i;
    while (i < s.size() && IsDigit(s[i])) out.push_back(s[i++]);
    const bool in = depth > 0;
    if (i - begin > 3 || !IsGroup(s, i, in)) continue;
    // All of a number's groups are parted alike.
    for (const char mark = GroupMark(s, i, in);
         IsGroup(s, i, in) && GroupMark(s, i, in) == mark; i += 4) {
      out.append(s, i + 1, 3);
    }
  }
  return out;
}

}  // namespace

std::string PlainAnswer(absl::string_view text) {
  return WithoutGrouping(Plainer(text).Run());
}

}  // namespace temper
