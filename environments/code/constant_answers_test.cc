// No shipped task is passed by who does not look at the input: neither by one
// answer, whatever comes in, nor by the answers that the prompt's examples show
// and one beside them.
//
// What a sandbox would say is known here, so nothing is run.

#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "environments/code/code_task.h"
#include "environments/code/python_value.h"
#include "environments/code/value_check.h"
#include "gtest/gtest.h"
#include "proto/task.pb.h"
#include "proto/wire/task_file.h"

namespace temper {
namespace {

std::vector<std::string> task_files;  // set in main

std::vector<Task> Tasks() {
  std::vector<Task> tasks;
  for (const std::string& path : task_files) {
    auto reader = TaskFileReader::Open(path);
    EXPECT_TRUE(reader.ok()) << reader.status();
    if (!reader.ok()) continue;
    for (;;) {
      auto line = *(*reader)->Next();
      if (!line.has_value()) break;
      tasks.push_back(*std::move(line->task));
    }
  }
  return tasks;
}

bool IsShown(const CodeTask& task, const CodeTest& test) {
  for (const CodeTest& example : task.examples) {
    if (task.entry_point.empty() ? example.stdin_text == test.stdin_text
                                 : CanonicalText(example.arguments) ==
                                       CanonicalText(test.arguments)) {
      return true;
    }
  }
  return false;
}

// `answer` is a value or an output of another test.
bool IsPassedBy(const CodeTask& task, const CodeTest& test,
                const CodeTest& answer) {
  if (task.entry_point.empty()) {
    return CanonicalOutput(test.stdout_text) ==
           CanonicalOutput(answer.stdout_text);
  }
  return Passes(test.check, test.value, test.tolerance, test.arguments,
                answer.value);
}

// All that any of the task's tests and examples takes for right, and what a
// lazy program gives.
std::vector<CodeTest> Constants(const CodeTask& task) {
  std::vector<CodeTest> answers = task.tests;
  answers.insert(answers.end(), task.examples.begin(), task.examples.end());
  for (const char* value : {"None", "True", "False", "0", "1", "-1", "0.0",
                            "1.0", "''", "[]", "()", "{}"}) {
    CodeTest answer;
    answer.value = *ParsePythonValue(value);
    answers.push_back(answer);
  }
  return answers;
}

TEST(ConstantAnswersTest, NoTaskIsPassed) {
  const std::vector<Task> tasks = Tasks();
  ASSERT_EQ(tasks.size(), 364u);
  for (const Task& row : tasks) {
    const auto task = ReadCodeTask(row);
    ASSERT_TRUE(task.ok()) << row.id() << " " << task.status();
    for (const CodeTest& answer : Constants(*task)) {
      size_t hidden = 0, passed = 0;
      for (const CodeTest& test : task->tests) {
        if (IsShown(*task, test)) continue;
        ++hidden;
        passed += IsPassedBy(*task, test, answer);
      }
      ASSERT_GT(hidden, passed)
          << row.id() << " is passed by " << ToPython(answer.value) << " "
          << answer.stdout_text;
    }
  }
}

// Of programs, which are ours to draw, more: at most a third of the tests.
TEST(ConstantAnswersTest, OneOutputIsThatOfFewTests) {
  std::set<std::string> statements;
  size_t programs = 0;
  for (const Task& row : Tasks()) {
    const auto task = ReadCodeTask(row);
    ASSERT_TRUE(task.ok()) << task.status();
    if (!task->entry_point.empty()) continue;
    ++programs;
    EXPECT_TRUE(statements.insert(row.messages(0).content()).second)
        << row.id() << " is another task";
    std::set<std::string> inputs;
    for (const auto* some : {&task->examples, &task->tests}) {
      for (const CodeTest& test : *some) {
        EXPECT_TRUE(inputs.insert(test.stdin_text).second)
            << row.id() << " has an input twice";
      }
    }
    for (const CodeTest& answer : Constants(*task)) {
      size_t passed = 0;
      for (const CodeTest& test : task->tests) {
        passed += IsPassedBy(*task, test, answer);
      }
      EXPECT_LE(3 * passed, task->tests.size())
          << row.id() << " is mostly passed by " << answer.stdout_text;
    }
  }
  EXPECT_EQ(programs, 200u);
}

}  // namespace
}  // namespace temper

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  temper::task_files.assign(argv + 1, argv + argc);
  return RUN_ALL_TESTS();
}
