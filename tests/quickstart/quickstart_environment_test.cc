// The quickstart's demonstrations against the environments they claim to be
// from: same prompt, same tool results, same verdict.

#include "environments/registry.h"
#include "environments/sandbox_test_main.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/model/chat/template.h"
#include "tools/quickstart/demonstrations.h"
#include "tools/quickstart/tasks.h"

namespace temper {
namespace {

SandboxPool* sandboxes = nullptr;  // set in main

class QuickstartEnvironmentTest : public testing::TestWithParam<const char*> {};

// Plays demonstration `index` in its environment.
void Play(const SlipRates& rates, uint64_t index) {
  const QuickstartDemonstration d =
      MakeQuickstartDemonstration(1, rates, index);
  const Task task = ToTask(d.task, TaskSplit::kTrain, index);
  SCOPED_TRACE(d.demonstration.ShortDebugString());
  auto environment =
      NewEnvironment(task.environment(), {.sandboxes = sandboxes});
  ASSERT_TRUE(environment.ok()) << environment.status();
  const auto seen = (*environment)->Reset(task, index);
  ASSERT_TRUE(seen.ok()) << seen.status();
  const std::vector<Message> messages(d.demonstration.messages().begin(),
                                      d.demonstration.messages().end());
  const std::vector<Tool> tools(d.demonstration.tools().begin(),
                                d.demonstration.tools().end());
  EXPECT_EQ(*RenderChatText(seen->messages, seen->tools, {}),
            *RenderChatText({messages[0], messages[1]}, tools, {}));
  for (size_t i = 2; i + 1 < messages.size(); ++i) {
    if (messages[i].tool_calls().empty()) continue;
    const auto results = (*environment)
                             ->Step({messages[i].tool_calls().begin(),
                                     messages[i].tool_calls().end()});
    ASSERT_TRUE(results.ok()) << results.status();
    EXPECT_EQ((*results)[0].content(), messages[i + 1].content());
  }
  const auto verdict = (*environment)->Grade(OUTCOME_OK, messages);
  ASSERT_TRUE(verdict.ok()) << verdict.status();
  EXPECT_TRUE(verdict->verified());
  EXPECT_EQ(verdict->correct(), d.right);
}

TEST_P(QuickstartEnvironmentTest, PromptsResultsAndVerdictsAreTheEnvironments) {
  const SlipRates rates = *RatesOfMix(GetParam());
  for (uint64_t index = 0; index < 120; ++index) Play(rates, index);
}

TEST(QuickstartFailedCallTest, EveryKindOfFailedCallReadsAsTheEnvironmentSays) {
  SlipRates rates;
  rates.one_call.malformed_call = 1;
  rates.two_calls.wrong_key = 1;
  rates.math.misread = 1;
  for (uint64_t index = 0; index < 60; ++index) Play(rates, index);
}

INSTANTIATE_TEST_SUITE_P(Mixes, QuickstartEnvironmentTest,
                         testing::Values("clean", "sloppy"));

}  // namespace
}  // namespace temper

int main(int argc, char** argv) {
  return temper::RunTestsWithSandboxes(argc, argv, &temper::sandboxes);
}
