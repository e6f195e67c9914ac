// An environment for tests of those who play episodes: the task's messages are
// the prompt, every tool call is answered with nothing, every answer is
// verified and none is right.

#ifndef ENVIRONMENTS_TESTING_ECHO_ENVIRONMENT_H_
#define ENVIRONMENTS_TESTING_ECHO_ENVIRONMENT_H_

#include <cstdint>
#include <future>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "environments/environment.h"

namespace temper {

class EchoEnvironment : public Environment {
 public:
  // Reset waits for `ready`, if it is valid.
  explicit EchoEnvironment(std::shared_future<void> ready = {})
      : ready_(std::move(ready)) {}

  const EnvironmentFacts& facts() const override {
    static const EnvironmentFacts facts = {"echo", "for tests", true,
                                           ServedIn::kWorker, false};
    return facts;
  }
  absl::StatusOr<Observation> Validate(const Task& task) const override {
    Observation observation;
    observation.messages.assign(task.messages().begin(), task.messages().end());
    return observation;
  }
  absl::StatusOr<Observation> Reset(const Task& task, uint64_t) override {
    if (ready_.valid()) ready_.wait();
    return Validate(task);
  }
  absl::StatusOr<std::vector<ToolResult>> Step(
      const std::vector<ToolCall>& calls) override {
    return std::vector<ToolResult>(calls.size());
  }
  absl::StatusOr<Verdict> Grade(Outcome outcome,
                                const std::vector<Message>&) override {
    Verdict verdict;
    verdict.set_outcome(outcome);
    verdict.set_verified(true);
    return verdict;
  }

 private:
  const std::shared_future<void> ready_;
};

}  // namespace temper

#endif  // ENVIRONMENTS_TESTING_ECHO_ENVIRONMENT_H_
