#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "environments/environment.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"
#include "kernels/model/chat/parser.h"
#include "kernels/model/chat/tokens.h"
#include "kernels/tensor/numerics.h"
#include "nlohmann/json.hpp"
#include "proto/trajectory.pb.h"
#include "proto/wire/episode_limit.h"
#include "proto/wire/outcome.h"
#include "rollout/local_rollout.h"
#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/cli/json_output.h"
#include "tools/cli/print.h"
#include "tools/run/compute.h"
#include "tools/run/engine_size.h"
#include "tools/run/loaded_model.h"
#include "tools/run/task_check.h"
#include "tools/run/without_tools.h"
#include "tools/verbs/verbs.h"

namespace temper {
namespace {

struct GenerateFlags {
  std::string model;
  std::string prompt;
  std::string system;
  int64_t samples = 1;
  int64_t max_tokens = 256;
  int64_t seed = 1;
  int64_t threads = 0;
  std::string device = "auto";
  double temperature = 1;
  double top_p = 0.95;
  bool no_thinking = false;
  bool json = false;
};

// A conversation with nothing to call and nobody to judge it.
class Conversation : public Environment {
 public:
  const EnvironmentFacts& facts() const override {
    static constexpr EnvironmentFacts kFacts = {
        .name = "conversation",
        .description = "one prompt, one answer",
        .deterministic = true,
        .served_in = ServedIn::kWorker,
        .needs_sandbox = false};
    return kFacts;
  }

  absl::StatusOr<Observation> Validate(const Task& task) const override {
    Observation observation;
    observation.messages.assign(task.messages().begin(), task.messages().end());
    return observation;
  }

  absl::StatusOr<Observation> Reset(const Task& task, uint64_t) override {
    return Validate(task);
  }

  absl::StatusOr<std::vector<ToolResult>> Step(
      const std::vector<ToolCall>& calls) override {
    return RefuseCalls(calls);
  }

  absl::StatusOr<Verdict> Grade(Outcome outcome,
                                const std::vector<Message>&) override {
    Verdict verdict;
    verdict.set_outcome(outcome);
    // Nobody judges it: that it was sampled to an end is all there is to know.
    verdict.set_verified(true);
    return verdict;
  }
};

Task PromptTask(const GenerateFlags& flags) {
  Task task;
  task.set_id("prompt");
  task.set_environment("conversation");
  task.set_split("heldout");
  // An empty system message is not the same as none: the format renders it.
  if (!flags.system.empty()) {
    Message* system = task.add_messages();
    system->set_role("system");
    system->set_content(flags.system);
  }
  Message* user = task.add_messages();
  user->set_role("user");
  user->set_content(flags.prompt);
  return task;
}

// What the chat template would not take.
absl::Status CheckUtf8(const std::string& flag, const std::string& text) {
  const size_t valid = ValidUtf8Prefix(text);
  if (valid == text.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      flag, " is not UTF-8 from its byte ", valid, " on; give it as UTF-8"));
}

// What the model wrote, markup and all.
std::string TextOf(const Trajectory& trajectory) {
  std::string text;
  for (const Turn& turn : trajectory.turns()) {
    if (turn.role() == "assistant") text = turn.text();
  }
  return text;
}

// The same as a message; none where it is not of the chat format. Of one that a
// limit cut off: what there is of it.
std::optional<Message> ReadAnswer(const Trajectory& trajectory, ChatMode mode) {
  const std::string text = TextOf(trajectory);
  std::vector<std::string> ends = {""};
  if (trajectory.outcome() == OUTCOME_TRUNCATED) {
    ends = {"", kEosToken, absl::StrCat(kThinkEndToken, kEosToken)};
  }
  // As it is first: the cut may have come right at an end.
  for (const std::string& end : ends) {
    auto message = ParseChatText(text + end, mode);
    if (message.ok()) return *std::move(message);
  }
  return std::nullopt;
}

// For a person: thoughts, answer, and calls that nobody was there to take.
std::string FormatAnswer(const Message& message) {
  std::vector<std::string> parts;
  if (!message.reasoning_content().empty()) {
    parts.push_back(absl::StrCat("(thinking) ", message.reasoning_content()));
  }
  if (!message.content().empty()) parts.push_back(message.content());
  for (const ToolCall& call : message.tool_calls()) {
    parts.push_back(
        absl::StrCat("(calls ", call.name(), ") ", call.arguments_json()));
  }
  return absl::StrCat(absl::StrJoin(parts, "\n\n"), "\n");
}

// What is wrong with a sample that is not well-formed.
std::string Flaw(const GenerateFlags& flags, const Trajectory& trajectory,
                 const std::optional<Message>& answer) {
  if (answer.has_value() && answer->tool_calls_size() > 0) {
    return absl::StrCat("it calls ", answer->tool_calls(0).name(),
                        ", and there are no tools here");
  }
  if (trajectory.outcome() == OUTCOME_TRUNCATED) {
    return absl::StrCat("it was cut off; --max-tokens is ", flags.max_tokens);
  }
  return absl::StrCat("it is malformed: ", trajectory.error());
}

Json DescribeSample(const Trajectory& trajectory,
                    const std::optional<Message>& answer) {
  const auto text = [](bool there, const std::string& value) {
    return there ? Json(value) : Json(nullptr);
  };
  const Message message = answer.value_or(Message());
  return {{"sample", trajectory.key().sample()},
          {"outcome", OutcomeName(trajectory.outcome())},
          {"reasoning", text(answer.has_value(), message.reasoning_content())},
          {"content", text(answer.has_value(), message.content())},
          {"text", text(IsGraded(trajectory.outcome()), TextOf(trajectory))},
          {"error", text(!trajectory.error().empty(), trajectory.error())}};
}

// Prints the answers, and to stderr what is wrong with those that are none.
// InternalError where a sample was not sampled to an end that is the model's
// own, or none is well-formed.
absl::Status Print(const GenerateFlags& flags,
                   const std::vector<Trajectory>& trajectories) {
  const ChatMode mode =
      flags.no_thinking ? ChatMode::kChat : ChatMode::kThinking;
  Json samples = Json::array();
  std::vector<std::string> failures, flaws;
  for (const Trajectory& trajectory : trajectories) {
    const bool graded = IsGraded(trajectory.outcome());
    const std::optional<Message> answer =
        graded ? ReadAnswer(trajectory, mode) : std::nullopt;
    samples.push_back(DescribeSample(trajectory, answer));
    if (!flags.json && flags.samples > 1) {
      PrintOut("--- sample %d\n", trajectory.key().sample());
    }
    if (!flags.json && answer) PrintOut("%s", Lines{FormatAnswer(*answer)});
    if (!graded) failures.push_back(trajectory.error());
    if (!graded || IsWellFormed(trajectory.outcome())) continue;
    flaws.push_back(Flaw(flags, trajectory, answer));
    if (flags.json || answer) continue;
    // The two streams may be one terminal: what was printed before comes first.
    fflush(stdout);
    PrintErr("temper generate: sample %d: %s; it wrote:\n%s\n",
             trajectory.key().sample(), flaws.back(),
             Lines{TextOf(trajectory)});
  }
  if (flags.json) {
    PrintJson({{"model", flags.model}, {"samples", std::move(samples)}});
  }
  const size_t count = trajectories.size();
  if (!failures.empty()) {
    return absl::InternalError(absl::StrCat(failures.size(), " of ", count,
                                            " samples failed: ", failures[0]));
  }
  if (flaws.size() < count) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(
      "none of ", count, " samples is well-formed; the first: ", flaws[0]));
}

