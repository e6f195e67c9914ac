// Programs from stdin to stdout: the two independent solutions of a task agree
// with its hidden outputs, one in Python and one in C++, and wrong ones fail.
//
// The arguments are how many of the tasks are graded in Python, and how many in
// C++, which takes a second to compile.

#include <cstdlib>
#include <fstream>
#include <string>

#include "environments/cpp_compiler.h"
#include "environments/registry.h"
#include "environments/sandbox_test_main.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "proto/task.pb.h"

namespace temper {
namespace {

using Json = nlohmann::json;

SandboxPool* sandboxes = nullptr;  // set in main
size_t python_tasks = 0, cpp_tasks = 0;
const char* tasks_path = nullptr;
const char* solutions_path = nullptr;

std::vector<Json> Rows(const char* path) {
  std::vector<Json> rows;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    rows.push_back(Json::parse(line));
  }
  return rows;
}

// The task with its language replaced.
Task TaskIn(const Json& row, const std::string& language) {
  Task task;
  task.set_id(row["id"]);
  task.set_environment("code");
  task.add_messages()->set_role("user");
  Json payload = Json::parse(row["payload_json"].get<std::string>());
  payload["language"] = language;
  task.set_payload_json(payload.dump());
  return task;
}

Verdict GradeCode(const Task& task, const std::string& code) {
  auto episode = *NewEnvironment("code", {.sandboxes = sandboxes});
  const auto begun = episode->Reset(task, 1);
  EXPECT_TRUE(begun.ok()) << begun.status();
  Message answer;
  answer.set_role("assistant");
  answer.set_content("```\n" + code + "\n```");
  const auto verdict = episode->Grade(OUTCOME_OK, {answer});
  EXPECT_TRUE(verdict.ok()) << verdict.status();
  return verdict.ok() ? *verdict : Verdict();
}

// Numbers of all tasks, those that are in `language` first: twenty of them have
// one of each family.
std::vector<size_t> InOrder(const std::vector<Json>& tasks,
                            const std::string& language) {
  std::vector<size_t> numbers;
  for (const bool own : {true, false}) {
    for (size_t i = 0; i < tasks.size(); ++i) {
      const auto payload =
          Json::parse(tasks[i]["payload_json"].get<std::string>());
      if ((payload["language"] == language) == own) numbers.push_back(i);
    }
  }
  return numbers;
}

// Of `count` tasks, in `language`.
void ExpectRightAndWrong(const std::string& language, size_t count) {
  const std::vector<Json> tasks = Rows(tasks_path);
  const std::vector<Json> solutions = Rows(solutions_path);
  ASSERT_EQ(tasks.size(), 200u);
  ASSERT_EQ(solutions.size(), 200u);
  std::vector<size_t> numbers = InOrder(tasks, language);
  numbers.resize(count);
  for (const size_t i : numbers) {
    const Task task = TaskIn(tasks[i], language);
    ASSERT_EQ(tasks[i]["id"], solutions[i]["id"]);
    const Verdict right = GradeCode(task, solutions[i][language]);
    EXPECT_TRUE(right.correct()) << task.id() << " " << right.detail();
    EXPECT_EQ(right.scores(0).value(), 1);
    const Verdict wrong = GradeCode(task, solutions[i]["wrong_" + language]);
    EXPECT_TRUE(wrong.verified());
    EXPECT_FALSE(wrong.correct()) << task.id() << " " << wrong.detail();
  }
}

TEST(ProgramsTest, EveryPythonSolutionPassesAndEveryWrongOneFails) {
  ExpectRightAndWrong("python", python_tasks);
}

TEST(ProgramsTest, EveryCppSolutionPassesAndEveryWrongOneFails) {
  if (const auto can = CanCompileCpp(); !can.ok()) {
    const auto task = TaskIn(Rows(tasks_path)[0], "cpp");
    EXPECT_TRUE(absl::IsInvalidArgument(
        (*NewEnvironment("code", {}))->Validate(task).status()));
    GTEST_SKIP() << can;
  }
  ExpectRightAndWrong("cpp", cpp_tasks);
}

TEST(ProgramsTest, TheToolTellsOfEachExample) {
  const std::vector<Json> tasks = Rows(tasks_path);
  auto episode = *NewEnvironment("code", {.sandboxes = sandboxes});
  ASSERT_TRUE(episode->Reset(TaskIn(tasks[0], "python"), 1).ok());
  const auto run = [&episode](const std::string& code) {
    ToolCall call;
    call.set_name("test");
    call.set_arguments_json(Json({{"code", code}}).dump());
    return episode->Step({call})->at(0);
  };
  const std::string right = Rows(solutions_path)[0]["python"];
  EXPECT_EQ(run(right).outcome(), OUTCOME_OK);
  EXPECT_THAT(run(right).content(),
              testing::HasSubstr("printed what it should\nexample 2 passed"));
  const ToolResult wrong = run("print('x')");
  EXPECT_EQ(wrong.outcome(), OUTCOME_OK);
  EXPECT_THAT(wrong.content(),
              testing::HasSubstr("printed:\nx\n\nexpected:\n"));
  EXPECT_EQ(run("1/0").outcome(), OUTCOME_TOOL_ERROR);
  EXPECT_THAT(run("1/0").content(), testing::HasSubstr("ZeroDivisionError"));
  EXPECT_THAT(run("import sys\nsys.exit(3)").content(),
              testing::HasSubstr("exit status 3"));
}

}  // namespace
}  // namespace temper

int main(int argc, char** argv) {
  if (argc < 5) return 2;
  temper::tasks_path = argv[1];
  temper::solutions_path = argv[2];
  temper::python_tasks = std::strtoul(argv[3], nullptr, 10);
  temper::cpp_tasks = std::strtoul(argv[4], nullptr, 10);
  return temper::RunTestsWithSandboxes(argc, argv, &temper::sandboxes);
}
