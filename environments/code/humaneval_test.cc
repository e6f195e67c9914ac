// HumanEval, as tools/peers/humaneval.py makes tasks of it: every canonical
// solution passes the hidden tests and the examples, and mutants of it fail.
//
// The argument is how many of the five mutants of each problem are tried.

#include <cstdlib>
#include <fstream>
#include <string>

#include "environments/registry.h"
#include "environments/sandbox_test_main.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "proto/wire/task_file.h"

namespace temper {
namespace {

SandboxPool* sandboxes = nullptr;  // set in main
size_t mutants_tried = 1;

constexpr char kFolder[] = "environments/code/humaneval/";
constexpr size_t kProblems = 164, kMutants = 5;

std::vector<Task> Tasks() {
  std::vector<Task> tasks;
  auto reader = *TaskFileReader::Open(std::string(kFolder) + "tasks.jsonl");
  for (;;) {
    auto line = *reader->Next();
    if (!line.has_value()) return tasks;
    tasks.push_back(*std::move(line->task));
  }
}

struct Solution {
  std::string id;
  std::string answer;
  std::vector<std::string> mutants;
};

std::vector<Solution> Solutions() {
  std::vector<Solution> solutions;
  std::ifstream in(std::string(kFolder) + "solutions.jsonl");
  for (std::string line; std::getline(in, line);) {
    const auto row = nlohmann::json::parse(line);
    Solution solution = {row["id"], row["answer"], {}};
    for (const auto& edit : row["mutants"]) {
      const size_t first = edit[0], last = edit[1];
      solution.mutants.push_back(solution.answer.substr(0, first) +
                                 edit[2].get<std::string>() +
                                 solution.answer.substr(last));
    }
    solutions.push_back(std::move(solution));
  }
  return solutions;
}

Verdict GradeCode(const Task& task, const std::string& code) {
  auto episode = *NewEnvironment("code", {.sandboxes = sandboxes});
  const auto begun = episode->Reset(task, 1);
  EXPECT_TRUE(begun.ok()) << begun.status();
  Message answer;
  answer.set_role("assistant");
  answer.set_content("```python\n" + code + "\n```");
  const auto verdict = episode->Grade(OUTCOME_OK, {answer});
  EXPECT_TRUE(verdict.ok()) << verdict.status();
  return verdict.ok() ? *verdict : Verdict();
}

TEST(HumanEvalTest, EveryCanonicalSolutionPasses) {
  const std::vector<Task> tasks = Tasks();
  const std::vector<Solution> solutions = Solutions();
  ASSERT_EQ(tasks.size(), kProblems);
  ASSERT_EQ(solutions.size(), kProblems);
  for (size_t i = 0; i < kProblems; ++i) {
    ASSERT_EQ(tasks[i].id(), solutions[i].id);
    const Verdict verdict = GradeCode(tasks[i], solutions[i].answer);
    EXPECT_TRUE(verdict.verified());
    EXPECT_TRUE(verdict.correct()) << tasks[i].id() << " " << verdict.detail();
    EXPECT_EQ(verdict.scores(0).value(), 1);
  }
}

TEST(HumanEvalTest, EveryCanonicalSolutionPassesTheExamplesByTheTool) {
  const std::vector<Task> tasks = Tasks();
  const std::vector<Solution> solutions = Solutions();
  size_t with_examples = 0;
  for (size_t i = 0; i < kProblems; ++i) {
    auto episode = *NewEnvironment("code", {.sandboxes = sandboxes});
    ASSERT_TRUE(episode->Reset(tasks[i], 1).ok());
    ToolCall call;
    call.set_name("test");
    call.set_arguments_json(
        nlohmann::json({{"code", solutions[i].answer}}).dump());
    const auto results = episode->Step({call});
    ASSERT_TRUE(results.ok()) << results.status();
    const ToolResult& result = results->at(0);
    if (result.content().find("no examples") != std::string::npos) continue;
    ++with_examples;
    EXPECT_EQ(result.outcome(), OUTCOME_OK) << result.content();
    EXPECT_EQ(result.content().find("failed"), std::string::npos)
        << tasks[i].id() << " " << result.content();
  }
  EXPECT_GE(with_examples, 120u);
}

TEST(HumanEvalTest, EveryMutantFails) {
  const std::vector<Task> tasks = Tasks();
  const std::vector<Solution> solutions = Solutions();
  size_t partly = 0;
  for (size_t i = 0; i < kProblems; ++i) {
    ASSERT_EQ(solutions[i].mutants.size(), kMutants);
    for (size_t m = 0; m < mutants_tried; ++m) {
      const Verdict verdict = GradeCode(tasks[i], solutions[i].mutants[m]);
      EXPECT_TRUE(verdict.verified());
      EXPECT_FALSE(verdict.correct()) << tasks[i].id() << "\n"
                                      << solutions[i].mutants[m];
      EXPECT_LT(verdict.scores(0).value(), 1);
      partly += verdict.scores(0).value() > 0;
    }
  }
  // Not all of them are broken outright: single tests tell them apart.
  EXPECT_GE(partly, kProblems * mutants_tried / 4);
}

}  // namespace
}  // namespace temper

int main(int argc, char** argv) {
  if (argc > 1) temper::mutants_tried = std::strtoul(argv[1], nullptr, 10);
  return temper::RunTestsWithSandboxes(argc, argv, &temper::sandboxes);
}