absl::Status Generate(const GenerateFlags& flags) {
  RETURN_IF_ERROR(CheckUtf8("--prompt", flags.prompt));
  RETURN_IF_ERROR(CheckUtf8("--system", flags.system));
  ComputeWish wish;
  wish.threads = static_cast<int>(flags.threads);
  ASSIGN_OR_RETURN(wish.device, DeviceNamed(flags.device));
  ASSIGN_OR_RETURN(const ModelConfig named, ReadNamedConfig(flags.model));
  LocalRolloutOptions options;
  options.rewards.set_rule_weight(1);  // it is not shown
  options.sampling.set_temperature(flags.temperature);
  options.sampling.set_top_p(flags.top_p);
  options.sampling.set_top_k(0);
  options.sampling.set_min_p(0);
  options.sampling.set_max_tokens(static_cast<uint32_t>(flags.max_tokens));
  options.sampling.set_max_turns(1);
  options.sampling.set_thinking(!flags.no_thinking);
  options.seed = static_cast<uint64_t>(flags.seed);
  options.samples = static_cast<uint32_t>(flags.samples);
  const Task task = PromptTask(flags);
  ASSIGN_OR_RETURN(const auto check,
                   TaskCheck::Create(flags.model, named, options.sampling,
                                     /*environments=*/nullptr));
  // Before the weights are read, which takes much longer.
  ASSIGN_OR_RETURN(const Observation prompt, Conversation().Validate(task));
  RETURN_IF_ERROR(check->CheckPrompt(prompt, /*result_tokens=*/0));
  options.engine = SizeEngine({.samples = flags.samples,
                               .group_size = flags.samples,
                               .prompt_tokens = check->prompt_tokens(),
                               .max_tokens = flags.max_tokens},
                              named);
  ASSIGN_OR_RETURN(const auto backend, NewComputeBackendSayingWhy(wish));
  ASSIGN_OR_RETURN(const LoadedModel model,
                   LoadModel(backend.get(), kFp32, flags.model));
  ASSIGN_OR_RETURN(
      const std::vector<Trajectory> trajectories,
      RunLocalRollout(
          backend.get(), model.weights.get(), *model.tokenizer, {task},
          [](const std::string&)
              -> absl::StatusOr<std::unique_ptr<Environment>> {
            return std::make_unique<Conversation>();
          },
          options));
  return Print(flags, trajectories);
}

}  // namespace

int RunGenerateVerb(int argc, char** argv) {
  GenerateFlags values;
  Flags flags("generate", "Lets a model answer a prompt, without tools.");
  flags.Text("MODEL", &values.model, "A Hugging Face directory.");
  flags.Require();
  flags.Text("--prompt", &values.prompt, "The user's message.");
  flags.Require();
  flags.Text("--system", &values.system, "The system message.");
  flags.Number("--samples", &values.samples, 1, 256, "Answers; default 1.");
  flags.Number("--max-tokens", &values.max_tokens, 1, kEpisodeTokensMax,
               "Sampled tokens of an answer; default 256.");
  flags.Real("--temperature", &values.temperature, 0.01, 100, "Default 1.");
  flags.Real("--top-p", &values.top_p, 1e-6, 1, "Default 0.95.");
  flags.Number("--seed", &values.seed, 0, INT64_MAX, "Default 1.");
  flags.Number("--threads", &values.threads, 0, 1024,
               "Compute threads; 0: this machine's cores.");
  flags.Text("--device", &values.device,
             "auto (the default), cpu or cuda, as the key device has it.");
  flags.Switch("--no-thinking", &values.no_thinking,
               "Answer without a thinking part.");
  AddJsonFlag(&flags, &values.json);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  const absl::Status status = Generate(values);
  return status.ok() ? kExitDone : ReportError("generate", status);
}

}  // namespace temper
