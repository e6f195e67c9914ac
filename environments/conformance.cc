#include "environments/conformance.h"

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "environments/described_facts.h"
#include "environments/reply_check.h"
#include "google/protobuf/util/json_util.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "proto/wire/outcome.h"
#include "proto/wire/verdict_score.h"

namespace temper {
namespace {

using nlohmann::json;

absl::Status Broken(const std::string& what) {
  return absl::InternalError(what);
}

ToolCall Call(const std::string& name, const std::string& arguments_json) {
  ToolCall call;
  call.set_name(name);
  call.set_arguments_json(arguments_json);
  return call;
}

Message Answering(const std::string& content) {
  Message message;
  message.set_role("assistant");
  message.set_content(content);
  return message;
}

// One likely call of `tool`, made from its own schema.
ToolCall LikelyCall(const Tool& tool) {
  const json function = json::parse(tool.function_json(), nullptr, false);
  json arguments = json::object();
  const json parameters = function.value("parameters", json::object());
  const json properties = parameters.value("properties", json::object());
  for (const auto& [name, schema] : properties.items()) {
    const json type =
        schema.is_object() ? schema.value("type", json()) : json();
    if (type == "integer" || type == "number") {
      arguments[name] = 1;
    } else if (type == "boolean") {
      arguments[name] = true;
    } else if (type == "array") {
      arguments[name] = json::array();
    } else if (type == "object") {
      arguments[name] = json::object();
    } else {
      arguments[name] = "6";
    }
  }
  return Call(tool.name(), arguments.dump());
}

// Arguments that are those of no tool.
std::vector<std::string> GarbageArguments() {
  return {"",
          "{",
          "[]",
          "null",
          std::string(30'000, '['),
          std::string(kToolArgumentsBytesMax + 1, ' ')};
}

// The prompt, held to what may be shown.
absl::StatusOr<Observation> Begin(Environment* episode, const Task& task,
                                  uint64_t seed) {
  ASSIGN_OR_RETURN(Observation observation, episode->Reset(task, seed));
  RETURN_IF_ERROR(CheckObservation(observation));
  return observation;
}

absl::StatusOr<ToolResult> OneResult(Environment* episode,
                                     const ToolCall& call) {
  ASSIGN_OR_RETURN(std::vector<ToolResult> results, episode->Step({call}));
  RETURN_IF_ERROR(CheckResults(1, results));
  return std::move(results[0]);
}

absl::Status CheckFacts(const Task& task, const NewEpisode& new_episode) {
  ASSIGN_OR_RETURN(const auto episode, new_episode());
  const EnvironmentFacts& facts = episode->facts();
  if (task.environment() != facts.name) {
    return Broken(absl::StrCat("the episode's facts are of ", facts.name));
  }
  return CheckDescription(Describe(facts));
}

absl::Status CheckGarbageCalls(const Task& task, uint64_t seed,
                               const NewEpisode& new_episode) {
  ASSIGN_OR_RETURN(const auto episode, new_episode());
  ASSIGN_OR_RETURN(const Observation observation,
                   Begin(episode.get(), task, seed));
  std::vector<std::string> tools = {"", "no_such_tool", std::string(5000, 'x')};
  for (const Tool& tool : observation.tools) tools.push_back(tool.name());
  for (const std::string& tool : tools) {
    for (const std::string& arguments : GarbageArguments()) {
      ASSIGN_OR_RETURN(const ToolResult result,
                       OneResult(episode.get(), Call(tool, arguments)));
      if (result.outcome() != OUTCOME_TOOL_ERROR) {
        return Broken(absl::StrCat(
            "a call of tool \"", tool.substr(0, 32), "\" with arguments \"",
            arguments.substr(0, 32), "\" is ", OutcomeName(result.outcome()),
            ", not TOOL_ERROR"));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckStepLimits(const Task& task, uint64_t seed,
                             const NewEpisode& new_episode) {
  ASSIGN_OR_RETURN(const auto episode, new_episode());
  RETURN_IF_ERROR(Begin(episode.get(), task, seed).status());
  std::vector<ToolCall> calls(kToolCallsPerStepMax, Call("none", "{}"));
  ASSIGN_OR_RETURN(const auto results, episode->Step(calls));
  RETURN_IF_ERROR(CheckResults(calls.size(), results));
  ASSIGN_OR_RETURN(const auto none, episode->Step({}));
  RETURN_IF_ERROR(CheckResults(0, none));
  calls.push_back(calls[0]);
  const absl::Status status = episode->Step(calls).status();
  if (absl::IsInvalidArgument(status)) return absl::OkStatus();
  return Broken(absl::StrCat("a Step of ", calls.size(),
                             " calls is no InvalidArgument; at most ",
                             kToolCallsPerStepMax, " are allowed"));
}

// Outcomes tell the two calls apart, in either order.
absl::Status CheckOrder(const Task& task, uint64_t seed,
                        const NewEpisode& new_episode) {
  ASSIGN_OR_RETURN(const auto episode, new_episode());
  ASSIGN_OR_RETURN(const Observation observation,
                   Begin(episode.get(), task, seed));
  for (const Tool& tool : observation.tools) {
    for (const size_t unknown : {1, 0}) {
      std::vector<ToolCall> calls(2, LikelyCall(tool));
      calls[unknown] = Call("no_such_tool", "{}");
      ASSIGN_OR_RETURN(const auto results, episode->Step(calls));
      RETURN_IF_ERROR(CheckResults(calls.size(), results));
      const Outcome outcome = results[unknown].outcome();
      if (outcome == OUTCOME_TOOL_ERROR) continue;
      return Broken(absl::StrCat(
          "of a Step that calls tool \"", tool.name(),
          "\" and one that there is not, the latter's result is ",
          OutcomeName(outcome),
          ", not TOOL_ERROR; results are to be in the order of the calls"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckUngraded(const Task& task, uint64_t seed,
                           const NewEpisode& new_episode) {
  for (const Outcome outcome :
       {OUTCOME_SANDBOX_ERROR, OUTCOME_ENVIRONMENT_ERROR, OUTCOME_CANCELLED,
        OUTCOME_UNSPECIFIED}) {
    ASSIGN_OR_RETURN(const auto episode, new_episode());
    RETURN_IF_ERROR(Begin(episode.get(), task, seed).status());
    const absl::Status status =
        episode->Grade(outcome, {Answering("1")}).status();
    if (!absl::IsInvalidArgument(status)) {
      return Broken(absl::StrCat("to grade an episode that ended as ",
                                 OutcomeName(outcome),
                                 " is no InvalidArgument"));
    }
  }
  return absl::OkStatus();
}

// What is no answer at all.
absl::Status CheckNoAnswer(const Task& task, uint64_t seed,
                           const NewEpisode& new_episode) {
  const std::pair<Outcome, std::vector<Message>> ends[] = {
      // Cut off before the model said a word; and it said nothing.
      {OUTCOME_TRUNCATED, {}},
      {OUTCOME_OK, {Answering("")}},
      {OUTCOME_MODEL_ERROR, {Answering("{}")}}};
  for (const auto& [outcome, said] : ends) {
    ASSIGN_OR_RETURN(const auto episode, new_episode());
    ASSIGN_OR_RETURN(const Observation begun, Begin(episode.get(), task, seed));
    std::vector<Message> transcript = begun.messages;
    transcript.insert(transcript.end(), said.begin(), said.end());
    ASSIGN_OR_RETURN(const Verdict verdict,
                     episode->Grade(outcome, transcript));
    RETURN_IF_ERROR(CheckVerdict(verdict));
    const absl::Status scores = CheckScores(verdict);
    if (!scores.ok()) return Broken(std::string(scores.message()));
    if (verdict.correct()) return Broken("no answer at all is graded correct");
    for (const VerdictScore& score : verdict.scores()) {
      if (score.value() * score.weight() <= 0) continue;
      return Broken(absl::StrCat("no answer at all is paid: score ",
                                 score.name(), " is ", score.value(),
                                 " of weight ", score.weight()));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckGarbageTasks(const Task& task, uint64_t seed,
                               const NewEpisode& new_episode) {
  Task no_payload = task;
  no_payload.set_payload_json("{");
  Task no_prompt = task;
  no_prompt.clear_messages();
  for (const Task& garbage : {no_payload, no_prompt}) {
    const std::string what = garbage.messages().empty()
                                 ? "a task without messages"
                                 : "a task whose payload_json is \"{\"";
    ASSIGN_OR_RETURN(const auto asked, new_episode());
    if (!absl::IsInvalidArgument(asked->Validate(garbage).status())) {
      return Broken(what + ": Validate is no InvalidArgument");
    }
    ASSIGN_OR_RETURN(const auto episode, new_episode());
    if (!absl::IsInvalidArgument(episode->Reset(garbage, seed).status())) {
      return Broken(what + ": Reset is no InvalidArgument");
    }
  }
  return absl::OkStatus();
}

void AddLine(const std::string& what, const google::protobuf::Message& message,
             std::string* text) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string line;
  const auto status =
      google::protobuf::util::MessageToJsonString(message, &line, options);
  CHECK(status.ok()) << status.ToString();
  absl::StrAppend(text, what, " ", line, "\n");
}

absl::Status CheckSameBytes(const Task& task, uint64_t seed,
                            const NewEpisode& new_episode) {
  ASSIGN_OR_RETURN(const std::string first,
                   PlayTranscript(task, seed, new_episode));
  ASSIGN_OR_RETURN(const std::string second,
                   PlayTranscript(task, seed, new_episode));
  if (first == second) return absl::OkStatus();
  size_t at = 0;
  while (at < first.size() && at < second.size() && first[at] == second[at]) {
    ++at;
  }
  // npos + 1 is 0.
  const size_t begin = first.rfind('\n', at) + 1;
  return Broken(absl::StrCat(
      "it says that it is deterministic, and the same seed gave first\n  ",
      first.substr(begin, first.find('\n', begin) - begin), "\nand then\n  ",
      second.substr(begin, second.find('\n', begin) - begin)));
}

}  // namespace

absl::StatusOr<std::string> PlayTranscript(const Task& task, uint64_t seed,
                                           const NewEpisode& new_episode) {
  std::string text = absl::StrCat("task ", task.id(), " of ",
                                  task.environment(), ", seed ", seed, "\n");
  ASSIGN_OR_RETURN(const auto episode, new_episode());
  ASSIGN_OR_RETURN(const Observation observation,
                   Begin(episode.get(), task, seed));
  for (const Message& message : observation.messages) {
    AddLine("message", message, &text);
  }
  std::vector<ToolCall> calls = {Call("no_such_tool", "{}")};
  for (const Tool& tool : observation.tools) {
    AddLine("tool", tool, &text);
    calls.push_back(LikelyCall(tool));
    calls.push_back(Call(tool.name(), "{}"));
    calls.push_back(LikelyCall(tool));
  }
  for (const ToolCall& call : calls) {
    AddLine("call", call, &text);
    ASSIGN_OR_RETURN(ToolResult result, OneResult(episode.get(), call));
    result.clear_elapsed_us();
    AddLine("result", result, &text);
  }
  std::vector<Message> transcript = observation.messages;
  transcript.push_back(Answering("1"));
  ASSIGN_OR_RETURN(const Verdict verdict,
                   episode->Grade(OUTCOME_OK, transcript));
  RETURN_IF_ERROR(CheckVerdict(verdict));
  AddLine("verdict", verdict, &text);
  return text;
}

absl::Status CheckConformance(const Task& task, uint64_t seed,
                              const NewEpisode& new_episode) {
  RETURN_IF_ERROR(CheckFacts(task, new_episode));
  ASSIGN_OR_RETURN(const auto asked, new_episode());
  ASSIGN_OR_RETURN(const Observation known, asked->Validate(task));
  RETURN_IF_ERROR(CheckObservation(known));
  RETURN_IF_ERROR(CheckGarbageTasks(task, seed, new_episode));
  RETURN_IF_ERROR(CheckGarbageCalls(task, seed, new_episode));
  RETURN_IF_ERROR(CheckStepLimits(task, seed, new_episode));
  RETURN_IF_ERROR(CheckOrder(task, seed, new_episode));
  RETURN_IF_ERROR(CheckUngraded(task, seed, new_episode));
  RETURN_IF_ERROR(CheckNoAnswer(task, seed, new_episode));
  if (asked->facts().deterministic) {
    return CheckSameBytes(task, seed, new_episode);
  }
  return PlayTranscript(task, seed, new_episode).status();
}

}  // namespace temper
