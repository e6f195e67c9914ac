#include "kernels/model/strict_json.h"

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

std::string Message(const std::string& text) {
  return std::string(ParseStrictJson(text, "f.json").status().message());
}

TEST(StrictJsonTest, ReadsNestedValues) {
  const auto json = ParseStrictJson(R"({"a": {"b": [1, 2]}, "b": 3})", "f");
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ((*json)["a"]["b"][1], 2);
  EXPECT_EQ((*json)["b"], 3);
}

TEST(StrictJsonTest, RefusesAKeyThatOccursTwiceInOneObject) {
  EXPECT_TRUE(
      absl::StrContains(Message(R"({"a": {"b": 1, "b": 2}})"), "\"b\""));
  EXPECT_EQ(Message(R"({"a": {"b": 1}, "c": {"b": 2}})"), "");
}

TEST(StrictJsonTest, RefusesWhatIsNotOneJsonValue) {
  for (const char* text : {"", "{", "{} {}", "{\"a\": NaN}", "{'a': 1}"}) {
    EXPECT_TRUE(absl::StrContains(Message(text), "not valid JSON")) << text;
  }
}

TEST(StrictJsonTest, RefusesDeepNestingWithoutRecursing) {
  EXPECT_TRUE(absl::StrContains(Message(std::string(1 << 20, '[')), "deeper"));
  EXPECT_EQ(Message("[[[[[[[[1]]]]]]]]"), "");
}

}  // namespace
}  // namespace temper
