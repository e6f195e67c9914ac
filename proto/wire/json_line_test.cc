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
  ASSERT_TRUE(
      ParseJsonLine(R"({"id": "a", "payload_json": "{}"})", "f:1", &task).ok());
  EXPECT_EQ(task.id(), "a");
  EXPECT_EQ(task.payload_json(), "{}");
}

TEST(JsonLineTest, AnErrorIsOneLineThatSaysWhatIsExpected) {
  for (const std::string line :
       {"{bad", "[1]", "", R"({"id": 1, "idd": 2})", R"({"messages": 3})",
        R"({"id": {}})", "3", R"({"id": "a"} {})", "{\"id\": \"\xff\"}"}) {
    Task task;
    const absl::Status status = ParseJsonLine(line, "tasks.jsonl:7", &task);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << line;
    EXPECT_THAT(std::string(status.message()),
                AllOf(StartsWith("tasks.jsonl:7: "), Not(HasSubstr("\n")),
                      Not(StartsWith("tasks.jsonl:7: :")),
                      HasSubstr("one Task of proto/task.proto")));
  }
}

TEST(JsonLineTest, AnErrorSaysWhatIsAllowedAndWhatWasMeant) {
  const auto error = [](const std::string& line) {
    Task task;
    return std::string(ParseJsonLine(line, "t:1", &task).message());
  };
  EXPECT_THAT(error(R"({"messages": [{"contnt": "5"}]})"),
              AllOf(HasSubstr("(messages[0]) contnt: "),
                    HasSubstr("of fields id, environment, domain, split, "
                              "messages {role, content, reasoning_content, "
                              "tool_calls {name, arguments_json}}, payload_")));
  EXPECT_THAT(error(R"({"payload_json": {"answer": "5"}})"),
              HasSubstr("; payload_json is a string that holds the JSON; "));
  EXPECT_THAT(error("[1]"), StartsWith("t:1: Root element must be a message"));
  EXPECT_THAT(error("{\"id\": \"\xC3\xA4\xff\"}"),
              StartsWith("t:1: byte 11 (0xff) is not UTF-8: save "));
  EXPECT_THAT(error("{\"id\": \"\xC3"),
              StartsWith("t:1: byte 9 (0xc3) is not UTF-8: save "));
  EXPECT_THAT(error("\xEF\xBB\xBF{}"), HasSubstr("a byte-order mark"));
  // Half of a character, as JSON spells those beyond U+FFFF.
  EXPECT_THAT(error(R"({"id": "\udc00"})"),
              StartsWith("t:1: byte 9 (\\udc00)"));
  for (const std::string half :
       {R"(\udc00)", R"(\ud83d)", R"(\uD83D\u0041)", R"(\ude00\ud83d)"}) {
    EXPECT_THAT(error(R"({"id": "a\\\ud83d\ude00)" + half + "\"}"),
                StartsWith("t:1: byte 24 (" + half.substr(0, 6) +
                           ") is half of a surrogate pair: "))
        << half;
  }
}

}  // namespace
}  // namespace temper
