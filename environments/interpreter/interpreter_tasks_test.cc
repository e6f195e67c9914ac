// The tasks that ship for the interpreter. Of each question a second program,
// run by the environment's own tool, prints the answer, and another answer is
// wrong; GSM8K is read whole.

#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "environments/registry.h"
#include "environments/sandbox_test_main.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "proto/wire/task_file.h"

namespace temper {
namespace {

using Json = nlohmann::json;

SandboxPool* sandboxes = nullptr;  // set in main
const char* questions_path = nullptr;
const char* programs_path = nullptr;
const char* gsm8k_path = nullptr;

std::vector<Task> Tasks(const char* path) {
  auto tasks = ReadTaskFile(path);
  EXPECT_TRUE(tasks.ok()) << tasks.status();
  return tasks.ok() ? *std::move(tasks) : std::vector<Task>();
}

std::string AnswerOf(const Task& task) {
  return Json::parse(task.payload_json())["answer"];
}

// Whether `answer` is correct, after `code` printed it if that is not empty.
bool IsCorrect(const Task& task, const std::string& code, std::string answer) {
  auto episode = *NewEnvironment("interpreter", {.sandboxes = sandboxes});
  const auto begun = episode->Reset(task, 1);
  EXPECT_TRUE(begun.ok()) << begun.status();
  if (!code.empty()) {
    ToolCall call;
    call.set_name("python");
    call.set_arguments_json(Json({{"code", code}}).dump());
    const auto printed = episode->Step({call});
    EXPECT_TRUE(printed.ok()) << printed.status();
    answer = printed->at(0).content();
  }
  Message message;
  message.set_role("assistant");
  message.set_content(answer);
  const auto verdict = episode->Grade(OUTCOME_OK, {message});
  EXPECT_TRUE(verdict.ok() && verdict->verified()) << verdict.status();
  return verdict.ok() && verdict->correct();
}

TEST(InterpreterTasksTest, ASecondProgramHasTheSameAnswerToEachQuestion) {
  const std::vector<Task> tasks = Tasks(questions_path);
  ASSERT_EQ(tasks.size(), 500u);
  std::ifstream programs(programs_path);
  std::set<std::string> texts;
  size_t held_out = 0;
  for (const Task& task : tasks) {
    std::string line;
    ASSERT_TRUE(std::getline(programs, line));
    const Json program = Json::parse(line);
    ASSERT_EQ(program["id"], task.id());
    const std::string text = task.messages(0).content();
    texts.insert(text);
    held_out += task.split() == "heldout";
    // JSON's strings are Python's.
    const std::string code = absl::StrCat("text = ", Json(text).dump(), "\n",
                                          program["code"].get<std::string>());
    EXPECT_TRUE(IsCorrect(task, code, "")) << task.id() << "\n" << text;
    EXPECT_FALSE(IsCorrect(task, "", absl::StrCat("1", AnswerOf(task))))
        << task.id();
  }
  EXPECT_EQ(texts.size(), 500u);
  EXPECT_EQ(held_out, 100u);
}

TEST(InterpreterTasksTest, Gsm8kIsWhole) {
  const std::vector<Task> tasks = Tasks(gsm8k_path);
  ASSERT_EQ(tasks.size(), 7473u + 1319u);
  auto environment = *NewEnvironment("interpreter", {.sandboxes = sandboxes});
  size_t held_out = 0;
  for (const Task& task : tasks) {
    const auto shown = environment->Validate(task);
    EXPECT_TRUE(shown.ok()) << shown.status();
    held_out += task.split() == "heldout";
  }
  EXPECT_EQ(held_out, 1319u);
  // As its solutions are written.
  EXPECT_EQ(AnswerOf(tasks[7473]), "18");
  EXPECT_TRUE(IsCorrect(tasks[7473], "", "She makes 9 * 2 = $18.\n#### 18"));
  EXPECT_FALSE(IsCorrect(tasks[7473], "", "She makes 9 * 2.\n#### 9"));
}

}  // namespace
}  // namespace temper

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  temper::questions_path = argv[1];
  temper::programs_path = argv[2];
  temper::gsm8k_path = argv[3];
  return temper::RunTestsWithSandboxes(argc, argv, &temper::sandboxes);
}
