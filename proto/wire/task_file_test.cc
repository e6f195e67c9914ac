#include "proto/wire/task_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

Task Make(const std::string& id) {
  Task task;
  task.set_id(id);
  task.set_environment("math");
  task.set_split("train");
  task.add_messages()->set_role("user");
  task.mutable_messages(0)->set_content("1+1?\né \"q\"");
  task.set_payload_json(R"({"answer":"2"})");
  return task;
}

std::string Written(const std::string& text) {
  const std::string path = std::string(getenv("TEST_TMPDIR")) + "/t.jsonl";
  EXPECT_TRUE(WriteFileDurably(path, text).ok());
  return path;
}

std::string Error(const std::string& text) {
  return ReadTaskFile(Written(text)).status().ToString();
}

TEST(TaskFileTest, TasksComeBackAsTheyWereOnTheirOwnLines) {
  const std::string path = std::string(getenv("TEST_TMPDIR")) + "/tasks.jsonl";
  ASSERT_TRUE(WriteTaskFile(path, {Make("a"), Make("b")}).ok());
  const auto tasks = ReadTaskFile(path);
  ASSERT_TRUE(tasks.ok()) << tasks.status();
  ASSERT_EQ(tasks->size(), 2u);
  EXPECT_EQ((*tasks)[0].SerializeAsString(), Make("a").SerializeAsString());
  EXPECT_EQ((*tasks)[1].id(), "b");
  const std::string text = *FormatTasks(*tasks);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  EXPECT_THAT(text, HasSubstr("\"payload_json\""));
}

TEST(TaskFileTest, ErrorsNameTheLine) {
  const std::string good = *FormatTasks({Make("a")});
  EXPECT_THAT(Error(good + "\n{\"id\":"), HasSubstr("t.jsonl:3: "));
  EXPECT_THAT(Error(good + "{\"idd\":\"x\"}"), HasSubstr("t.jsonl:2: "));
  EXPECT_THAT(Error(good + "{\"idd\":\"x\"}"), HasSubstr("idd"));
  EXPECT_THAT(Error(good + good),
              HasSubstr("t.jsonl:2: task id a is on line 1"));
  EXPECT_THAT(Error("\n \n"), HasSubstr("holds no tasks"));
  EXPECT_THAT(Error(std::string(kTaskLineBytesMax + 1, 'x')),
              HasSubstr("t.jsonl:1: "));
}

TEST(TaskFileTest, ABadLineIsItsOwnAndTheLinesAfterItAreRead) {
  const std::string text = *FormatTasks({Make("a")}) + "{\"id\": 5}\r\n\r\n" +
                           std::string(kTaskLineBytesMax + 1, 'x') + "\n" +
                           *FormatTasks({Make("b")});
  const auto reader = TaskFileReader::Open(Written(text));
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ((*reader)->bytes_total(), text.size());
  std::string seen;
  for (;;) {
    const auto line = (*reader)->Next();
    ASSERT_TRUE(line.ok()) << line.status();
    if (!line->has_value()) break;
    const auto& task = (*line)->task;
    seen += std::to_string((*line)->number) + (task.ok() ? task->id() : "-");
  }
  EXPECT_EQ(seen, "1a2-4-5b");
  EXPECT_EQ((*reader)->bytes_read(), text.size());
}

TEST(TaskFileTest, RefusesATaskWithoutWhatItNeeds) {
  const auto without = [](auto&& change) {
    Task task = Make("a");
    change(task);
    return FormatTasks({task}).status().ToString();
  };
  EXPECT_THAT(without([](Task& t) { t.clear_id(); }), HasSubstr("id is empty"));
  EXPECT_THAT(without([](Task& t) { t.clear_environment(); }),
              HasSubstr("environment is empty"));
  EXPECT_THAT(without([](Task& t) { t.set_split("test"); }),
              HasSubstr("\"test\""));
  EXPECT_THAT(without([](Task& t) { t.clear_messages(); }),
              HasSubstr("messages is empty"));
  EXPECT_THAT(without([](Task& t) { t.mutable_messages(0)->clear_role(); }),
              HasSubstr("message 0 has no role"));
  EXPECT_THAT(FormatTasks({Make("a"), Make("a")}).status().ToString(),
              HasSubstr("task id a is there twice"));
}

// Nobody writes to the FIFO: an open that waits would wait for ever.
TEST(TaskFileTest, WhatCannotBeATasksFileIsRefusedAtOnce) {
  const std::string fifo = std::string(getenv("TEST_TMPDIR")) + "/fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  alarm(10);
  EXPECT_TRUE(absl::IsInvalidArgument(ReadTaskFile(fifo).status()));
  alarm(0);
  const std::string large = Written("");
  ASSERT_EQ(truncate(large.c_str(), kTaskFileBytesMax + 1), 0);
  const absl::Status refused = ReadTaskFile(large).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_THAT(refused.ToString(), HasSubstr("take fewer tasks"));
}

TEST(TaskFileTest, AMissingFileIsNotFound) {
  EXPECT_EQ(ReadTaskFile(std::string(getenv("TEST_TMPDIR")) + "/none")
                .status()
                .code(),
            absl::StatusCode::kNotFound);
}

TEST(TaskFileTest, HeldOutTasksAreTheFirstOfEachEnvironment) {
  const auto make = [](const char* id, const char* environment,
                       const char* split) {
    Task task = Make(id);
    task.set_environment(environment);
    task.set_split(split);
    return task;
  };
  const std::vector<Task> tasks = {
      make("a", "math", "train"),   make("b", "math", "heldout"),
      make("c", "math", "heldout"), make("d", "interpreter", "heldout"),
      make("e", "math", "heldout"), make("f", "interpreter", "train")};
  std::string ids;
  for (const Task& task : HeldOutTasks(tasks, 2)) ids += task.id();
  EXPECT_EQ(ids, "bcd");
  EXPECT_TRUE(HeldOutTasks(tasks, 0).empty());
}

}  // namespace
}  // namespace temper
