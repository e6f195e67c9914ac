#include "rewards/language_reward.h"

#include <algorithm>
#include <cstddef>
#include <string>

namespace temper {
namespace {

enum Script {
  kLatin,
  kHan,
  kKana,
  kHangul,
  kCyrillic,
  kOther,
  kScripts,  // how many
  kNone      // not a letter
};

struct Range {
  char32_t first;
  char32_t last;
  Script script;
};

// Letters only, ascending; what is in no range is not part of a word.
// clang-format off
constexpr Range kRanges[] = {
    {'A', 'Z', kLatin},           {'a', 'z', kLatin},
    {0xC0, 0xD6, kLatin},         {0xD8, 0xF6, kLatin},
    {0xF8, 0x24F, kLatin},        {0x370, 0x3FF, kOther},
    {0x400, 0x52F, kCyrillic},    {0x530, 0x1FFF, kOther},
    {0x2C00, 0x2DFF, kOther},     {0x3040, 0x30FF, kKana},
    {0x3400, 0x4DBF, kHan},       {0x4E00, 0x9FFF, kHan},
    {0xA000, 0xABFF, kOther},     {0xAC00, 0xD7A3, kHangul},
    {0xF900, 0xFAFF, kHan},       {0x20000, 0x323AF, kHan}};
// clang-format on

Script ScriptOf(char32_t c) {
  for (const Range& range : kRanges) {
    if (c >= range.first && c <= range.last) return range.script;
  }
  return kNone;
}

// Decodes the character at `*i` of valid UTF-8 (protobuf strings are); a stray
// byte is no letter.
char32_t NextCharacter(const std::string& s, size_t* i) {
  const auto byte = [&s](size_t at) -> char32_t {
    return at < s.size() ? static_cast<unsigned char>(s[at]) : 0;
  };
  const char32_t lead = byte(*i);
  const size_t size = lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  char32_t c = size == 1 ? lead : lead & (0x7F >> size);
  for (size_t k = 1; k < size; ++k) c = c << 6 | (byte(*i + k) & 0x3F);
  *i += size;
  return size == 1 && lead >= 0x80 ? 0 : c;
}

struct WordCounts {
  size_t of[kScripts] = {};
  size_t total = 0;
};

void CountWords(const std::string& text, WordCounts* counts) {
  Script previous = kNone;
  for (size_t i = 0; i < text.size();) {
    const Script script = ScriptOf(NextCharacter(text, &i));
    const bool alone = script == kHan || script == kKana || script == kHangul;
    if (script != kNone && (alone || script != previous)) {
      ++counts->of[script];
      ++counts->total;
    }
    previous = script;
  }
}

// Japanese mixes Han and kana: with kana in the task, both are the target.
bool InTarget(Script script, Script target, bool japanese) {
  if (japanese) return script == kHan || script == kKana;
  return script == target;
}

class LanguageReward : public RewardFunction {
 public:
  const char* name() const override { return "language"; }

  double Score(const RewardInput& input) const override {
    WordCounts task, reasoning;
    for (const Message& message : input.transcript) {
      if (message.role() == "user") CountWords(message.content(), &task);
      if (message.role() == "assistant") {
        CountWords(message.reasoning_content(), &reasoning);
      }
    }
    if (reasoning.total == 0) return 0;
    const Script target = static_cast<Script>(
        std::max_element(task.of, task.of + kScripts) - task.of);
    const bool japanese =
        task.of[kKana] > 0 && (target == kHan || target == kKana);
    size_t matching = 0;
    for (int script = 0; script < kScripts; ++script) {
      if (InTarget(static_cast<Script>(script), target, japanese)) {
        matching += reasoning.of[script];
      }
    }
    return static_cast<double>(matching) / static_cast<double>(reasoning.total);
  }
};

}  // namespace

std::unique_ptr<RewardFunction> NewLanguageReward() {
  return std::make_unique<LanguageReward>();
}

}  // namespace temper
