#define PCRE2_CODE_UNIT_WIDTH 8
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "kernels/base/log.h"
#include "kernels/base/utf8.h"
#include "pcre2.h"
#include "proto/wire/outcome.h"
#include "rewards/reward_parts.h"

namespace temper {
namespace {

// As Unicode calls them, those of one group joined by a plus; the first is the
// target where a task has no words. The frequent ones come first, for a word is
// tried against one after the other; then all others in modern use (UAX 31,
// tables 5 and 7). A letter of any other script (historic, or newer than the
// PCRE2 at hand) belongs to one group more, after them.
constexpr const char* kScripts[] = {"Latin",
                                    "Han",
                                    "Hangul",
                                    "Hiragana+Katakana",
                                    "Cyrillic",
                                    "Arabic",
                                    "Greek",
                                    "Hebrew",
                                    "Thai",
                                    "Devanagari",
                                    "Armenian",
                                    "Bengali",
                                    "Bopomofo",
                                    "Ethiopic",
                                    "Georgian",
                                    "Gujarati",
                                    "Gurmukhi",
                                    "Kannada",
                                    "Khmer",
                                    "Lao",
                                    "Malayalam",
                                    "Myanmar",
                                    "Oriya",
                                    "Sinhala",
                                    "Tamil",
                                    "Telugu",
                                    "Thaana",
                                    "Tibetan",
                                    "Adlam",
                                    "Balinese",
                                    "Bamum",
                                    "Batak",
                                    "Canadian_Aboriginal",
                                    "Chakma",
                                    "Cham",
                                    "Cherokee",
                                    "Hanifi_Rohingya",
                                    "Javanese",
                                    "Kayah_Li",
                                    "Lepcha",
                                    "Limbu",
                                    "Lisu",
                                    "Mandaic",
                                    "Meetei_Mayek",
                                    "Miao",
                                    "Mongolian",
                                    "New_Tai_Lue",
                                    "Newa",
                                    "Nko",
                                    "Nyiakeng_Puachue_Hmong",
                                    "Ol_Chiki",
                                    "Osage",
                                    "Saurashtra",
                                    "Sundanese",
                                    "Syloti_Nagri",
                                    "Syriac",
                                    "Tai_Le",
                                    "Tai_Tham",
                                    "Tai_Viet",
                                    "Tifinagh",
                                    "Vai",
                                    "Wancho",
                                    "Yi"};
constexpr size_t kHan = 1, kHangul = 2, kKana = 3;
constexpr size_t kGroups = std::size(kScripts) + 1;

// One word: capture 1 + i takes part if it is of group i. Its loops are
// possessive, so that a match takes time linear in its length.
std::string WordPattern() {
  std::string pattern = "(?=\\p{L})(?:";
  for (size_t i = 0; i < std::size(kScripts); ++i) {
    const std::string script = absl::StrCat(
        "[\\p{", absl::StrReplaceAll(kScripts[i], {{"+", "}\\p{"}}), "}]");
    if (i == kHan || i == kHangul || i == kKana) {
      // With its marks; a syllable of Hangul may be spelt letter by letter.
      absl::StrAppend(&pattern, "((?=", script, ")\\X)|");
    } else {
      absl::StrAppend(&pattern, "((?:(?=\\p{L})", script,
                      "|[\\p{M}\\x{200C}\\x{200D}])++)|");
    }
  }
  // A letter of no script (Common) is no language's: a micro sign.
  return pattern + "((?:(?!\\p{sc:Common})\\p{L}|\\p{M})++))";
}

const pcre2_code* WordCode() {
  static const pcre2_code* const code = [] {
    const std::string pattern = WordPattern();
    int error = 0;
    PCRE2_SIZE offset = 0;
    const pcre2_code* const compiled = pcre2_compile(
        reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
        PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
    CHECK(compiled != nullptr)
        << "PCRE2 error " << error << " at " << offset << " of " << pattern;
    return compiled;
  }();
  return code;
}

// One word takes a few steps a letter, and the model decides how many it has:
// PCRE2's own limit, of ten million steps, is met by one of five million. The
// pattern backtracks nowhere, so what bounds the text bounds the time.
pcre2_match_context* WordContext() {
  static pcre2_match_context* const context = [] {
    pcre2_match_context* const made = pcre2_match_context_create(nullptr);
    CHECK(made != nullptr);
    pcre2_set_match_limit(made, std::numeric_limits<uint32_t>::max());
    pcre2_set_depth_limit(made, std::numeric_limits<uint32_t>::max());
    return made;
  }();
  return context;
}

struct WordCounts {
  size_t of[kGroups] = {};
  size_t total = 0;
};

void CountWords(const std::string& text, WordCounts* counts) {
  // Sampled bytes need not be text; checked once, not by every match.
  const std::string valid = ReplaceInvalidUtf8(text);
  pcre2_match_data* const data =
      pcre2_match_data_create_from_pattern(WordCode(), nullptr);
  CHECK(data != nullptr);
  for (size_t at = 0; at < valid.size();) {
    const int found =
        pcre2_match(WordCode(), reinterpret_cast<PCRE2_SPTR>(valid.data()),
                    valid.size(), at, PCRE2_NO_UTF_CHECK, data, WordContext());
    if (found == PCRE2_ERROR_NOMATCH) break;
    // One more than the last capture that takes part: 1 is of no group.
    CHECK(found >= 2) << "PCRE2 error " << found;
    ++counts->of[found - 2];
    ++counts->total;
    at = pcre2_get_ovector_pointer(data)[1];
  }
  pcre2_match_data_free(data);
}

// Japanese mixes Han and kana: with kana in the task, both are the target.
bool InTarget(size_t group, size_t target, bool japanese) {
  if (japanese) return group == kHan || group == kKana;
  return group == target;
}

class LanguageReward : public RewardFunction {
 public:
  const char* name() const override { return "language"; }

  double Score(const RewardInput& input) const override {
    // What such an episode wrote last is nobody's reasoning or answer, whatever
    // field it stands in.
    if (!IsWellFormed(input.verdict.outcome())) return 0;
    WordCounts task, written;
    for (size_t i = 0; i < input.transcript.size(); ++i) {
      const Message& message = input.transcript[i];
      if (message.role() == "user") CountWords(message.content(), &task);
      if (message.role() == "assistant" && i >= input.prompt_messages) {
        CountWords(
            input.thinking ? message.reasoning_content() : message.content(),
            &written);
      }
    }
    if (written.total == 0) return 0;
    const size_t target =
        std::max_element(task.of, task.of + kGroups) - task.of;
    const bool japanese =
        task.of[kKana] > 0 && (target == kHan || target == kKana);
    size_t matching = 0;
    for (size_t group = 0; group < kGroups; ++group) {
      if (InTarget(group, target, japanese)) matching += written.of[group];
    }
    return static_cast<double>(matching) / static_cast<double>(written.total);
  }
};

}  // namespace

std::unique_ptr<RewardFunction> NewLanguageReward(const RewardConfig&) {
  return std::make_unique<LanguageReward>();
}

}  // namespace temper
