// Whether tasks can run at all, asked of every task of a run before a process
// is started: a task that cannot would otherwise fail in a worker, again and
// again.
//
// Not thread-safe.

#ifndef TOOLS_RUN_TASK_CHECK_H_
#define TOOLS_RUN_TASK_CHECK_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "environments/environment.h"
#include "environments/environment_set.h"
#include "kernels/base/fault_list.h"
#include "kernels/model/chat/template.h"
#include "kernels/model/config.h"
#include "kernels/model/tokenizer.h"
#include "proto/config.pb.h"
#include "proto/task.pb.h"
#include "tools/cli/progress_timer.h"

namespace temper {

class TaskCheck {
 public:
  // For a run of the model in `model_dir`, whose configuration `model` is, that
  // samples by `sampling`. InvalidArgument or NotFound where the tokenizer does
  // not fit the model or lacks the chat format's markers, or max_tokens leaves
  // no room for a prompt.
  // `environments`, whose tasks Check is asked of, outlives the object; null:
  // Check is not called.
  static absl::StatusOr<std::unique_ptr<TaskCheck>> Create(
      const std::string& model_dir, const ModelConfig& model,
      const SamplingConfig& sampling, EnvironmentSet* environments);

  // Asks the task's environment (Environment::Validate), then renders what it
  // would show. InvalidArgument, begun with "task ID: ", names the field, what
  // is wrong with it and what is allowed. Any other error is no fault of the
  // task's: its environment cannot be asked.
  absl::Status Check(const Task& task);

  // The second half: the prompt can be rendered and, with max_tokens sampled
  // tokens and `result_tokens` of a tool, fits an episode of the model.
  absl::Status CheckPrompt(const Observation& known, int64_t result_tokens);

  // Of the longest prompt that was found good; 0 before the first.
  int64_t prompt_tokens() const { return prompt_tokens_; }

 private:
  TaskCheck() = default;

  EnvironmentSet* environments_ = nullptr;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_template_;
  ChatOptions options_;
  int64_t max_tokens_ = 0;
  bool reads_results_ = false;  // an episode may have more turns than one
  int64_t episode_tokens_ = 0;
  std::string episode_text_;  // that number, and why
  int64_t prompt_tokens_ = 0;
};

// What of Check can be asked without a model: all but the length.
absl::Status CheckWithoutModel(const Task& task, EnvironmentSet* environments);

// InvalidArgument if a resolved configuration names an environment that there
// is not.
absl::Status CheckEnvironmentNames(const RunConfig& config,
                                   const EnvironmentSet& environments);

// What is wrong with a resolved configuration whatever its tasks are: the names
// of environments, and, if its model can be read, max_tokens.
absl::Status CheckWithoutTasks(const RunConfig& config,
                               const EnvironmentSet& environments);

// A sign of life while tasks of `source` are looked at, where one is due:
// `tasks` of them were, which is `part` of `whole`.
void TellChecking(ProgressTimer* timer, const std::string& source,
                  int64_t tasks, uint64_t part, uint64_t whole);

// The title over the faults of `source`, of which `tasks` were looked at.
std::string TasksCannotRun(const std::string& source, const FaultList& faults,
                           int64_t tasks);

}  // namespace temper

#endif  // TOOLS_RUN_TASK_CHECK_H_
