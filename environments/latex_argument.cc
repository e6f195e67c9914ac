#include "environments/latex_argument.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <vector>

#include "absl/strings/match.h"
#include "environments/plain_character.h"
#include "kernels/base/utf8.h"

namespace temper {
namespace {

// Commands whose argument may stand without braces, and those of two.
constexpr absl::string_view kTakes[] = {
    "frac",    "sqrt",    "binom",         "vec", "hat",
    "bar",     "tilde",   "overline",      "dot", "mathbb",
    "mathcal", "widehat", "overrightarrow"};
constexpr absl::string_view kTakesTwo[] = {"frac", "binom"};

template <typename Table>
bool Contains(const Table& table, absl::string_view name) {
  return std::find(std::begin(table), std::end(table), name) != std::end(table);
}

void DropBlanks(absl::string_view* s) {
  while (!s->empty() && IsPlainBlank(s->back())) s->remove_suffix(1);
}

// What takes what follows `s` as its argument: "^", "_", a command's name, or
// "" for nothing.
absl::string_view Taker(absl::string_view s) {
  for (const bool first : {true, false}) {
    DropBlanks(&s);
    if (s.empty()) return "";
    if (s.back() == '^' || s.back() == '_') {
      return first ? s.substr(s.size() - 1) : "";
    }
    const absl::string_view command = LastCommand(s);
    if (first ? Contains(kTakes, command) : Contains(kTakesTwo, command)) {
      return command;
    }
    // Else, once, before the argument that `s` may end with.
    if (!command.empty()) {
      s.remove_suffix(command.size() + 1);
      continue;
    }
    if (IsWord(s.back())) {
      s.remove_suffix(1);
      continue;
    }
    if (s.back() != '}' && s.back() != ']') return "";
    const bool optional = s.back() == ']';
    int depth = 0;
    do {
      depth += s.back() == '}' || s.back() == ']';
      depth -= s.back() == '{' || s.back() == '[';
      s.remove_suffix(1);
    } while (depth > 0 && !s.empty());
    if (optional) return LastCommand(s) == "sqrt" ? LastCommand(s) : "";
  }
  return "";
}

// The size of the letter or digit at the front of `s`; 0 where another
// character is.
size_t WordCharacter(absl::string_view s) {
  if (s.empty() || s[0] == '.' || !IsWord(s[0])) return 0;
  return NextUtf8(s.data(), s.size()).bytes;
}

// The size of the command at the front of `s`, its backslash with it; 0 for
// none.
size_t CommandSize(absl::string_view s) {
  if (s.size() < 2 || s[0] != '\\') return 0;
  size_t size = 1;
  while (size < s.size() && IsLetter(s[size])) ++size;
  return std::max<size_t>(size, 2);
}

// Goes over a text once. Its state is a stack, not recursion: who writes the
// text decides how deep it goes.
class Bracer {
 public:
  explicit Bracer(absl::string_view s) : s_(s) {}

  std::string Run() {
    while (!s_.empty()) {
      if (due_ > 0) {
        Argument();
      } else {
        Token();
      }
      CloseOurs();
    }
    due_ = 0;
    CloseOurs();
    return std::move(out_);
  }

 private:
  struct Open {
    bool ours = false;
    int due = 0;  // arguments that come after it
  };

  void Copy(size_t size) {
    out_.append(s_.data(), size);
    s_.remove_prefix(size);
  }

  // What comes next is an argument, if it can be one.
  void Argument() {
    while (!s_.empty() && IsPlainBlank(s_[0])) s_.remove_prefix(1);
    if (s_.empty()) return;
    const size_t character = WordCharacter(s_);
    if (s_[0] == '{') {
      open_.push_back({/*ours=*/false, due_ - 1});
      due_ = 0;
      Copy(1);
    } else if (character > 0) {
      out_ += '{';
      Copy(character);
      out_ += '}';
      --due_;
    } else if (s_.size() > 1 && s_[0] == '\\' && IsLetter(s_[1])) {
      out_ += '{';
      open_.push_back({/*ours=*/true, due_ - 1});
      Command();
    } else {
      due_ = 0;  // none is there: what it is, is nobody's business
      Token();
    }
  }

  void Token() {
    const char c = s_[0];
    if (CommandSize(s_) > 0) {
      Command();
    } else if (c == '^' || c == '_') {
      const bool ten = c == '^' && IsTen();
      // Without what it is the index of, it is Markdown's: __42__.
      due_ = c == '^' || HasBase() ? 1 : 0;
      Copy(1);
      if (c == '^') Power(ten);
    } else if (c == '{') {
      open_.push_back({/*ours=*/false, /*due=*/0});
      Copy(1);
    } else if (c == '}') {
      // One of ours that has not got all it is due ends with those around it.
      while (!open_.empty() && open_.back().ours) {
        out_ += '}';
        open_.pop_back();
      }
      Copy(1);
      if (open_.empty()) return;
      due_ = open_.back().due;
      open_.pop_back();
    } else {
      Copy(1);
    }
  }

  void Command() {
    const absl::string_view name = s_.substr(1, CommandSize(s_) - 1);
    Copy(name.size() + 1);
    due_ = Contains(kTakesTwo, name) ? 2 : Contains(kTakes, name) ? 1 : 0;
    if (name != "sqrt" || s_.empty() || s_[0] != '[') return;
    const size_t close = s_.find(']');
    if (close != absl::string_view::npos) Copy(close + 1);
  }

  bool HasBase() const {
    return !out_.empty() &&
           (IsWord(out_.back()) || strchr(")]}|'", out_.back()) != nullptr);
  }

  // Whether the number 10 has just been written.
  bool IsTen() const {
    const size_t size = out_.size();
    return absl::EndsWith(out_, "10") &&
           (size == 2 || (!IsDigit(out_[size - 3]) && out_[size - 3] != '.'));
  }

  // A number after ^ that is taken whole.
  void Power(bool of_ten) {
    const size_t sign = !s_.empty() && (s_[0] == '-' || s_[0] == '+') ? 1 : 0;
    size_t size = sign;
    while (size < s_.size() && IsDigit(s_[size])) ++size;
    if (size == sign || (sign == 0 && !of_ten)) return;
    out_ += '{';
    Copy(size);
    out_ += '}';
    due_ = 0;
  }

  void CloseOurs() {
    while (due_ == 0 && !open_.empty() && open_.back().ours) {
      out_ += '}';
      due_ = open_.back().due;
      open_.pop_back();
    }
  }

  absl::string_view s_;  // what is left
  std::string out_;
  int due_ = 0;  // how many arguments come next
  std::vector<Open> open_;
};

}  // namespace

absl::string_view LastCommand(absl::string_view s) {
  size_t begin = s.size();
  while (begin > 0 && IsLetter(s[begin - 1])) --begin;
  if (begin == 0 || s[begin - 1] != '\\') return "";
  return s.substr(begin);
}

bool TakesArgument(absl::string_view s) { return !Taker(s).empty(); }

bool TakesNumber(absl::string_view s) {
  DropBlanks(&s);
  const absl::string_view box = LastCommand(s);
  if (box == "boxed" || box == "fbox") return true;
  const absl::string_view taker = Taker(s);
  return taker == "frac" || taker == "sqrt";
}

std::string WithBraces(absl::string_view s) { return Bracer(s).Run(); }

}  // namespace temper
