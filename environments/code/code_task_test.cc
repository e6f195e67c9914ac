#include "environments/code/code_task.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<CodeTask> Read(const std::string& payload) {
  Task task;
  task.set_id("t");
  task.set_payload_json(payload);
  return ReadCodeTask(task);
}

TEST(CodeTaskTest, ReadsFunctionsAndPrograms) {
  const auto function = Read(
      R"({"entry_point": "f", "prelude": "import math", "examples":
      [{"args": "", "value": "1"}], "tests": [{"args": "[1], 'a'", "value":
      "2.5", "tolerance": 0.5}, {"args": "[1]", "check": "root"}]})");
  ASSERT_TRUE(function.ok()) << function.status();
  EXPECT_EQ(ToPython(function->examples[0].arguments), "()");
  EXPECT_EQ(ToPython(function->tests[0].arguments), "([1], 'a')");
  EXPECT_EQ(function->tests[0].tolerance, 0.5);
  EXPECT_EQ(ToPython(function->tests[1].arguments), "([1],)");
  EXPECT_EQ(function->tests[1].check, ValueCheck::kRoot);
  const auto program =
      Read(R"({"language": "cpp", "tests": [{"stdin": "1", "stdout": "2"}]})");
  ASSERT_TRUE(program.ok()) << program.status();
  EXPECT_EQ(program->language, CodeTask::Language::kCpp);
  EXPECT_EQ(program->tests[0].stdout_text, "2");
}

TEST(CodeTaskTest, RefusesByField) {
  const struct {
    const char* payload;
    const char* fault;
  } kBad[] = {
      {R"j({})j", "tests must be"},
      {R"j({"tests": []})j", "tests must be"},
      {R"j({"tests": 1})j", "tests must be a list"},
      {R"j({"language": "rust", "tests": []})j", "language must be"},
      {R"j({"entry_point": "f g", "tests": []})j", "entry_point"},
      {R"j({"entry_point": "1f", "tests": []})j", "entry_point"},
      {R"j({"entry_point": "f()", "tests": []})j", "entry_point"},
      {R"j({"entry_point": "f", "language": "cpp"})j", "entry_point"},
      {R"j({"prelude": "x", "tests": []})j", "prelude"},
      {R"j({"tests": [{"stdin": "1"}]})j", "tests[0] must be"},
      {R"j({"tests": [{"stdin": "1", "stdout": 2}]})j",
       "tests[0].stdout must be a string"},
  };
  for (const auto& bad : kBad) {
    const auto status = Read(bad.payload).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(status.ToString(),
                HasSubstr(std::string("payload_json.") + bad.fault))
        << bad.payload;
  }
}

TEST(CodeTaskTest, RefusesTestsOfAFunctionByField) {
  const struct {
    const char* test;
    const char* fault;
  } kBad[] = {
      {R"j({"args": "1"})j", " must be an object with the keys args value"},
      {R"j({"args": "1+1", "value": "2"})j", ".args is no plain Python value"},
      {R"j({"args": "f()", "value": "2"})j", ".args is no plain Python value"},
      {R"j({"args": "1), g(2", "value": "2"})j",
       ".args is no plain Python value"},
      {R"j({"args": "1", "value": "x"})j", ".value is no plain Python value"},
      {R"j({"args": "1", "value": "1", "check": "eval"})j", ".check must be"},
      {R"j({"args": "1", "value": "1", "check": "truth"})j", ".check must be"},
      {R"j({"args": "1", "value": "1", "tolerance": -1})j",
       ".tolerance must be"},
      {R"j({"args": "1", "value": "1", "chekc": "x"})j", " must be an object"},
  };
  for (const auto& bad : kBad) {
    const auto status = Read(std::string(R"({"entry_point": "f", "tests": [)") +
                             bad.test + "]}")
                            .status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(status.ToString(),
                HasSubstr(std::string("payload_json.tests[0]") + bad.fault))
        << bad.test;
  }
}

TEST(CodeTaskTest, TheNumberOfTestsIsBounded) {
  std::string many;
  for (size_t i = 0; i <= kTestsMax / 2; ++i) {
    many += std::string(i > 0 ? "," : "") + R"({"stdin": "", "stdout": ""})";
  }
  EXPECT_TRUE(Read("{\"tests\": [" + many + "]}").ok());
  EXPECT_FALSE(
      Read("{\"tests\": [" + many + "], \"examples\": [" + many + "]}").ok());
}

TEST(CodeTaskTest, TheCodeIsTheLastClosedFence) {
  EXPECT_EQ(ExtractCode("x = 1"), "x = 1");
  EXPECT_EQ(ExtractCode("so:\n```python\nx = 1\n```\nand"), "x = 1\n");
  EXPECT_EQ(ExtractCode("```\na\n```\n```cpp\nb\n\nc\n```"), "b\n\nc\n");
  EXPECT_EQ(ExtractCode("```\na\n```\n```\nb"), "a\n");
  EXPECT_EQ(ExtractCode("```\nb"), "");
  EXPECT_EQ(ExtractCode("```\n```"), "");
  EXPECT_EQ(ExtractCode(""), "");
}

TEST(CodeTaskTest, OutputsAreEqualInTheirLines) {
  EXPECT_EQ(CanonicalOutput("1 2 \r\n3\n\n\n"), "1 2\n3");
  EXPECT_EQ(CanonicalOutput("1 2\n3"), "1 2\n3");
  EXPECT_NE(CanonicalOutput(" 1"), CanonicalOutput("1"));
  EXPECT_NE(CanonicalOutput("1\n\n2"), CanonicalOutput("1\n2"));
  EXPECT_NE(CanonicalOutput("1  2"), CanonicalOutput("1 2"));
  EXPECT_EQ(CanonicalOutput(""), "");
}

}  // namespace
}  // namespace temper
