// Which of PCRE2's three interfaces its header declares: bytes.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "environments/search/words.h"

#include <functional>
#include <vector>

#include "kernels/base/log.h"
#include "kernels/base/utf8.h"
#include "pcre2.h"

namespace temper {
namespace {

constexpr uint32_t kCodePoints = 0x110000;

enum CharacterKind : uint32_t { kSeparates, kInRun, kAlone, kMark };

// Of each code point its lower case, with its kind above that.
constexpr int kKindShift = 24;
constexpr uint32_t kCodePointMask = (1u << kKindShift) - 1;

class Pattern {
 public:
  explicit Pattern(const char* pattern) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_ = pcre2_compile(
        reinterpret_cast<PCRE2_SPTR>(pattern), PCRE2_ZERO_TERMINATED,
        PCRE2_UTF | PCRE2_UCP | PCRE2_DOTALL, &error, &offset, nullptr);
    CHECK(code_ != nullptr) << pattern << ": PCRE2 error " << error;
    // Where there is no compiler for this CPU, it is slower and the same.
    pcre2_jit_compile(code_, PCRE2_JIT_COMPLETE);
    data_ = pcre2_match_data_create_from_pattern(code_, nullptr);
    CHECK(data_ != nullptr);
  }
  ~Pattern() {
    pcre2_match_data_free(data_);
    pcre2_code_free(code_);
  }
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;

  void ForEachMatch(const std::string& text,
                    const std::function<void(std::string_view)>& visit) const {
    for (size_t at = 0; at < text.size();) {
      const int count =
          pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()),
                      text.size(), at, PCRE2_NO_UTF_CHECK, data_, nullptr);
      if (count == PCRE2_ERROR_NOMATCH) return;
      CHECK(count > 0) << "PCRE2 error " << count;
      const PCRE2_SIZE* found = pcre2_get_ovector_pointer(data_);
      visit(std::string_view(text).substr(found[0], found[1] - found[0]));
      at = found[1];
    }
  }

  std::string Lowered(const std::string& text) const {
    // A character's lower case may take more bytes, four at most.
    std::string out(4 * text.size() + 1, '\0');
    PCRE2_SIZE size = out.size();
    const int count = pcre2_substitute(
        code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
        PCRE2_SUBSTITUTE_EXTENDED, data_, nullptr,
        reinterpret_cast<PCRE2_SPTR>("\\L$0"), PCRE2_ZERO_TERMINATED,
        reinterpret_cast<PCRE2_UCHAR*>(out.data()), &size);
    CHECK(count == 1) << "PCRE2 error " << count;
    out.resize(size);
    return out;
  }

 private:
  pcre2_code* code_ = nullptr;
  pcre2_match_data* data_ = nullptr;
};

std::vector<uint32_t> CodePointsOf(std::string_view text) {
  std::vector<uint32_t> all;
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = NextUtf8(text.data() + at, text.size() - at);
    all.push_back(step.code_point);
    at += step.bytes;
  }
  return all;
}

// A character at a time is asked of this table, for a regular expression takes
// thirty times as long over a corpus.
std::vector<uint32_t> ReadTable() {
  std::string every;
  for (uint32_t c = 1; c < kCodePoints; ++c) {
    if (c < 0xD800 || c > 0xDFFF) AppendUtf8(c, &every);
  }
  std::vector<uint32_t> table(kCodePoints);
  for (uint32_t c = 0; c < kCodePoints; ++c) table[c] = c;
  const auto set_kind = [&](const char* pattern, CharacterKind kind) {
    Pattern(pattern).ForEachMatch(every, [&](std::string_view match) {
      for (const uint32_t c : CodePointsOf(match)) {
        table[c] = c | kind << kKindShift;
      }
    });
  };
  set_kind(R"([\p{L}\p{N}]++)", kInRun);
  // Digits of these scripts make numbers, as elsewhere.
  set_kind(R"((?:(?=\p{L})[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai})"
           R"(\p{Lao}\p{Khmer}\p{Myanmar}])++)",
           kAlone);
  set_kind(R"(\p{M}++)", kMark);
  std::string upper;
  Pattern(R"([\p{Lu}\p{Lt}]++)")
      .ForEachMatch(every, [&](std::string_view match) { upper += match; });
  const std::vector<uint32_t> from = CodePointsOf(upper);
  const std::vector<uint32_t> to = CodePointsOf(Pattern(".++").Lowered(upper));
  CHECK_EQ(from.size(), to.size());
  for (size_t i = 0; i < from.size(); ++i) {
    table[from[i]] = to[i] | (table[from[i]] & ~kCodePointMask);
  }
  return table;
}

const uint32_t* Table() {
  // Never freed: readers may outlive the end of main.
  static const auto* const table = new std::vector<uint32_t>(ReadTable());
  return table->data();
}

}  // namespace

bool WordReader::Next() {
  static const uint32_t* const table = Table();
  word_.clear();
  bool alone = false;
  size_t at = end_;
  while (at < text_.size()) {
    Utf8Step step = {Utf8State::kValid, 1, static_cast<uint8_t>(text_[at])};
    // Most of most corpora is ASCII, and a call for each letter half the time.
    if (step.code_point >= 0x80) {
      step = NextUtf8(text_.data() + at, text_.size() - at);
    }
    const bool valid = step.state == Utf8State::kValid;
    const uint32_t entry = valid ? table[step.code_point] : 0;
    const uint32_t kind = valid ? entry >> kKindShift : kSeparates;
    const bool goes_on = kind == kMark || (kind == kInRun && !alone) ||
                         (kind == kAlone && word_.empty());
    if (!goes_on && !word_.empty()) break;
    if (kind != kSeparates) {
      if (word_.empty()) begin_ = at;
      alone = alone || kind == kAlone;
      const uint32_t lower = entry & kCodePointMask;
      // Four bytes before the limit, so that no later character fits again.
      if (word_.size() > kWordBytesMax - 4) {
        // The rest of the run belongs to it and does not count.
      } else if (lower < 0x80) {
        word_.push_back(static_cast<char>(lower));
      } else {
        AppendUtf8(lower, &word_);
      }
    }
    at += step.bytes;
  }
  end_ = at;
  return !word_.empty();
}

uint32_t LowerCase(uint32_t code_point) {
  return code_point < kCodePoints ? Table()[code_point] & kCodePointMask
                                  : code_point;
}

std::string LowerCase(std::string_view text) {
  std::string lower;
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = NextUtf8(text.data() + at, text.size() - at);
    if (step.state == Utf8State::kValid) {
      AppendUtf8(LowerCase(step.code_point), &lower);
    } else {
      lower += text.substr(at, step.bytes);
    }
    at += step.bytes;
  }
  return lower;
}

std::string UnicodeVersion() {
  char version[64] = {};
  CHECK(pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, nullptr) <=
        static_cast<int>(sizeof(version)));
  pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, version);
  return version;
}

}  // namespace temper
