#include "tools/run/task_check.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "tools/cli/next_step.h"
#include "tools/cli/print.h"
#include "tools/run/engine_size.h"
#include "tools/run/loaded_model.h"

namespace temper {
namespace {

// As InvalidArgument, whatever it was: the task is what cannot be used.
absl::Status OfTask(const Task& task, const absl::Status& status) {
  if (status.ok()) return status;
  const std::string whose = absl::StrCat("task ", task.id(), ": ");
  const std::string message(status.message());
  return absl::InvalidArgumentError(
      absl::StartsWith(message, whose) ? message : whose + message);
}

// What the task's environment says of it.
absl::StatusOr<Observation> Ask(const Task& task,
                                EnvironmentSet* environments) {
  auto known = environments->Validate(task);
  if (known.ok()) return known;
  const EnvironmentFacts* facts = environments->Find(task.environment());
  // Of one that is registered it says that nobody can be asked, of any task.
  if (!absl::IsInvalidArgument(known.status()) && facts != nullptr &&
      facts->served_in == ServedIn::kRegistered) {
    return known;
  }
  return OfTask(task, known.status());
}

// The most tokens of an episode, and why.
std::string EpisodeText(const ModelConfig& model) {
  const int64_t tokens = EpisodeTokens(model);
  return absl::StrCat(tokens, tokens == model.max_position_embeddings
                                  ? ", the model's max_position_embeddings"
                                  : ", the longest episode that is trained on");
}

// No task is to blame for what leaves room for none.
absl::Status CheckMaxTokens(const SamplingConfig& sampling,
                            const ModelConfig& model) {
  const int64_t limit = EpisodeTokens(model);
  if (sampling.max_tokens() < limit) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("max_tokens is ", sampling.max_tokens(),
                   ", which leaves no room for a prompt within ",
                   EpisodeText(model), "; set it below ", limit));
}

}  // namespace

absl::StatusOr<std::unique_ptr<TaskCheck>> TaskCheck::Create(
    const std::string& model_dir, const ModelConfig& model,
    const SamplingConfig& sampling, EnvironmentSet* environments) {
  std::unique_ptr<TaskCheck> check(new TaskCheck);
  check->environments_ = environments;
  const std::string path = model_dir + "/tokenizer.json";
  ASSIGN_OR_RETURN(check->tokenizer_, LoadNamedTokenizer(path, model));
  auto chat_template = ChatTemplate::Create(check->tokenizer_.get());
  RETURN_IF_ERROR(IfUnusable(chat_template.status(), kNameATokenizer));
  check->chat_template_ = *std::move(chat_template);
  // As the run renders it: another mode has other tokens.
  check->options_.mode =
      sampling.thinking() ? ChatMode::kThinking : ChatMode::kChat;
  check->max_tokens_ = sampling.max_tokens();
  check->reads_results_ = sampling.max_turns() > 1;
  check->episode_tokens_ = EpisodeTokens(model);
  check->episode_text_ = EpisodeText(model);
  RETURN_IF_ERROR(CheckMaxTokens(sampling, model));
  return check;
}

absl::Status TaskCheck::Check(const Task& task) {
  ASSIGN_OR_RETURN(const Observation known, Ask(task, environments_));
  const EnvironmentFacts* facts = environments_->Find(task.environment());
  const bool reads = reads_results_ && facts != nullptr;
  return OfTask(task, CheckPrompt(known, reads ? facts->result_tokens : 0));
}

absl::Status CheckWithoutModel(const Task& task, EnvironmentSet* environments) {
  ASSIGN_OR_RETURN(const Observation known, Ask(task, environments));
  RETURN_IF_ERROR(OfTask(task, CheckPromptEnd(known.messages)));
  return OfTask(
      task,
      RenderChatText(known.messages, known.tools, ChatOptions()).status());
}

absl::Status TaskCheck::CheckPrompt(const Observation& known,
                                    int64_t result_tokens) {
  const auto tokens =
      chat_template_->RenderPrompt(known.messages, known.tools, options_);
  if (!tokens.ok()) {
    return absl::InvalidArgumentError(std::string(tokens.status().message()));
  }
  const int64_t size = static_cast<int64_t>(tokens->size());
  // Here and not when it runs: there it would be an infrastructure failure,
  // retried in vain.
  if (size + max_tokens_ + result_tokens > episode_tokens_) {
    const int64_t left = episode_tokens_ - size - result_tokens;
    return absl::InvalidArgumentError(absl::StrCat(
        "messages: the prompt has ", size, " tokens; with max_tokens ",
        max_tokens_,
        result_tokens > 0
            ? absl::StrCat(" and ", result_tokens, " of a tool's result")
            : "",
        " that is above ", episode_text_, "; shorten it",
        left > 0 ? absl::StrCat(", or lower max_tokens to ", left) : ""));
  }
  prompt_tokens_ = std::max(prompt_tokens_, size);
  return absl::OkStatus();
}

absl::Status CheckEnvironmentNames(const RunConfig& config,
                                   const EnvironmentSet& environments) {
  for (const std::string& name : config.environments()) {
    const absl::Status none = environments.CheckName(name);
    if (none.ok()) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "environments names ", name, ": ", std::string(none.message())));
  }
  return absl::OkStatus();
}

absl::Status CheckWithoutTasks(const RunConfig& config,
                               const EnvironmentSet& environments) {
  RETURN_IF_ERROR(CheckEnvironmentNames(config, environments));
  const auto model = ReadModelConfig(config.model());
  // A configuration may be for a model of another machine.
  return model.ok() ? CheckMaxTokens(config.sampling(), *model)
                    : absl::OkStatus();
}

void TellChecking(ProgressTimer* timer, const std::string& source,
                  int64_t tasks, uint64_t part, uint64_t whole) {
  if (!timer->Due()) return;
  PrintErr("checking tasks: %d of %s, %.0f %%\n", tasks, source,
           100.0 * static_cast<double>(part) /
               static_cast<double>(std::max<uint64_t>(1, whole)));
}

std::string TasksCannotRun(const std::string& source, const FaultList& faults,
                           int64_t tasks) {
  return absl::StrCat(source, ": ", faults.count(), " of ", tasks,
                      " tasks cannot run:");
}

}  // namespace temper
