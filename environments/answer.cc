#include "environments/answer.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "environments/payload.h"
#include "environments/same_answer.h"
#include "environments/text.h"
#include "kernels/base/status_macros.h"
#include "proto/wire/outcome.h"

namespace temper {
namespace {

constexpr size_t kAnswerBytesMax = 4096;

// Where the content of a box begins whose command stands at `at`: at a brace,
// or, blanks allowed before either, at a number. npos if there is no box.
size_t BoxBegin(const std::string& s, size_t at) {
  for (const char* const command : {"\\boxed", "\\fbox"}) {
    const size_t size = strlen(command);
    if (s.compare(at, size, command) != 0) continue;
    const size_t begin = s.find_first_not_of(" \t\r\n", at + size);
    if (begin == std::string::npos) break;
    if (s[begin] != '\0' && strchr("{+-.0123456789", s[begin]) != nullptr) {
      return begin;
    }
  }
  return std::string::npos;
}

// The end of the formula that `at` is in: what a box without braces holds. TeX
// would box one digit; who writes \boxed 42 means 42.
size_t FormulaEnd(const std::string& s, size_t at) {
  for (; at < s.size(); ++at) {
    if (s[at] == '$' || s[at] == '\n' || s[at] == '}') break;
    if (s[at] != '\\' || at + 1 == s.size()) continue;
    if (s[at + 1] == ')' || s[at + 1] == ']') break;
    ++at;
  }
  return std::min(at, s.size());
}

// What the last box holds; none without a box, empty where it is not closed.
std::optional<std::string> LastBox(const std::string& s) {
  // Of the braces that are open: whether it is a box's.
  std::vector<bool> boxes;
  std::vector<size_t> begins;  // of the boxes that are open
  size_t last_begin = 0;       // of the box that began last
  size_t begin = 0, end = 0;   // of the box that closed last
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '\\') {
      const size_t box = BoxBegin(s, i);
      if (box == std::string::npos) {
        ++i;  // an escaped brace is none
      } else if (s[box] == '{') {
        boxes.push_back(true);
        begins.push_back(box + 1);
        last_begin = box + 1;
        i = box;
      } else {
        last_begin = begin = box;
        end = FormulaEnd(s, box);
        i = end - 1;
      }
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

absl::StatusOr<std::string> TruthOf(const Task& task,
                                    const nlohmann::ordered_json& payload) {
  const auto found = payload.find("answer");
  if (found == payload.end()) {
    return PayloadFault(task, "answer", "is missing; it must be a string");
  }
  if (!found->is_string()) {
    return PayloadFault(
        task, "answer",
        absl::StrCat("is a ", found->type_name(), "; it must be a string"));
  }
  std::string truth = found->get<std::string>();
  // Data sets give whole solutions for answers. An answer is taken out of them
  // as out of a model's, or nothing that a model can say would equal them.
  const auto box = LastBox(truth);
  const size_t mark = truth.rfind("####");
  if (box.has_value()) {
    truth = *box;
  } else if (mark != std::string::npos) {
    truth = truth.substr(mark + 4);
  }
  truth = TrimBlanks(truth);
  if (truth.empty() && box.has_value()) {
    return PayloadFault(task, "answer",
                        "has a last box that is empty or not closed; write "
                        "the value there");
  }
  if (truth.empty() && mark != std::string::npos) {
    return PayloadFault(task, "answer",
                        "has nothing after its ####; write the value there");
  }
  if (truth.empty() || truth.size() > kAnswerBytesMax) {
    return PayloadFault(task, "answer",
                        absl::StrCat("has ", truth.size(), " bytes; 1 to ",
                                     kAnswerBytesMax, " are allowed"));
  }
  if (!SameAnswer(ExtractAnswer(truth), truth)) {
    return PayloadFault(
        task, "answer",
        absl::StrCat("is ", SanitizeText(truth, 64),
                     ", which says nothing that an answer can equal; write a "
                     "value"));
  }
  return truth;
}

absl::StatusOr<Verdict> VerdictBeforeAnswer(
    Outcome outcome, const std::vector<Message>& transcript,
    const std::string** content) {
  if (!IsGraded(outcome)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "an episode that ended ", Outcome_Name(outcome), " is not graded"));
  }
  Verdict verdict;
  verdict.set_outcome(outcome);
  verdict.set_verified(true);
  if (!IsWellFormed(outcome)) {
    verdict.set_detail("the episode did not end with an answer");
    return verdict;
  }
  if (transcript.empty() || transcript.back().role() != "assistant" ||
      transcript.back().tool_calls_size() > 0) {
    verdict.set_detail("the last message is not an answer of the assistant");
    return verdict;
  }
  *content = &transcript.back().content();
  return verdict;
}

absl::StatusOr<Verdict> GradeAnswer(Outcome outcome,
                                    const std::vector<Message>& transcript,
                                    const std::string& truth) {
  const std::string* content = nullptr;
  ASSIGN_OR_RETURN(Verdict verdict,
                   VerdictBeforeAnswer(outcome, transcript, &content));
  if (content == nullptr) return verdict;
  const std::string answer = ExtractAnswer(*content);
  verdict.set_answer(SanitizeText(answer, kAnswerBytesMax));
  verdict.set_correct(!answer.empty() && answer.size() <= kAnswerBytesMax &&
                      SameAnswer(answer, truth));
  if (!verdict.correct())
    verdict.set_detail("the answer is not the expected one");
  return verdict;
}

}  // namespace temper
