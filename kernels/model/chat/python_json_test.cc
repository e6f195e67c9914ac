#include "kernels/model/chat/python_json.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

TEST(PythonJsonTest, PrintsAsJsonDumpsDoes) {
  // Right column: Python 3.11, json.dumps(json.loads(x), ensure_ascii=False).
  const std::pair<const char*, const char*> cases[] = {
      {R"({"a":1,"b":[1,2,{"c":null}],"d":{}})",
       R"({"a": 1, "b": [1, 2, {"c": null}], "d": {}})"},
      {R"([[],[[]],{"x":[true,false]}])",
       R"([[], [[]], {"x": [true, false]}])"},
      {R"([1e-7,1.0,1e5,1E16,0.0001,1.5e300,-0.0,12345.678])",
       R"([1e-07, 1.0, 100000.0, 1e+16, 0.0001, 1.5e+300, -0.0, 12345.678])"},
      {"[123456789012345678901234567890,-5]",
       "[123456789012345678901234567890, -5]"},
      {R"("\u00e9\u70b9\ud83d\ude00\n\u0007\"\\\/")", R"("é点😀\n\u0007\"\\/")"},
      {"7", "7"}};
  for (const auto& [in, expected] : cases) {
    const auto out = PythonJson(in);
    ASSERT_TRUE(out.ok()) << in << out.status();
    EXPECT_EQ(*out, expected);
  }
}

TEST(PythonJsonTest, MembersKeepTheirOrderAndKnowStrings) {
  const auto m =
      JsonMembers(R"({"z":"a\"b","y":[1,2],"x":"","w":{"q":"r"},"v":1.5})");
  ASSERT_TRUE(m.ok()) << m.status();
  ASSERT_EQ(m->size(), 5u);
  EXPECT_EQ((*m)[0].key, "z");
  EXPECT_TRUE((*m)[0].is_string);
  EXPECT_EQ((*m)[0].value, "a\"b");
  EXPECT_FALSE((*m)[1].is_string);
  EXPECT_EQ((*m)[1].value, "[1, 2]");
  EXPECT_TRUE((*m)[2].is_string);
  EXPECT_EQ((*m)[3].value, R"({"q": "r"})");
  EXPECT_EQ((*m)[4].value, "1.5");
  EXPECT_TRUE(JsonMembers("{}")->empty());
}

TEST(PythonJsonTest, RefusesWhatIsNotOneValue) {
  for (const char* bad :
       {"", "{", "[1,]", "{\"a\":1}x", "nul", "\"\xFF\"", "1e999"}) {
    EXPECT_EQ(PythonJson(bad).status().code(),
              absl::StatusCode::kInvalidArgument)
        << bad;
  }
  for (const char* bad : {"1", "[]", "\"a\""})
    EXPECT_FALSE(JsonMembers(bad).ok()) << bad;
  EXPECT_THAT(PythonJson(R"([{"k":1,"k":2}])").status().ToString(),
              HasSubstr("key \"k\" is there twice"));
  EXPECT_FALSE(JsonMembers(R"({"k":1,"k":2})").ok());
}

TEST(PythonJsonTest, LimitsDepthAndLength) {
  const int n = kPythonJsonDepthMax;
  EXPECT_TRUE(PythonJson(std::string(n, '[') + std::string(n, ']')).ok());
  EXPECT_EQ(PythonJson(std::string(n + 1, '[') + std::string(n + 1, ']'))
                .status()
                .code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(
      PythonJson(std::string(kPythonJsonBytesMax + 1, ' ')).status().code(),
      absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace temper
