#include "environments/plain_answer.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "environments/latex_argument.h"
#include "environments/plain_character.h"
#include "environments/plain_spelling.h"

namespace temper {
namespace {

// "{,}" as Plainer writes it: groups, or a comma.
constexpr char kGroupComma = '\x03';

constexpr absl::string_view kRoot = "\xE2\x88\x9A";

template <typename Table>
bool Contains(const Table& table, absl::string_view name) {
  for (const absl::string_view entry : table) {
    if (entry == name) return true;
  }
  return false;
}

template <typename Table>
const Substitute* FindCharacter(const Table& table, absl::string_view rest) {
  for (const Substitute& one : table) {
    if (absl::StartsWith(rest, one.first)) return &one;
  }
  return nullptr;
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
      const Substitute* const one =
          FindCharacter(kCharacters, text_.substr(at_));
      if (one != nullptr) {
        at_ += one->first.size();
        Put(one->second);
      } else if (absl::StartsWith(text_.substr(at_), kRoot)) {
        Root();
      } else if (Script(kSuperscripts, '^') || Script(kSubscripts, '_')) {
        continue;
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

  // The sign for a root takes a number whole, unlike \sqrt.
  void Root() {
    at_ += kRoot.size();
    Put("\\sqrt ");
    size_t end = text_.find_first_not_of(' ', at_);
    if (end == absl::string_view::npos || !IsDigit(text_[end])) return;
    at_ = end;
    while (end < text_.size() && IsDigit(text_[end])) ++end;
    if (end + 1 < text_.size() && text_[end] == '.' &&
        IsDigit(text_[end + 1])) {
      for (++end; end < text_.size() && IsDigit(text_[end]);) ++end;
    }
    Put("{" + std::string(text_.substr(at_, end - at_)) + "}");
    at_ = end;
  }

  // A run of such characters is one argument of `command`. False if none is
  // here.
  template <typename Table>
  bool Script(const Table& table, char command) {
    std::string run;
    while (const auto* one = FindCharacter(table, text_.substr(at_))) {
      run.append(one->second.data(), one->second.size());
      at_ += one->first.size();
    }
    if (run.empty()) return false;
    Put(std::string(1, command) + "{" + run + "}");
    return true;
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
    if (Contains(kSizes, name)) {
      Put("");
      // "\left." is a bracket that is not there, and no point.
      const size_t next = text_.find_first_not_of(' ', at_);
      if ((name == "left" || name == "right") &&
          next != absl::string_view::npos && text_[next] == '.') {
        at_ = next + 1;
      }
      return;
    }
    if (Contains(kSwitches, name)) {
      Put("");
      return;
    }
    if (!Contains(kLooks, name)) {
      Put(as);
      return;
    }
    const size_t open = text_.find_first_not_of(" \t\r\n", at_);
    if (open == absl::string_view::npos || text_[open] != '{') {
      dropped_ = true;  // of one character, or of nothing: \mathbf x
      return;
    }
    at_ = open + 1;
    // What the braces hold may be one argument: \frac\text{12} is not \frac12.
    const bool keep = TakesArgument(out_);
    if (keep) Put("{");
    dropped_ |= !keep;
    drops_.push_back(!keep);
  }

  // Whether what is left begins with a switch: {\bf 42}.
  bool AtSwitch() const {
    const size_t at = text_.find_first_not_of(' ', at_);
    if (at == absl::string_view::npos || text_[at] != '\\') return false;
    size_t end = at + 1;
    while (end < text_.size() && IsLetter(text_[end])) ++end;
    return Contains(kSwitches, text_.substr(at + 1, end - at - 1));
  }

  void Character(char c) {
    if (c == '{') {
      // A command's braces stay: they hold what it takes.
      const bool drop =
          AtSwitch() && !TakesArgument(out_) && LastCommand(out_).empty();
      drops_.push_back(drop);
      if (drop) {
        dropped_ = true;
        return;
      }
    }
    if (c == '}' && !drops_.empty()) {
      const bool drop = drops_.back();
      drops_.pop_back();
      if (drop) {
        dropped_ = true;
        return;
      }
    }
    if (c == '~' && !out_.empty() &&
        (IsWord(out_.back()) || strchr(",;)]}", out_.back()) != nullptr)) {
      c = ' ';  // LaTeX's blank; in front it is "about"
    }
    // Control characters are blanks, as a tab is: ours must not be written by
    // others.
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7F) return Put("  ");
    Put(absl::string_view(&c, 1));
  }

  const absl::string_view text_;
  size_t at_ = 0;
  std::string out_;
  bool dropped_ = false;     // something was, since the last character of out_
  std::vector<bool> drops_;  // of the braces that are open
};

// What groups thousands at `at`; 0 if nothing does. A bare comma or blank
// within brackets never does; elsewhere the comma is like one that says so.
char GroupMark(const std::string& s, size_t at, bool in_brackets) {
  const char c = s[at];
  if (c == kThinSpace || (c == ' ' && !in_brackets)) return c;
  if (c == kGroupComma || (c == ',' && !in_brackets)) return ',';
  return 0;
}

// Whether such a mark and three digits, no more, stand at `at`.
bool IsGroup(const std::string& s, size_t at, bool in_brackets) {
  if (at + 3 >= s.size() || GroupMark(s, at, in_brackets) == 0) return false;
  return IsDigit(s[at + 1]) && IsDigit(s[at + 2]) && IsDigit(s[at + 3]) &&
         (at + 4 == s.size() || !IsDigit(s[at + 4]));
}

// Whether blanks may group what stands in [begin, end) of `s`: no other number
// is beside it, nor a fraction's line, as in 1 234/567.
bool StandsAlone(const std::string& s, size_t begin, size_t end) {
  if (begin > 0 && IsLetter(s[begin - 1])) return false;  // a name's: A1 234
  while (begin > 0 && IsPlainBlank(s[begin - 1])) --begin;
  while (end < s.size() && IsPlainBlank(s[end])) ++end;
  const auto joins = [](char c) { return IsDigit(c) || c == '/'; };
  return (begin == 0 || !joins(s[begin - 1])) &&
         (end == s.size() || !joins(s[end]));
}

// Goes over a text from the front and knows in which brackets it is.
class BracketStack {
 public:
  // Takes in the bracket or the escape at `at` of `s` and says how long it is;
  // 0 if none is there. \( and \[ are escapes and no brackets.
  size_t Take(absl::string_view s, size_t at) {
    const absl::string_view rest = s.substr(at);
    if (absl::StartsWith(rest, "\\langle")) return Open('<', 7);
    if (absl::StartsWith(rest, "\\rangle")) return Close('<', 7);
    if (absl::StartsWith(rest, "\\{")) return Open('{', 2);
    if (absl::StartsWith(rest, "\\}")) return Close('{', 2);
    if (absl::StartsWith(rest, "\\|")) return OpenOrClose('|', 2);
    switch (s[at]) {
      case '\\':
        return std::min<size_t>(2, rest.size());
      case '(':
      case '[':
        return Open(s[at], 1);
      case ')':
      case ']':
        return Close(s[at], 1);
      case '{':
        return Open(TakesNumber(s.substr(0, at)) ? kNumber : '{', 1);
      case '}':
        return Close('}', 1);
      case '|':
        return OpenOrClose('|', 1);
      case '<':
        return IsLess(s.substr(0, at)) ? 0 : Open('<', 1);
      case '>':
        return stack_.empty() || stack_.back() != '<' ? 0 : Close('<', 1);
      default:
        return 0;
    }
  }

