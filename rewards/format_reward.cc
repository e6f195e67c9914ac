#include <cstddef>
#include <string>

#include "proto/wire/outcome.h"
#include "rewards/reward_parts.h"

namespace temper {
namespace {

// As the V3.2 chat format spells them; the bars are U+FF5C.
constexpr const char* kMarkers[] = {"<think>", "</think>", "<\xEF\xBD\x9C",
                                    "</\xEF\xBD\x9C"};

bool HoldsMarker(const std::string& text) {
  for (const char* marker : kMarkers) {
    if (text.find(marker) != std::string::npos) return true;
  }
  return false;
}

class FormatReward : public RewardFunction {
 public:
  const char* name() const override { return "format"; }

  double Score(const RewardInput& input) const override {
    if (!IsWellFormed(input.verdict.outcome())) return 0;
    if (input.transcript.size() <= input.prompt_messages) return 0;
    const Message& last = input.transcript.back();
    if (last.role() != "assistant" || last.tool_calls_size() > 0) return 0;
    if (last.content().find_first_not_of(" \t\r\n") == std::string::npos) {
      return 0;
    }
    for (size_t i = input.prompt_messages; i < input.transcript.size(); ++i) {
      const Message& message = input.transcript[i];
      if (message.role() == "assistant" &&
          (HoldsMarker(message.content()) ||
           HoldsMarker(message.reasoning_content()))) {
        return 0;
      }
    }
    return 1;
  }
};

}  // namespace

std::unique_ptr<RewardFunction> NewFormatReward(const RewardConfig&) {
  return std::make_unique<FormatReward>();
}

}  // namespace temper
