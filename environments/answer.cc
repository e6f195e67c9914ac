#include "environments/answer.h"

#include <cstdint>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "environments/environment.h"
#include "proto/wire/outcome.h"
#include "environments/text.h"
#include "nlohmann/json.hpp"

namespace temper {
namespace {

constexpr size_t kAnswerBytesMax = 4096;
constexpr size_t kExactDigitsMax = 18;  // what int64 holds
constexpr int kBoxesMax = 16;           // each unclosed one costs a scan

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// A decimal: value = digits / 10^scale, without superfluous zeros.
struct Decimal {
  bool negative = false;
  std::string digits;  // "0" for zero
  size_t scale = 0;
};

// Reads the integer part of `s` at `*i`, commas allowed only every third digit.
bool ReadInteger(const std::string& s, size_t* i, std::string* digits) {
  size_t run = 0;
  bool commas = false;
  for (; *i < s.size(); ++*i) {
    if (IsDigit(s[*i])) {
      digits->push_back(s[*i]);
      ++run;
      if (commas && run > 3) return false;
    } else if (s[*i] == ',') {
      if (commas ? run != 3 : run < 1 || run > 3) return false;
      commas = true;
      run = 0;
    } else {
      break;
    }
  }
  return !commas || run == 3;
}

bool ReadDecimal(const std::string& s, size_t* i, Decimal* out) {
  if (*i < s.size() && (s[*i] == '-' || s[*i] == '+')) {
    out->negative = s[(*i)++] == '-';
  }
  if (*i < s.size() && s[*i] == '$') ++*i;
  if (!ReadInteger(s, i, &out->digits)) return false;
  const size_t whole = out->digits.size();
  if (*i + 1 < s.size() && s[*i] == '.' && IsDigit(s[*i + 1])) {
    for (++*i; *i < s.size() && IsDigit(s[*i]); ++*i) {
      out->digits.push_back(s[*i]);
      ++out->scale;
    }
  }
  if (whole + out->scale == 0) return false;
  while (out->scale > 0 && out->digits.back() == '0') {
    out->digits.pop_back();
    --out->scale;
  }
  const size_t zeros = out->digits.find_first_not_of('0');
  out->digits = zeros == std::string::npos ? "0" : out->digits.substr(zeros);
  if (out->digits == "0") out->negative = false;
  return true;
}

int64_t PowerOfTen(size_t exponent) {
  int64_t power = 1;
  for (; exponent > 0; --exponent) power *= 10;
  return power;
}

std::string Reduced(bool negative, int64_t numerator, int64_t denominator) {
  const int64_t divisor = std::gcd(numerator, denominator);
  std::string out = absl::StrCat(negative ? "-" : "", numerator / divisor);
  if (denominator != divisor) absl::StrAppend(&out, "/", denominator / divisor);
  return out;
}

}  // namespace

std::string ExtractAnswer(const std::string& content) {
  static const std::string kBox = "\\boxed{";
  size_t at = content.rfind(kBox);
  for (int box = 0; box < kBoxesMax && at != std::string::npos; ++box) {
    const size_t begin = at + kBox.size();
    size_t depth = 1;
    for (size_t i = begin; i < content.size(); ++i) {
      if (content[i] == '{') ++depth;
      if (content[i] == '}' && --depth == 0) {
        return TrimBlanks(content.substr(begin, i - begin));
      }
    }
    at = at == 0 ? std::string::npos : content.rfind(kBox, at - 1);
  }
  return TrimBlanks(content);
}

std::string CanonicalAnswer(const std::string& answer) {
  std::string s = TrimBlanks(answer);
  if (s.size() > 1 && s[0] == '$' && (s[1] == '-' || s[1] == '+'))
    s.erase(0, 1);
  const std::string text = s;
  if (s.size() > 1 && s.back() == '.') s.pop_back();
  Decimal number;
  size_t i = 0;
  if (!ReadDecimal(s, &i, &number)) return text;
  Decimal divisor;
  divisor.digits = "1";
  if (i < s.size() && s[i] == '/' && number.scale == 0) {
    ++i;
    divisor = Decimal();
    if (i >= s.size() || !IsDigit(s[i]) || !ReadDecimal(s, &i, &divisor) ||
        divisor.scale != 0 || divisor.digits == "0" ||
        divisor.digits.size() > kExactDigitsMax ||
        number.digits.size() > kExactDigitsMax) {
      return text;
    }
  }
  if (i != s.size()) return text;
  if (number.digits.size() > kExactDigitsMax ||
      number.scale > kExactDigitsMax) {
    return absl::StrCat(number.negative ? "-" : "", number.digits, "e-",
                        number.scale);
  }
  const int64_t denominator = divisor.digits == "1"
                                  ? PowerOfTen(number.scale)
                                  : std::stoll(divisor.digits);
  return Reduced(number.negative, std::stoll(number.digits), denominator);
}

absl::StatusOr<std::string> TruthOf(const Task& task) {
  const auto payload = nlohmann::json::parse(task.payload_json(), nullptr,
                                             /*allow_exceptions=*/false);
  if (!payload.is_object() || !payload.contains("answer") ||
      !payload["answer"].is_string()) {
    const bool is_there = payload.is_object() && payload.contains("answer");
    return absl::InvalidArgumentError(absl::StrCat(
        "task ", task.id(),
        ": payload_json must be an object with a string "
        "\"answer\"",
        is_there
            ? absl::StrCat("; this one is a ", payload["answer"].type_name())
            : ""));
  }
  std::string truth = payload["answer"].get<std::string>();
  const size_t mark = truth.rfind("####");
  if (mark != std::string::npos) truth = truth.substr(mark + 4);
  truth = TrimBlanks(truth);
  if (truth.empty() || truth.size() > kAnswerBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("task ", task.id(), ": \"answer\" has ", truth.size(),
                     " bytes; 1 to ", kAnswerBytesMax, " are allowed"));
  }
  return truth;
}

absl::StatusOr<Verdict> GradeAnswer(Outcome outcome,
                                    const std::vector<Message>& transcript,
                                    const std::string& truth) {
  if (!IsGraded(outcome)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "an episode that ended ", Outcome_Name(outcome), " is not graded"));
  }
  Verdict verdict;
  verdict.set_outcome(outcome);
  verdict.set_verified(true);
  if (outcome == OUTCOME_TRUNCATED || outcome == OUTCOME_MODEL_ERROR) {
    verdict.set_detail("the episode did not end with an answer");
    return verdict;
  }
  if (transcript.empty() || transcript.back().role() != "assistant" ||
      transcript.back().tool_calls_size() > 0) {
    verdict.set_detail("the last message is not an answer of the assistant");
    return verdict;
  }
  const std::string answer = ExtractAnswer(transcript.back().content());
  verdict.set_answer(SanitizeText(answer, kAnswerBytesMax));
  verdict.set_correct(!answer.empty() && answer.size() <= kAnswerBytesMax &&
                      CanonicalAnswer(answer) == CanonicalAnswer(truth));
  if (!verdict.correct())
    verdict.set_detail("the answer is not the expected one");
  return verdict;
}

}  // namespace temper
