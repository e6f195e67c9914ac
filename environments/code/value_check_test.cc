#include "environments/code/value_check.h"

#include <string>

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

struct Pair {
  const char* expected;
  const char* got;
};

TEST(ValueCheckTest, EqualInValueAndType) {
  for (const Pair& pair : {Pair{"1", "1"},
                           {"None", "None"},
                           {"'a'", "\"a\""},
                           {"[1, (2, 'x')]", "[1,(2,'x')]"},
                           {"{1: 2, 3: 4}", "{3: 4, 1: 2}"},
                           {"{1, 2}", "{2, 1}"},
                           {"2.0", "2"},
                           {"2.0", "2.0"},
                           {"nan", "nan"},
                           {"0.3", "0.30000000000000004"},
                           {"inf", "inf"},
                           {"0.0", "-0.0"},
                           {"[0.3]", "[0.30000000000000004]"},
                           {"b'a'", "b'a'"},
                           {"{'x': 0.1}", "{'x': 0.10000000000000001}"}}) {
    EXPECT_TRUE(Equal(Value(pair.expected), Value(pair.got), 0))
        << pair.expected << " " << pair.got;
  }
  for (const Pair& pair : {Pair{"1", "True"},
                           {"True", "1"},
                           {"0", "False"},
                           {"1", "1.0"},
                           {"2.0", "True"},
                           {"1", "'1'"},
                           {"'a'", "b'a'"},
                           {"None", "0"},
                           {"None", "False"},
                           {"[1, 2]", "[2, 1]"},
                           {"[1, 2]", "(1, 2)"},
                           {"[1]", "[1, 1]"},
                           {"[]", "None"},
                           {"[]", "{}"},
                           {"{}", "set()"},
                           {"{1: 2}", "{1: 3}"},
                           {"{1: 2}", "{True: 2}"},
                           {"{1}", "{1.0}"},
                           {"1.5", "nan"},
                           {"nan", "1.5"},
                           {"inf", "nan"},
                           {"inf", "-inf"},
                           {"1.5", "inf"},
                           {"1.5", "1.50001"},
                           {"0.0", "1e-12"},
                           {"[1.0, 2.0]", "[1.0, nan]"},
                           {"'a'", "'A'"},
                           {"'a'", "'a '"},
                           {"1000000000000000000001", "1000000000000000000000"},
                           {"{'a': 1, 'b': 2}", "{'a': 1}"}}) {
    EXPECT_FALSE(Equal(Value(pair.expected), Value(pair.got), 0))
        << pair.expected << " " << pair.got;
  }
}

TEST(ValueCheckTest, ToleranceIsAbsolute) {
  EXPECT_TRUE(Equal(Value("0.333"), Value("0.3334"), 1e-3));
  EXPECT_FALSE(Equal(Value("0.333"), Value("0.336"), 1e-3));
  EXPECT_FALSE(Equal(Value("0.333"), Value("nan"), 1e9));
  EXPECT_FALSE(Equal(Value("0.333"), Value("inf"), 1e9));
  EXPECT_FALSE(Equal(Value("1"), Value("2"), 1e9));  // of floats alone
}

TEST(ValueCheckTest, OtherChecks) {
  const PythonValue none;
  const auto passes = [&none](const char* check, const char* expected,
                              const char* got) {
    return Passes(*ValueCheckNamed(check), Value(expected), 0, none,
                  Value(got));
  };
  EXPECT_TRUE(passes("sequence", "[1, 2]", "(1, 2)"));
  EXPECT_TRUE(passes("sequence", "[1, 2]", "[1, 2]"));
  EXPECT_FALSE(passes("sequence", "[1, 2]", "{1, 2}"));
  EXPECT_FALSE(passes("sequence", "[1, 2]", "[2, 1]"));
  for (const char* falsy :
       {"None", "0", "0.0", "False", "''", "[]", "{}", "set()", "()"}) {
    EXPECT_TRUE(passes("truth", "False", falsy)) << falsy;
    EXPECT_FALSE(passes("truth", "True", falsy)) << falsy;
  }
  for (const char* truthy : {"1", "nan", "'0'", "[0]", "True", "-1"}) {
    EXPECT_TRUE(passes("truth", "True", truthy)) << truthy;
  }
  EXPECT_FALSE(ValueCheckNamed("eval").has_value());
}

TEST(ValueCheckTest, RootOfThePolynomialOfTheArguments) {
  const PythonValue arguments = Value("([-6, 11, -6, 1],)");
  const auto is_root = [&arguments](const char* got) {
    return Passes(ValueCheck::kRoot, PythonValue(), 1e-4, arguments,
                  Value(got));
  };
  EXPECT_TRUE(is_root("1"));
  EXPECT_TRUE(is_root("2.00001"));
  for (const char* wrong :
       {"1.5", "nan", "inf", "-inf", "True", "'2'", "None", "[2]"}) {
    EXPECT_FALSE(is_root(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace temper
