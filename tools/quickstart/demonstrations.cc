#include "tools/quickstart/demonstrations.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "environments/interpreter/interpreter_tools.h"
#include "nlohmann/json.hpp"

namespace temper {
namespace {

// Lanes of QuickstartDraws below 2^31 are the tasks' attempts.
constexpr uint32_t kSlipLane = 1u << 31;

// Reasoning, short on purpose: each is a few tokens of the small vocabulary.
constexpr char kGuess[] = "I guess.";
constexpr char kCompute[] = "Compute.";
constexpr char kLookUp[] = "Look up.";
constexpr char kDone[] = "Done.";

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// `text` with one of its digits changed; never to a leading zero, which Python
// refuses.
std::string ChangeDigit(const std::string& text, QuickstartDraws* draws) {
  std::vector<size_t> digits;
  for (size_t i = 0; i < text.size(); ++i) {
    if (IsDigit(text[i])) digits.push_back(i);
  }
  const size_t at = digits[draws->Between(0, digits.size() - 1)];
  const bool leading = at == 0 || !IsDigit(text[at - 1]);
  const int low = leading ? 1 : 0;
  int digit = draws->Between(low, 8);
  if (digit >= text[at] - '0') ++digit;  // any but the old one
  std::string changed = text;
  changed[at] = static_cast<char>('0' + digit);
  return changed;
}

// Code that Python does not compile, and what the environment says of it.
std::string Malform(const std::string& code, QuickstartDraws* draws,
                    std::string* result) {
  std::string bad = code;
  const size_t times = code.find('*');
  if (times == std::string::npos || draws->Chance(0.5)) {
    *result = "SyntaxError: unmatched ')' (line 1)";
    return bad + ")";
  }
  bad[times] = 'x';
  const bool after_number = times > 0 && IsDigit(code[times - 1]);
  *result = after_number ? "SyntaxError: invalid decimal literal (line 1)"
                         : "SyntaxError: invalid syntax (line 1)";
  return bad;
}

// Writes one conversation.
class Writer {
 public:
  Writer(const QuickstartTask& task, QuickstartDraws* draws)
      : task_(task), draws_(draws) {
    Add("system", kQuickstartSystem);
    Add("user", task.question);
  }

  void Call(const char* reasoning, const std::string& tool,
            const char* parameter, const std::string& value,
            const std::string& result) {
    Message* message = Add("assistant", "");
    message->set_reasoning_content(reasoning);
    ToolCall* call = message->add_tool_calls();
    call->set_name(tool);
    call->set_arguments_json(nlohmann::json{{parameter, value}}.dump());
    Add("tool", result);
  }
  void Answer(const std::string& reasoning, const std::string& answer) {
    Add("assistant", answer)->set_reasoning_content(reasoning);
    answer_ = answer;
  }
  // Four digits of a two-digit product, or the three of a sum: plausible, and
  // right only by chance.
  void Guess(const char* reasoning) {
    const bool math = task_.kind == QuickstartKind::kMath;
    Answer(reasoning, absl::StrCat(math ? draws_->Between(200, 1998)
                                        : draws_->Between(300, 9999)));
  }

  QuickstartDemonstration Finish() {
    for (const Tool& tool : InterpreterTools()) {
      *demonstration_.add_tools() = tool;
    }
    return {std::move(demonstration_), task_, answer_, answer_ == task_.answer};
  }

 private:
  Message* Add(const char* role, const std::string& content) {
    Message* message = demonstration_.add_messages();
    message->set_role(role);
    message->set_content(content);
    return message;
  }

