#include "environments/payload.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Task TaskWith(const std::string& payload) {
  Task task;
  task.set_id("t7");
  task.set_payload_json(payload);
  return task;
}

std::string Refusal(const std::string& payload) {
  const auto read = ReadPayload(TaskWith(payload), {"answer", "table"});
  EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(read.status().message());
}

TEST(PayloadTest, TheKeysThatAreKnownAreReadInTheirOrder) {
  const auto payload = ReadPayload(
      TaskWith(R"({"table": {"answer": 1, "x": 2}, "answer": "5"})"),
      {"answer", "table"});
  ASSERT_TRUE(payload.ok()) << payload.status();
  EXPECT_EQ(payload->dump(), R"({"table":{"answer":1,"x":2},"answer":"5"})");
  EXPECT_TRUE(ReadPayload(TaskWith("{}"), {"answer"}).ok());
}

TEST(PayloadTest, AnyOtherKeyAndARepeatedOneIsNamedWithWhatIsAllowed) {
  EXPECT_THAT(Refusal(R"({"anwser": "5"})"),
              AllOf(HasSubstr("task t7: payload_json has the key \"anwser\""),
                    HasSubstr("its keys are answer, table")));
  EXPECT_THAT(Refusal(R"({"answer": "5", "answer": "6"})"),
              HasSubstr("has twice the key \"answer\""));
}

TEST(PayloadTest, ARepeatedKeyIsRefusedWhereverItStands) {
  EXPECT_THAT(Refusal(R"({"table": {"x": [{"a": 1, "b": 2, "a": 3}]}})"),
              HasSubstr("has twice the key \"a\""));
  EXPECT_TRUE(ReadPayload(TaskWith(R"({"table": {"a": {"a": 1}, "b": [{"a": 1},
                                   {"a": 2}]}})"),
                          {"table"})
                  .ok());
}

// What reads a payload on may go into it by recursion.
TEST(PayloadTest, WhatIsNestedTooDeeplyIsRefused) {
  const auto nested = [](int depth) {
    return "{\"table\":" + std::string(depth - 1, '[') +
           std::string(depth - 1, ']') + "}";
  };
  EXPECT_TRUE(ReadPayload(TaskWith(nested(kPayloadDepthMax)), {"table"}).ok());
  for (const int depth : {kPayloadDepthMax + 1, 200'000}) {
    EXPECT_THAT(Refusal(nested(depth)),
                HasSubstr("payload_json nests deeper than 64"));
  }
}

TEST(PayloadTest, WhatIsNoObjectIsRefused) {
  for (const char* bad : {"", "{", "{\"answer\": \"5\""}) {
    EXPECT_THAT(Refusal(bad), HasSubstr("payload_json is not JSON")) << bad;
  }
  for (const char* bad : {"[1]", "5", "\"answer\"", "null"}) {
    EXPECT_THAT(Refusal(bad), HasSubstr("payload_json is no JSON object"))
        << bad;
  }
}

TEST(PayloadTest, APromptHasAMessage) {
  Task task = TaskWith("{}");
  EXPECT_THAT(std::string(PromptOf(task).status().message()),
              HasSubstr("task t7: messages is empty"));
  task.add_messages()->set_role("user");
  const auto prompt = PromptOf(task);
  ASSERT_TRUE(prompt.ok());
  EXPECT_EQ(prompt->messages.size(), 1u);
  EXPECT_TRUE(prompt->tools.empty());
}

}  // namespace
}  // namespace temper
