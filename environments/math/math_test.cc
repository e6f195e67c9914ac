#include "environments/math/math.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<Observation> ResetWith(const std::string& payload) {
  Task task;
  task.set_id("t");
  task.add_messages()->set_role("user");
  task.set_payload_json(payload);
  return (*NewMathEnvironment({}))->Reset(task, 1);
}

TEST(MathEnvironmentTest, ToolsOfThePayloadAreDescribedInTheirOrder) {
  EXPECT_TRUE(ResetWith(R"({"answer":"1"})")->tools.empty());
  const auto seen = ResetWith(
      R"({"answer":"1","tools":[{"name":"z","a":{"y":1,"b":2}},{"name":"c"}]})");
  ASSERT_TRUE(seen.ok()) << seen.status();
  ASSERT_EQ(seen->tools.size(), 2u);
  EXPECT_EQ(seen->tools[0].name(), "z");
  EXPECT_EQ(seen->tools[0].function_json(),
            R"({"name":"z","a":{"y":1,"b":2}})");
}

TEST(MathEnvironmentTest, RefusesToolsThatAreNone) {
  for (const char* tools : {"{}", "[1]", "[{}]", "[{\"name\":2}]",
                            "[{\"name\":\"a\"},{\"name\":\"a\"}]"}) {
    EXPECT_THAT(
        ResetWith(std::string(R"({"answer":"1","tools":)") + tools + "}")
            .status()
            .ToString(),
        HasSubstr("task t: payload_json.tools must be"))
        << tools;
  }
}

TEST(MathEnvironmentTest, ToolsNestedTooDeeplyAreRefused) {
  const std::string deep(200'000, '[');
  EXPECT_THAT(ResetWith(R"({"answer":"1","tools":[{"name":"x","p":)" + deep +
                        std::string(deep.size(), ']') + "}]}")
                  .status()
                  .ToString(),
              HasSubstr("task t: payload_json nests deeper than"));
}

}  // namespace
}  // namespace temper
