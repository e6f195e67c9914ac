#include "tools/quickstart/tasks.h"

#include <algorithm>
#include <map>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "proto/wire/task_file.h"

namespace temper {
namespace {

using ::testing::MatchesRegex;

std::string Question(const Task& task) { return task.messages(1).content(); }

TEST(QuickstartTasksTest, TheSameSeedGivesTheSameFileAndAnotherAnother) {
  const std::string a =
      *FormatTasks(QuickstartTasks(1, TaskSplit::kTrain, 300));
  EXPECT_EQ(a, *FormatTasks(QuickstartTasks(1, TaskSplit::kTrain, 300)));
  EXPECT_NE(a, *FormatTasks(QuickstartTasks(2, TaskSplit::kTrain, 300)));
}

TEST(QuickstartTasksTest, TrainAndHeldOutShareNoContentWhateverTheSeeds) {
  std::set<std::string> held;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    for (uint64_t i = 0; i < 3000; ++i) {
      const auto task = MakeQuickstartTask(seed, TaskSplit::kHeldOut, i);
      EXPECT_EQ(SplitOf(task.canonical), TaskSplit::kHeldOut);
      held.insert(task.canonical);
    }
  }
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    for (uint64_t i = 0; i < 3000; ++i) {
      const auto task = MakeQuickstartTask(seed, TaskSplit::kTrain, i);
      EXPECT_EQ(held.count(task.canonical), 0u) << task.canonical;
    }
  }
}

TEST(QuickstartTasksTest, ASumIsTheSameTaskInEitherOrderAndWording) {
  std::map<std::string, std::set<std::string>> questions;
  for (uint64_t i = 2; i < 90000; i += 3) {
    const auto task = MakeQuickstartTask(1, TaskSplit::kTrain, i);
    ASSERT_EQ(task.kind, QuickstartKind::kMath);
    EXPECT_EQ(task.answer, std::to_string(task.left + task.right));
    questions[task.canonical].insert(task.question);
  }
  const bool some_twice =
      std::any_of(questions.begin(), questions.end(),
                  [](const auto& entry) { return entry.second.size() > 1; });
  EXPECT_TRUE(some_twice);
}

TEST(QuickstartTasksTest, KindsComeInTurnWithWhatTheirEnvironmentNeeds) {
  const auto tasks = QuickstartTasks(1, TaskSplit::kHeldOut, 768);
  std::map<std::string, int> by_environment;
  for (size_t i = 0; i < tasks.size(); ++i) {
    const Task& task = tasks[i];
    ++by_environment[task.environment()];
    EXPECT_EQ(task.split(), "heldout");
    const auto payload = nlohmann::json::parse(task.payload_json());
    EXPECT_THAT(payload["answer"].get<std::string>(), MatchesRegex("-?[0-9]+"));
    EXPECT_EQ(payload.contains("table"), i % 3 == 1);
    EXPECT_EQ(payload.contains("tools"), i % 3 == 2);
    EXPECT_EQ(task.messages(0).content(), kQuickstartSystem);
  }
  EXPECT_EQ(by_environment["math"], 256);
  EXPECT_EQ(by_environment["interpreter"], 512);
}

TEST(QuickstartTasksTest, TheAnswerOfTwoCallsNeedsTheValueThatThePromptHides) {
  for (const Task& task : QuickstartTasks(3, TaskSplit::kTrain, 300)) {
    const auto payload = nlohmann::json::parse(task.payload_json());
    if (!payload.contains("table")) continue;
    const auto entry = payload["table"].begin();
    EXPECT_NE(Question(task).find(entry.key()), std::string::npos);
    const std::string expression =
        Question(task).substr(Question(task).find('*'));
    EXPECT_EQ(std::to_string(
                  EvaluateExpression(entry->get<std::string>() + expression)),
              payload["answer"].get<std::string>());
  }
}

TEST(QuickstartTasksTest, AListHoldsNoTaskTwice) {
  std::set<std::string> seen;
  for (const Task& task : QuickstartTasks(1, TaskSplit::kHeldOut, 9000)) {
    // Two-call tasks with the same question may hide different values.
    EXPECT_TRUE(seen.insert(Question(task) + task.payload_json()).second);
  }
}

TEST(QuickstartTasksTest, ExpressionsAreEvaluatedAsPythonDoes) {
  EXPECT_EQ(EvaluateExpression("37*48+15"), 1791);
  EXPECT_EQ(EvaluateExpression("(37+48)*15"), 1275);
  EXPECT_EQ(EvaluateExpression("11+99*99"), 9812);
  EXPECT_EQ(EvaluateExpression("11*11-99-1"), 21);
  EXPECT_EQ(EvaluateExpression("1-2*3"), -5);
}

}  // namespace
}  // namespace temper
