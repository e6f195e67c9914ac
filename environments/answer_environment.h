// An environment that asks for one answer and checks it by rule: what is left
// to say of it is how its tasks are read and what its tools do.
//
// One object plays one episode, in one thread.

#ifndef ENVIRONMENTS_ANSWER_ENVIRONMENT_H_
#define ENVIRONMENTS_ANSWER_ENVIRONMENT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "environments/environment.h"
#include "proto/task.pb.h"

namespace temper {

// The methods keep what environment.h promises; Grade is GradeAnswer of
// answer.h.
class AnswerEnvironment : public Environment {
 public:
  absl::StatusOr<Observation> Validate(const Task& task) const final;
  absl::StatusOr<Observation> Reset(const Task& task, uint64_t seed) final;
  absl::StatusOr<std::vector<ToolResult>> Step(
      const std::vector<ToolCall>& calls) final;
  absl::StatusOr<Verdict> Grade(Outcome outcome,
                                const std::vector<Message>& transcript) final;

 protected:
  // What the model is shown of `task`, and the right answer in `truth`, of
  // which nothing may be shown. All that can be wrong with a task is found
  // here, before a run starts: InvalidArgument.
  virtual absl::StatusOr<Observation> Read(const Task& task,
                                           std::string* truth) const = 0;
  // The model's mistakes are results, not errors.
  virtual ToolResult Answer(const ToolCall& call) const = 0;

 private:
  std::string truth_;  // of the episode's task
};

}  // namespace temper

#endif  // ENVIRONMENTS_ANSWER_ENVIRONMENT_H_