  // Whether a comma here separates. One in the braces of \frac or \boxed alone
  // may be a number's.
  bool separates() const { return count_ > 0; }

 private:
  static constexpr char kNumber = 'n';

  size_t Open(char kind, size_t size) {
    stack_.push_back(kind);
    count_ += kind != kNumber;
    return size;
  }
  // Closes whichever is the innermost: (1, 2] is an interval. One that closes
  // nothing opens: ]1,2[ is one too.
  size_t Close(char kind, size_t size) {
    if (stack_.empty()) return kind == '}' ? size : Open(kind, size);
    count_ -= stack_.back() != kNumber;
    stack_.pop_back();
    return size;
  }
  size_t OpenOrClose(char kind, size_t size) {
    const bool closes = !stack_.empty() && stack_.back() == kind;
    return closes ? Close(kind, size) : Open(kind, size);
  }
  // Whether a "<" after `before` compares, and does not open <3, 100>.
  static bool IsLess(absl::string_view before) {
    while (!before.empty() && before.back() == ' ') before.remove_suffix(1);
    return !before.empty() && strchr("=(,[{$", before.back()) == nullptr;
  }

  std::string stack_;  // of the brackets that are open: what each is
  int count_ = 0;      // of these: in which a comma separates
};

// Takes out what groups thousands, so that any comma left separates.
std::string WithoutGrouping(const std::string& s) {
  std::string out;
  BracketStack brackets;
  for (size_t i = 0; i < s.size();) {
    if (const size_t size = brackets.Take(s, i)) {
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
    const bool in = brackets.separates();
    if (i - begin > 3 || !IsGroup(s, i, in)) continue;
    // All of a number's groups are parted alike.
    const char mark = GroupMark(s, i, in);
    size_t end = i;
    while (IsGroup(s, end, in) && GroupMark(s, end, in) == mark) end += 4;
    if (mark == ' ' && !StandsAlone(s, begin, end)) continue;
    for (; i < end; i += 4) out.append(s, i + 1, 3);
  }
  return out;
}

// What stands between the fences of a block of code, if `text` is one: a line
// of ``` and perhaps a language, and ``` at the end.
absl::string_view WithoutFence(absl::string_view text) {
  constexpr absl::string_view kFence = "```";
  const absl::string_view block = absl::StripAsciiWhitespace(text);
  const size_t line = block.find('\n');
  if (line == absl::string_view::npos || !absl::StartsWith(block, kFence) ||
      !absl::EndsWith(block, kFence) || block.size() - line < 4 ||
      block.substr(3, line - 3).find('`') != absl::string_view::npos) {
    return text;
  }
  const absl::string_view inside = block.substr(line, block.size() - line - 3);
  return inside.find(kFence) == absl::string_view::npos ? inside : text;
}

}  // namespace

std::string PlainAnswer(absl::string_view text) {
  return WithoutGrouping(WithBraces(Plainer(WithoutFence(text)).Run()));
}

}  // namespace temper
