#include "environments/search/search.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "environments/answer.h"
#include "environments/payload.h"
#include "environments/search/search_index.h"
#include "environments/search/search_tools.h"
#include "environments/search/words.h"
#include "environments/tool_call.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace temper {

const EnvironmentFacts kSearchFacts = {
    .name = "search",
    .description = "questions on a corpus, with search, open and find as tools",
    .deterministic = true,
    .served_in = ServedIn::kWorker,
    .needs_sandbox = false,
    .result_tokens = kSearchResultCharacters,
};

namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kAnswersMax = 64;

absl::StatusOr<Json> PayloadOf(const Task& task) {
  return ReadPayload(task, {"answer", "corpus", "index"});
}

// What counts as right, in lower case.
absl::StatusOr<std::vector<std::string>> TruthsOf(const Task& task,
                                                  const Json& payload) {
  const auto answer = payload.find("answer");
  Json list = Json::array();
  if (answer != payload.end() && answer->is_array()) {
    list = *answer;
    if (list.empty() || list.size() > kAnswersMax) {
      return PayloadFault(task, "answer",
                          absl::StrCat("is a list of ", list.size(), "; 1 to ",
                                       kAnswersMax, " are allowed"));
    }
  } else if (answer != payload.end()) {
    list.push_back(*answer);
  } else {
    // TruthOf says what is missing.
    return TruthOf(task, payload).status();
  }
  std::vector<std::string> truths;
  for (const Json& one : list) {
    ASSIGN_OR_RETURN(const std::string truth,
                     TruthOf(task, Json{{"answer", one}}));
    truths.push_back(LowerCase(truth));
  }
  return truths;
}

std::string ChecksumOf(const SearchIndex& index) {
  return absl::StrCat(absl::Hex(index.checksum(), absl::kZeroPad8));
}

// That the index at `path` is the one that `task` names, if it names one.
absl::Status CheckPinned(const Task& task, const Json& payload,
                         const std::string& path, const SearchIndex& index) {
  const auto pinned = payload.find("index");
  if (pinned == payload.end()) return absl::OkStatus();
  if (!pinned->is_string()) {
    return PayloadFault(task, "index",
                        "must be the checksum of an index, eight digits");
  }
  const std::string was = pinned->get<std::string>();
  if (was == ChecksumOf(index)) return absl::OkStatus();
  return PayloadFault(
      task, "corpus",
      absl::StrCat("is another index than this task's: ", path,
                   " has the checksum ", ChecksumOf(index), ", and it was ",
                   was, "; put that one back, or begin anew"));
}

// The index of `task`. Of what is wrong with the file the task is told.
absl::StatusOr<std::unique_ptr<SearchIndex>> IndexOf(const Task& task,
                                                     const Json& payload) {
  const auto corpus = payload.find("corpus");
  if (corpus == payload.end() || !corpus->is_string() ||
      corpus->get<std::string>().empty()) {
    return PayloadFault(task, "corpus",
                        "must be the path of an index that `temper env index` "
                        "made");
  }
  ASSIGN_OR_RETURN(const std::string path,
                   AbsolutePath(corpus->get<std::string>()));
  auto index = SearchIndex::Open(path);
  if (index.ok()) RETURN_IF_ERROR(CheckPinned(task, payload, path, **index));
  switch (index.status().code()) {
    case absl::StatusCode::kNotFound:
      return PayloadFault(
          task, "corpus",
          absl::StrCat("is not there: ", std::string(index.status().message()),
                       "; make it with `temper env index`, or start where the "
                       "path leads to it"));
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kDataLoss:
      return PayloadFault(task, "corpus",
                          absl::StrCat("cannot be used: ",
                                       std::string(index.status().message())));
    default:
      return index;
  }
}

class SearchEnvironment : public Environment {
 public:
  const EnvironmentFacts& facts() const override { return kSearchFacts; }

  absl::StatusOr<Observation> Validate(const Task& task) const override {
    std::unique_ptr<SearchIndex> index;
    std::vector<std::string> truths;
    return Read(task, &index, &truths);
  }

  absl::StatusOr<Observation> Reset(const Task& task, uint64_t) override {
    return Read(task, &index_, &truths_);
  }

  absl::StatusOr<std::vector<ToolResult>> Step(
      const std::vector<ToolCall>& calls) override {
    CHECK(index_ != nullptr) << "Step before Reset";
    return AnswerCalls(calls, [this](const ToolCall& call) {
      return AnswerSearchCall(*index_, call);
    });
  }

  absl::StatusOr<Verdict> Grade(
      Outcome outcome, const std::vector<Message>& transcript) override {
    CHECK(!truths_.empty()) << "Grade before Reset";
    ASSIGN_OR_RETURN(Verdict verdict,
                     GradeAnswer(outcome, transcript, truths_[0]));
    if (transcript.empty()) return verdict;
    // The verdict shows the answer as it was written; names are compared in
    // either case.
    Message last = transcript.back();
    last.set_content(LowerCase(last.content()));
    for (const std::string& truth : truths_) {
      if (verdict.correct()) break;
      ASSIGN_OR_RETURN(const Verdict lowered,
                       GradeAnswer(outcome, {last}, truth));
      if (!lowered.correct()) continue;
      verdict.set_correct(true);
      verdict.clear_detail();
    }
    return verdict;
  }

 private:
  static absl::StatusOr<Observation> Read(const Task& task,
                                          std::unique_ptr<SearchIndex>* index,
                                          std::vector<std::string>* truths) {
    ASSIGN_OR_RETURN(const Json payload, PayloadOf(task));
    ASSIGN_OR_RETURN(*truths, TruthsOf(task, payload));
    ASSIGN_OR_RETURN(Observation observation, PromptOf(task));
    ASSIGN_OR_RETURN(*index, IndexOf(task, payload));
    observation.tools = SearchTools();
    return observation;
  }

  // Mapped by each episode for itself: it takes some microseconds, and the
  // pages are shared all the same.
  std::unique_ptr<SearchIndex> index_;
  std::vector<std::string> truths_;
};

}  // namespace

absl::Status PinIndex(Task* task) {
  if (task->environment() != kSearchFacts.name) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Json payload, PayloadOf(*task));
  ASSIGN_OR_RETURN(const auto index, IndexOf(*task, payload));
  if (payload.contains("index")) return absl::OkStatus();
  // Behind the last key, for one there is: all else stays as it was written.
  std::string* const text = task->mutable_payload_json();
  text->insert(text->rfind('}'),
               absl::StrCat(", \"index\": \"", ChecksumOf(*index), "\""));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Environment>> NewSearchEnvironment(
    const EnvironmentContext&) {
  return std::unique_ptr<Environment>(new SearchEnvironment);
}

}  // namespace temper
