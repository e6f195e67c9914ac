#include "tools/run/without_tools.h"

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace temper {
namespace {

// Offers a tool that answers every call with "42"; grades by the last message.
class Oracle : public Environment {
 public:
  const EnvironmentFacts& facts() const override {
    static constexpr EnvironmentFacts kFacts = {
        .name = "oracle",
        .description = "knows the answer",
        .deterministic = true,
        .served_in = ServedIn::kWorker,
        .needs_sandbox = false};
    return kFacts;
  }
  absl::StatusOr<Observation> Validate(const Task& task) const override {
    Observation observation;
    observation.messages.assign(task.messages().begin(), task.messages().end());
    observation.tools.emplace_back().set_name("oracle");
    return observation;
  }
  absl::StatusOr<Observation> Reset(const Task& task, uint64_t) override {
    return Validate(task);
  }
  absl::StatusOr<std::vector<ToolResult>> Step(
      const std::vector<ToolCall>& calls) override {
    ToolResult result;
    result.set_outcome(OUTCOME_OK);
    result.set_content("42");
    return std::vector<ToolResult>(calls.size(), result);
  }
  absl::StatusOr<Verdict> Grade(
      Outcome outcome, const std::vector<Message>& transcript) override {
    Verdict verdict;
    verdict.set_outcome(outcome);
    verdict.set_verified(true);
    verdict.set_correct(transcript.back().content() == "42");
    return verdict;
  }
};

TEST(WithoutToolsTest, ThePromptIsTheSameAndEveryCallIsRefused) {
  const auto episode = WithoutTools(std::make_unique<Oracle>());
  EXPECT_STREQ(episode->facts().name, "oracle");
  Task task;
  task.add_messages()->set_content("what is the answer?");
  const auto observation = episode->Reset(task, 1);
  ASSERT_TRUE(observation.ok()) << observation.status();
  ASSERT_EQ(observation->messages.size(), 1u);
  EXPECT_EQ(observation->messages[0].content(), "what is the answer?");
  EXPECT_EQ(observation->tools.size(), 1u);

  ToolCall call;
  call.set_name("oracle");
  call.set_arguments_json("{}");
  const auto results = episode->Step({call, call});
  ASSERT_TRUE(results.ok()) << results.status();
  ASSERT_EQ(results->size(), 2u);
  for (const ToolResult& result : *results) {
    EXPECT_EQ(result.outcome(), OUTCOME_TOOL_ERROR);
    EXPECT_EQ(result.content(), "error: the tools are off");
  }
  EXPECT_FALSE(
      episode->Step(std::vector<ToolCall>(kToolCallsPerStepMax + 1, call))
          .ok());
}

TEST(WithoutToolsTest, AnswersAreGradedAsBefore) {
  for (const char* answer : {"42", "41"}) {
    const auto episode = WithoutTools(std::make_unique<Oracle>());
    ASSERT_TRUE(episode->Reset(Task(), 1).ok());
    Message message;
    message.set_role("assistant");
    message.set_content(answer);
    const auto verdict = episode->Grade(OUTCOME_OK, {message});
    ASSERT_TRUE(verdict.ok()) << verdict.status();
    EXPECT_EQ(verdict->correct(), std::string(answer) == "42");
  }
}

}  // namespace
}  // namespace temper
