#include "proto/wire/json_line.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/task.pb.h"

namespace temper {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(JsonLineTest, FieldsAreReadByTheirOwnNames) {
  Task task;
  ASSERT_TRUE(ParseJsonLine(R"({"id": "a", "payload_json": "{}"})", "f:1",
                            &task)
                  .ok());
  EXPECT_EQ(task.id(), "a");
  EXPECT_EQ(task.payload_json(), "{}");
}

TEST(JsonLineTest, AnErrorIsOneLineThatSaysWhatIsExpected) {
  for (const std::string line :
       {"{bad", "[1]", "", R"({"id": 1, "idd": 2})", R"({"messages": 3})",
        "{\"id\": \"\xff\"}"}) {
    Task task;
    const absl::Status status = ParseJsonLine(line, "tasks.jsonl:7", &task);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << line;
    EXPECT_THAT(std::string(status.message()),
                AllOf(StartsWith("tasks.jsonl:7: "), Not(HasSubstr("\n")),
                      HasSubstr("one Task of proto/task.proto")));
  }
}

}  // namespace
}  // namespace temper
