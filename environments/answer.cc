#include "environments/answer.h"

#include <cstddef>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "environments/environment.h"
#include "environments/same_answer.h"
#include "environments/text.h"
#include "nlohmann/json.hpp"
#include "proto/wire/outcome.h"

namespace temper {
namespace {

constexpr size_t kAnswerBytesMax = 4096;
// "\boxed{" at `at`, blanks allowed before its brace: the brace's place.
size_t BoxBrace(const std::string& s, size_t at) {
  for (const char* const command : {"\\boxed", "\\fbox"}) {
    const size_t size = strlen(command);
    if (s.compare(at, size, command) != 0) continue;
    const size_t brace = s.find_first_not_of(" \t\r\n", at + size);
    if (brace != std::string::npos && s[brace] == '{') return brace;
  }
  return std::string::npos;
}

// What the last box holds; none without a box, empty where it is not closed.
std::optional<std::string> LastBox(const std::string& s) {
  std::vector<bool>
      boxes;  // of the braces that are open: whether it is a box's
  std::vector<size_t> begins;  // of the boxes that are open
  size_t last_begin = 0;       // of the box that began last
  size_t begin = 0, end = 0;   // of the box that closed last
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '\\') {
      const size_t brace = BoxBrace(s, i);
      if (brace == std::string::npos) {
        ++i;  // an escaped brace is none
        continue;
      }
      boxes.push_back(true);
      begins.push_back(brace + 1);
      last_begin = brace + 1;
      i = brace;
    } else if (s[i] == '{') {
      boxes.push_back(false);
    } else if (s[i] == '}' && !boxes.empty()) {
      if (boxes.back()) {
        begin = begins.back();
        end = i;
        begins.pop_back();
      }
      boxes.pop_back();
    }
  }
  if (last_begin == 0) return std::nullopt;
  // The one that closed last is around the one that began last, or is it.
  if (!begins.empty() && begins.back() == last_begin) return "";
  return s.substr(begin, end - begin);
}

// What follows the last "####" of the last line, if that is on it.
std::optional<std::string> AfterMark(const std::string& content) {
  const std::string text = TrimBlanks(content);
  const size_t mark = text.rfind("####");
  if (mark == std::string::npos || text.find('\n', mark) != std::string::npos) {
    return std::nullopt;
  }
  return text.substr(mark + 4);
}

}  // namespace

std::string ExtractAnswer(const std::string& content) {
  if (const auto box = LastBox(content)) return TrimBlanks(*box);
  if (const auto marked = AfterMark(content)) return TrimBlanks(*marked);
  return TrimBlanks(content);
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
  if (mark != std::string::npos && truth.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("task ", task.id(),
                     ": \"answer\": nothing follows ####; write the value "
                     "there"));
  }
  if (truth.empty() || truth.size() > kAnswerBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("task ", task.id(), ": \"answer\" has ", truth.size(),
                     " bytes; 1 to ", kAnswerBytesMax, " are allowed"));
  }
  if (!SameAnswer(truth, truth)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "task ", task.id(), ": \"answer\" is ", SanitizeText(truth, 64),
        ", which says nothing that an answer can equal; write a value"));
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
                      SameAnswer(answer, truth));
  if (!verdict.correct())
    verdict.set_detail("the answer is not the expected one");
  return verdict;
}

}  // namespace temper
