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
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "environments/environment.h"
#include "kernels/model/chat/template.h"
#include "kernels/model/config.h"
#include "kernels/model/tokenizer.h"
#include "proto/config.pb.h"
#include "proto/task.pb.h"

namespace temper {

class TaskCheck {
 public:
  // For a run of the model in `model_dir`, whose configuration `model` is, that
  // samples by `sampling`. InvalidArgument or NotFound where the tokenizer does
  // not fit the model or lacks the chat format's markers.
  static absl::StatusOr<std::unique_ptr<TaskCheck>> Create(
      const std::string& model_dir, const ModelConfig& model,
      const SamplingConfig& sampling);

  // Asks the task's environment (Environment::Validate), then renders what it
  // would show. InvalidArgument, begun with "task ID: ", names the field, what
  // is wrong with it and what is allowed.
  absl::Status Check(const Task& task);

  // The second half: the prompt can be rendered and, with max_tokens sampled
  // tokens, fits an episode of the model.
  absl::Status CheckPrompt(const Observation& known);

  // Of the longest prompt that was found good; 0 before the first.
  int64_t prompt_tokens() const { return prompt_tokens_; }

 private:
  TaskCheck() = default;

  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_template_;
  ChatOptions options_;
  int64_t max_tokens_ = 0;
  int64_t positions_ = 0;
  int64_t episode_tokens_ = 0;
  int64_t prompt_tokens_ = 0;
};

// What of Check can be asked without a model: all but the length.
absl::Status CheckWithoutModel(const Task& task);

// What is wrong with a source of tasks: the first kShown in full, then how many
// more there are.
class TaskFaults {
 public:
  static constexpr size_t kShown = 10;

  // `fault` is no OK and says where it is.
  void Add(const absl::Status& fault);

  // OK while none was added, else InvalidArgument; `tasks` were looked at.
  absl::Status status(const std::string& source, int64_t tasks) const;

 private:
  std::vector<std::string> shown_;
  int64_t count_ = 0;
};

}  // namespace temper

#endif  // TOOLS_RUN_TASK_CHECK_H_