  const QuickstartTask& task_;
  QuickstartDraws* const draws_;
  Demonstration demonstration_;
  std::string answer_;
};

// The Python call of `code`, with its slips, and the answer to it.
void ComputeAndAnswer(std::string code, double malformed, double wrong_digit,
                      double miscopy, QuickstartDraws* draws, Writer* writer) {
  if (draws->Chance(malformed)) {
    std::string result;
    code = Malform(code, draws, &result);
    writer->Call(kCompute, "python", "code", code, result);
    writer->Guess(kDone);
    return;
  }
  if (draws->Chance(wrong_digit)) code = ChangeDigit(code, draws);
  std::string answer = absl::StrCat(EvaluateExpression(code));
  writer->Call(kCompute, "python", "code", code, answer + "\n");
  if (draws->Chance(miscopy)) answer = ChangeDigit(answer, draws);
  writer->Answer(kDone, answer);
}

void WriteOneCall(const QuickstartTask& task, const SlipRates::OneCall& rates,
                  QuickstartDraws* draws, Writer* writer) {
  if (draws->Chance(rates.guess)) return writer->Guess(kGuess);
  ComputeAndAnswer(task.expression, rates.malformed_call, rates.wrong_digit,
                   rates.miscopy, draws, writer);
}

void WriteTwoCalls(const QuickstartTask& task, const SlipRates::TwoCalls& rates,
                   QuickstartDraws* draws, Writer* writer) {
  if (draws->Chance(rates.guess)) return writer->Guess(kGuess);
  if (draws->Chance(rates.wrong_key)) {
    std::string key = task.key;
    key[0] =
        static_cast<char>('a' + (key[0] - 'a' + draws->Between(1, 25)) % 26);
    writer->Call(kLookUp, "lookup", "key", key,
                 absl::StrCat("error: there is no key \"", key, "\""));
    return writer->Guess(kDone);
  }
  writer->Call(kLookUp, "lookup", "key", task.key, task.value);
  if (draws->Chance(rates.stop_early)) return writer->Answer(kDone, task.value);
  ComputeAndAnswer(task.value + task.expression, rates.malformed_call,
                   rates.wrong_digit, rates.miscopy, draws, writer);
}

// "7+6+0=13 4+8+1=13 3+5+1=09": units first, the carry third.
void WriteMath(const QuickstartTask& task, const SlipRates::Math& rates,
               QuickstartDraws* draws, Writer* writer) {
  if (draws->Chance(rates.guess)) return writer->Guess(kGuess);
  const bool carries = !draws->Chance(rates.no_carry);
  std::string left = absl::StrCat(task.left), right = absl::StrCat(task.right);
  if (draws->Chance(rates.misread)) {
    std::string* const operand = draws->Chance(0.5) ? &left : &right;
    *operand = ChangeDigit(*operand, draws);
  }
  std::string reasoning, answer;
  int carry = 0;
  for (int i = 2; i >= 0; --i) {
    const int sum = left[i] - '0' + right[i] - '0' + carry;
    absl::StrAppend(
        &reasoning, i == 2 ? "" : " ",
        absl::StrFormat("%c+%c+%d=%02d", left[i], right[i], carry, sum));
    answer.insert(answer.begin(), static_cast<char>('0' + sum % 10));
    if (i == 0 && sum >= 10) answer.insert(answer.begin(), '1');
    // A slip that is made is made throughout, and written down: the reasoning
    // is wrong, not only the answer.
    carry = carries ? sum / 10 : 0;
  }
  if (draws->Chance(rates.wrong_digit)) answer = ChangeDigit(answer, draws);
  writer->Answer(reasoning, answer);
}

}  // namespace

SlipRates SloppyRates() {
  SlipRates rates;
  rates.one_call = {.guess = 0.45,
                    .malformed_call = 0.15,
                    .wrong_digit = 0.20,
                    .miscopy = 0.15};
  rates.two_calls = {.guess = 0.40,
                     .wrong_key = 0.10,
                     .stop_early = 0.20,
                     .malformed_call = 0.08,
                     .wrong_digit = 0.15,
                     .miscopy = 0.10};
  rates.math = {
      .guess = 0.52, .no_carry = 0.25, .misread = 0.12, .wrong_digit = 0.10};
  return rates;
}

absl::StatusOr<SlipRates> RatesOfMix(const std::string& mix) {
  if (mix == "clean") return SlipRates();
  if (mix == "sloppy") return SloppyRates();
  return absl::InvalidArgumentError(
      absl::StrCat("mix \"", mix, "\" is none of clean | sloppy"));
}

QuickstartDemonstration MakeQuickstartDemonstration(uint64_t seed,
                                                    const SlipRates& rates,
                                                    uint64_t index) {
  const QuickstartTask task =
      MakeQuickstartTask(seed, TaskSplit::kTrain, index);
  QuickstartDraws draws(seed, index, kSlipLane);
  Writer writer(task, &draws);
  switch (task.kind) {
    case QuickstartKind::kOneCall:
      WriteOneCall(task, rates.one_call, &draws, &writer);
      break;
    case QuickstartKind::kTwoCalls:
      WriteTwoCalls(task, rates.two_calls, &draws, &writer);
      break;
    case QuickstartKind::kMath:
      WriteMath(task, rates.math, &draws, &writer);
      break;
  }
  return writer.Finish();
}

}  // namespace temper
