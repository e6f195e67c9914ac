#include "environments/code/value_check.h"

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "environments/code/python_value.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

PythonValue Value(const std::string& text) {
  const auto value = ParsePythonValue(text);
  EXPECT_TRUE(value.ok()) << text << ": " << value.status();
  return value.ok() ? *value : PythonValue();
}

TEST(PythonValueTest, WritesWhatItReads) {
  for (const char* text : {"None",
                           "True",
                           "False",
                           "0",
                           "-12",
                           "1.5",
                           "-0.0",
                           "1e999",
                           "-1e999",
                           "'a'",
                           "'it\\'s'",
                           "'\\x00\\\\\\x0a'",
                           "'\xC3\xA9'",
                           "'\\ud800'",
                           "b'\\xff\\x00a'",
                           "[]",
                           "[1, [2.0, 'x']]",
                           "()",
                           "(1,)",
                           "(1, 2)",
                           "{}",
                           "{*()}",
                           "{1: [2], 'a': None}",
                           "{'a', 'b'}",
                           "123456789012345678901234567890"}) {
    EXPECT_EQ(ToPython(Value(text)), text);
  }
}

TEST(PythonValueTest, ReadsWhatPythonWritesOtherwise) {
  EXPECT_EQ(ToPython(Value("set()")), "{*()}");
  EXPECT_EQ(ToPython(Value("\"a'\\n\\t\\\"\"")), "'a\\'\\x0a\\x09\"'");
  EXPECT_EQ(ToPython(Value("'\\u00e9\\U0001f600\\x41'")),
            "'\xC3\xA9\xF0\x9F\x98\x80"
            "A'");
  EXPECT_EQ(ToPython(Value("inf")), "1e999");
  EXPECT_EQ(ToPython(Value("nan")), "(1e999-1e999)");
  EXPECT_EQ(ToPython(Value("1e+16")), "10000000000000000.0");
  EXPECT_EQ(ToPython(Value("0.1")), "0.10000000000000001");
  EXPECT_EQ(ToPython(Value("-0")), "0");
  EXPECT_EQ(ToPython(Value("(1)")), "1");
  EXPECT_EQ(ToPython(Value(" [ 1 ,2, ] ")), "[1, 2]");
  // A candidate sees the order of a dict; as a value it has none.
  EXPECT_EQ(ToPython(Value("{'b': 1, 'a': 2}")), "{'b': 1, 'a': 2}");
  EXPECT_EQ(CanonicalText(Value("{'b': 1, 'a': {4, 3}}")),
            CanonicalText(Value("{'a': {3, 4}, 'b': 1}")));
}

TEST(PythonValueTest, RefusesWhatIsNoPlainValue) {
  const std::string deep(kValueDepthMax + 2, '[');
  for (const std::string& text : {std::string(),
                                  std::string("x"),
                                  std::string("[1"),
                                  std::string("1 2"),
                                  std::string("[1 2]"),
                                  std::string("[,]"),
                                  std::string("'a"),
                                  std::string("'\\q'"),
                                  std::string("'\\x4'"),
                                  std::string("'\\ud80'"),
                                  std::string("'\\U00110000'"),
                                  std::string("'a\nb'"),
                                  std::string("'\xFF'"),
                                  std::string("b'\xC3\xA9'"),
                                  std::string("b'\\u0041'"),
                                  std::string("01"),
                                  std::string("1_000"),
                                  std::string("0x10"),
                                  std::string("1e"),
                                  std::string("+1"),
                                  std::string("-"),
                                  std::string("--1"),
                                  std::string("{1: }"),
                                  std::string("{1: 2, 3}"),
                                  std::string("{1, 2: 3}"),
                                  std::string("{1, 1}"),
                                  std::string("{'a': 1, 'a': 2}"),
                                  std::string("__import__('os')"),
                                  std::string("[].append"),
                                  std::string("1 + 1"),
                                  std::string("Truely"),
                                  std::string("3j"),
                                  std::string("[1]\0", 4),
                                  deep + std::string(deep.size(), ']'),
                                  std::string(kValueBytesMax + 1, ' ')}) {
    EXPECT_EQ(ParsePythonValue(text).status().code(),
              absl::StatusCode::kInvalidArgument)
        << text.substr(0, 80);
  }
}

// Of tools/peers/value_check.tsv, which what translates tests is held to as
// well.
TEST(ValueCheckTest, PassesWhatTheTableSays) {
  std::ifstream in("tools/peers/value_check.tsv");
  size_t cases = 0;
  for (std::string line; std::getline(in, line);) {
    if (line[0] == '#') continue;
    const std::vector<std::string> row = absl::StrSplit(line, '\t');
    ASSERT_EQ(row.size(), 6u) << line;
    const auto check = ValueCheckNamed(row[0]);
    ASSERT_TRUE(check.has_value()) << line;
    double tolerance = 0;
    ASSERT_TRUE(absl::SimpleAtod(row[1], &tolerance)) << line;
    const PythonValue arguments =
        Value(row[2].empty() ? "()" : absl::StrCat("(", row[2], ",)"));
    EXPECT_EQ(
        Passes(*check, Value(row[3]), tolerance, arguments, Value(row[4])),
        row[5] == "yes")
        << line;
    ++cases;
  }
  EXPECT_GE(cases, 90u);
  EXPECT_FALSE(ValueCheckNamed("eval").has_value());
}

}  // namespace
}  // namespace temper
