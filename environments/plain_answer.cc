#include "environments/plain_answer.h"

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/strings/match.h"

namespace temper {
namespace {

// Characters of a text that Plain has gone over, besides its own and kDollar.
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

// Whether the braces around `inside`, after `out`, of a command that only
// changes how they look matter: what they hold is an argument, or would become
// the exponent of a number without them. 2\text{e}3 is no 2000.
bool KeepsBraces(absl::string_view out, absl::string_view inside) {
  if (TakesArgument(out)) return true;
  if (out.empty() || inside.empty()) return false;
  const auto is_e = [](char c) { return c == 'e' || c == 'E'; };
  return ((IsDigit(out.back()) || out.back() == '.') && is_e(inside[0])) ||
         (is_e(out.back()) && IsDigit(inside[0]));
}

// `text` without what only changes how it looks, whatever it means.
std::string Plain(absl::string_view text) {
  std::string out;
  std::vector<bool> dropped;  // of the braces that are open
  for (size_t i = 0; i < text.size();) {
    if (const Substitute* const one = FindCharacter(text.substr(i))) {
      out.append(one->second.data(), one->second.size());
      i += one->first.size();
      continue;
    }
    if (text[i] == '\\' && i + 1 < text.size()) {
      size_t end = i + 1;
      while (end < text.size() && IsLetter(text[end])) ++end;
      const absl::string_view name = text.substr(i + 1, end - i - 1);
      if (name.empty()) {  // "\{" and the like: two characters
        out.append(text.data() + i, 2);
        i += 2;
        continue;
      }
      absl::string_view as = text.substr(i, end - i);
      for (const Substitute& command : kCommands) {
        if (command.first == name) as = command.second;
      }
      i = end;
      if (Contains(kLooks, name) && i < text.size() && text[i] == '{') {
        ++i;
        const bool keep = KeepsBraces(out, text.substr(i));
        if (keep) {
          out.push_back('{');
        } else if (i < text.size() && IsLetter(text[i]) &&
                   !LastCommand(out).empty()) {
          out.push_back(' ');  // \pi\text{r} is not \pir
        }
        dropped.push_back(!keep);
      } else {
        out.append(as.data(), as.size());
      }
      continue;
    }
    const char c = text[i++];
    if (c == '{') dropped.push_back(false);
    if (c == '}' && !dropped.empty()) {
      const bool drop = dropped.back();
      dropped.pop_back();
      if (drop) continue;
    }
    if (c == '~' && !out.empty() && IsWord(out.back())) {
      out.push_back(' ');  // LaTeX's blank; in front it is "about"
      continue;
    }
    if (static_cast<unsigned char>(c) >= ' ') out.push_back(c);
  }
  return out;
}

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
  return WithoutGrouping(Plain(text));
}

}  // namespace temper
