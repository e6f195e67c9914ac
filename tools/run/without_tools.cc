#include "tools/run/without_tools.h"

#include <cstdint>
#include <utility>

#include "environments/tool_call.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

class ToollessEnvironment : public Environment {
 public:
  explicit ToollessEnvironment(std::unique_ptr<Environment> inner)
      : inner_(std::move(inner)) {}

  const EnvironmentFacts& facts() const override { return inner_->facts(); }

  absl::StatusOr<Observation> Validate(const Task& task) const override {
    return inner_->Validate(task);
  }

  absl::StatusOr<Observation> Reset(const Task& task, uint64_t seed) override {
    return inner_->Reset(task, seed);
  }

  absl::StatusOr<std::vector<ToolResult>> Step(
      const std::vector<ToolCall>& calls) override {
    // The prompt still offers them, so that the model is asked what it was
    // trained on.
    return RefuseCalls(calls);
  }

  absl::StatusOr<Verdict> Grade(
      Outcome outcome, const std::vector<Message>& transcript) override {
    return inner_->Grade(outcome, transcript);
  }

 private:
  const std::unique_ptr<Environment> inner_;
};

}  // namespace

std::unique_ptr<Environment> WithoutTools(std::unique_ptr<Environment> inner) {
  return std::make_unique<ToollessEnvironment>(std::move(inner));
}

absl::StatusOr<std::vector<ToolResult>> RefuseCalls(
    const std::vector<ToolCall>& calls) {
  RETURN_IF_ERROR(CheckCallCount(calls));
  return std::vector<ToolResult>(calls.size(), FailedCall("the tools are off"));
}

}  // namespace temper
