#include "environments/same_answer.h"

#include <cstdint>
#include <iterator>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

struct Pair {
  const char* a;
  const char* b;
};

constexpr Pair kEqual[] = {
    {"$42$", "42"},
    {"$$42$$", "42"},
    {"\\(42\\)", "42"},
    {"\\[ 42 \\]", "42"},
    {"**42**", "42"},
    {"***42***", "42"},
    {"**42.**", "42"},
    {"`42`", "42"},
    {"__42__", "42"},
    {"_4/2_", "2"},
    {"__E__", "E"},
    {"__New York__", "New York"},
    {"`__init__`", "__init__"},
    {"{42}", "42"},
    {"\\boxed{42}", "42"},
    {"\\$1,234.00", "1234"},
    {"$\\$1,234.00$", "1234"},
    {"-$5", "-5"},
    {"$-5", "- 5"},
    {"\xE2\x88\x92"
     "5",
     "-5"},
    {"1,234,567", "1234567"},
    {"1{,}234{,}567", "1234567"},
    {"1,\\!234", "1234"},
    {"1\\,234\\,567", "1234567"},
    {"1\xE2\x80\x89"
     "234",
     "1234"},
    {"12,345.50", "12345.5"},
    {"\\frac{1}{2}", "1/2"},
    {"\\dfrac12", "1/2"},
    {"\\tfrac{1}2", ".5"},
    {"\\frac 1 2", "1 / 2"},
    {"-\\frac{1}{2}", "\\frac{-1}{2}"},
    {"\\frac{-1}{-2}", "0.50"},
    {"\\frac{0.5}{2}", "1/4"},
    {"1\\frac{1}{2}", "3/2"},
    {"-1 1/2", "-1.5"},
    {"50\\%", "50 %"},
    {"50%", "1/2"},
    {"1.5 \\times 10^{3}", "1500"},
    {"1.5\xC3\x97"
     "10^3",
     "1.5e3"},
    {"2\\cdot10^{-3}", "0.002"},
    {"1e+16", "10000000000000000"},
    {"\\text{E}", "E"},
    {"(E)", "E"},
    {"**(E).**", "\\textbf{E}"},
    {"\\mathrm{cm}", "cm"},
    {"5\\,\\text{cm}", "5 cm"},
    {"2, 3", "2,3"},
    {"$2$, $3$", "2,3"},
    {"\\(2\\), \\(3\\)", "2,3"},
    {"**2**, **3**", "2,3"},
    {"1,23", "1, 23"},
    {"1, 234", "1,  234"},
    {"0,123", "0, 123"},
    {"1234,567", "1234, 567"},
    {"1.5,234", "1.5, 234"},
    {"(1/2, 3)", "\\left(\\frac12,3.0\\right)"},
    {"\\{1, 2\\}", "\\left\\{1,2\\right\\}"},
    {"[1, [2, 3]]", "[1,[2,3]]"},
    {"(2, 3]", "(2,3]"},
    {"5~cm", "5 cm"},
    {"\\$5 off", "$5 off"},
    {"x^{2} + 1", "x^2+1"},
    {"\\sqrt{2}", "\\sqrt2"},
    {"2 \\pi", "2\\pi"},
    {"\\dfrac{\\pi}{2}", "\\frac{\\pi}{2}"},
    {"Paris,  France", "Paris, France"},
    {"007", "7"},
    {"-0", "0"},
    {"0/7", "0.000"},
    {"(3,100)", "(3, 100)"},
    {"(1,100)", "\\left( {1,100} \\right)"},
    {"(-3,100]", "(-3, 100]"},
    {"[1,100,200)", "[1, 100, 200)"},
    {"\\{100,200,300\\}", "\\lbrace 300/3, 200, 300\\rbrace"},
    {"\\langle 3,100\\rangle", "\\langle 3, 100 \\rangle"},
    {"]1,100[", "]1, 100["},
    {"$(3,100)$", "\\((3,100)\\)"},
    {"\\(3,100\\)", "3100"},
    {"\\[3,100\\]", "3100"},
    {"(1,234), 5,678", "(1, 234), 5678"},
    {"(1{,}234, 5)", "(1234, 5)"},
    {"(1,\\!234,567)", "(1234, 567)"},
    {"(1\\,234,567)", "(1234, 567)"},
    {"1{,}234,567", "1234567"}};

TEST(SameAnswerTest, FormsOfOneValueAreEqual) {
  for (const Pair& one : kEqual) {
    EXPECT_TRUE(SameAnswer(one.a, one.b)) << one.a << " | " << one.b;
    EXPECT_TRUE(SameAnswer(one.b, one.a)) << one.b << " | " << one.a;
  }
}

constexpr Pair kUnequal[] = {
    {"42", "43"},
    {"__init__", "init"},
    {"_x_y_", "x_y"},
    {"42", "-42"},
    {"42", "4 2"},
    {"42", "4,2"},
    {"42", "42,"},
    {"42", "42.."},
    {"42", "\\text{4 }2"},
    {"42", "42%"},
    {"42",
     "4200%"
     " of it"},
    {"42",
     "$42"
     "$$"},
    {"42", "--42"},
    {"42", "42 cm"},
    {"42", "42\\text{ cm}"},
    {"90", "90^\\circ"},
    {"42",
     "\xE2\x82\xAC"
     "42"},
    {"42", "x=42"},
    {"42", "~42"},
    {"42", "\\sim 42"},
    {"42", "40+2"},
    {"42", "6*7"},
    {"42", "0x2a"},
    {"42", "42e"},
    {"42", "42e1"},
    {"42", "[42]"},
    {"42", "(42)"},
    {"42", "\xD9\xA4\xD9\xA2"},          // Arabic-Indic digits
    {"42", "\xEF\xBC\x94\xEF\xBC\x92"},  // full-width digits
    {"8", "2^3"},
    {"1000", "10^3"},
    {"1,234", "1, 234"},
    {"1234", "1,23,4"},
    {"1234567", "1234,567"},
    {"123", "0,123"},
    {"0.123", "0,123"},
    {"12345",
     "12,345\\,"
     "6"},
    {"1234567", "1,234\\,567"},
    {"2,3", "3,2"},
    {"(2,3)", "[2,3]"},
    {"(2,3)", "(2,3]"},
    {"(2,3)", "2,3"},
    {"\\{2,3\\}", "(2,3)"},
    {"1.5", "1. 5"},
    {"1/2", "1/2/1"},
    {"1/2", "2/1"},
    {"3/2", "1 2/1"},
    {"11/2", "1 1/2"},
    {"1/0", "2/0"},
    {"\\frac{1}{0}", "0"},
    {"\\frac{1}{2}", "\\frac{1}{2}3"},
    {"3-4", "3 -4"},
    {"x^{23}", "x^23"},
    {"f(2)", "g(2)"},
    {"(1)(2)", "(12)"},
    {"E", "e"},
    {"E", "F"},
    {"drow drow", "drowdrow"},
    {"\\pi r", "\\pir"},
    {"\\mathbb{R}", "R"},
    {"\\frac{\\pi}{2}", "\\pi/2"},
    {"", ""},
    {"\\!", ""},
    {"1e1001", "1e1002"},
    {"0", "1e-1001"},
    {"0", "0e99999999999999999999"},
    {"(3,100)", "(3100)"},
    {"(3,100)", "3100"},
    {"(0,100)", "(0100)"},
    {"[1,234]", "[1234]"},
    {"\\{100,200\\}", "\\{100200\\}"},
    {"\\langle 3,100\\rangle", "\\langle 3100\\rangle"},
    {"f(1,234)", "f(1234)"},
    {"]1,100[", "]1100["},
    {"(1{,}234)", "(1, 234)"},
    {"(1{,}234)", "(1,234)"},
    {"\\frac\\text{12}", "1/2"},
    {"\\frac \\mathrm{12}", "1/2"},
    {"\\frac\\text{ 12}", "1/2"},
    {"\\frac\\text{\\textbf{12}}", "1/2"},
    {"\\dfrac\\text{12}", "\\frac12"},
    {"\\frac1\\text{23}", "\\frac123"},
    {"\\frac{1}\\text{23}", "\\frac{1}23"},
    {"\\sqrt\\text{12}", "\\sqrt12"},
    {"\\sqrt[3]\\text{12}", "\\sqrt[3]12"},
    {"x^\\text{23}", "x^23"},
    {"x_\\text{23}", "x_23"},
    {"\\pi\\text{r}", "\\pir"},
    {"2\\text{e}3", "2000"},
    {"2\\mathrm{e}+1", "20"},
    {"2.5\\text{E}-1", "0.25"},
    {"2\\text{e3}", "2000"},
    {"2e\\text{3}", "2000"},
    {"2\\text{e}\\text{3}", "2000"},
    {"2e\\!3", "2000"},
    {"2\\!e3", "2000"},
    {"2\\!e\\!3", "2000"},
    {"2e\\!-3", "0.002"},
    {"2e\\text{-3}", "0.002"},
    {"\\text{2e}3", "2000"},
    {"\\text{2}e3", "2000"},
    {"2e\\displaystyle3", "2000"},
    {"2\\left.e\\right.3", "2000"},
    {"2e\x07"
     "3",
     "2000"},
    {"\\pi\\!r", "\\pir"},
    {"x^\\!2", "x^2"}};

TEST(SameAnswerTest, OtherValuesAndWhatIsMoreThanAValueAreNot) {
  for (const Pair& one : kUnequal) {
    EXPECT_FALSE(SameAnswer(one.a, one.b)) << one.a << " | " << one.b;
    EXPECT_FALSE(SameAnswer(one.b, one.a)) << one.b << " | " << one.a;
  }
}

TEST(SameAnswerTest, NumbersOfAnySizeAreComparedExactly) {
  const std::string nines(2000, '9');
  EXPECT_TRUE(SameAnswer(nines, nines + ".000"));
  EXPECT_FALSE(SameAnswer(nines, nines.substr(1) + "8"));
  EXPECT_TRUE(SameAnswer(nines + "/3", std::string(2000, '3')));
  EXPECT_FALSE(SameAnswer(nines + "/3", std::string(1999, '3') + "4"));
  EXPECT_TRUE(SameAnswer("18446744073709551616/2", "9223372036854775808"));
  EXPECT_TRUE(SameAnswer("0.1e1000", "1" + std::string(999, '0')));
  EXPECT_FALSE(SameAnswer("0.1", "0." + std::string(2000, '0') + "1"));
}

TEST(SameAnswerTest, WhatIsNestedDeeperIsComparedAsText) {
  const std::string open(2000, '('), close(2000, ')');
  EXPECT_TRUE(SameAnswer(open + "1" + close, open + "1" + close));
  EXPECT_FALSE(SameAnswer(open + "1" + close, open + "2" + close));
  EXPECT_FALSE(SameAnswer(open + "1" + close, open + "1.0" + close));
}

// A rational and many ways to write it.
class Fuzz {
 public:
  explicit Fuzz(uint32_t seed) : random_(seed) {}

  int64_t Below(int64_t limit) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(limit));
  }

  // A value with few near others: small parts meet often.
  std::pair<int64_t, int64_t> Value() {
    const int64_t limit = Below(3) == 0 ? 1'000'000'000 : 60;
    constexpr int64_t kDenominators[] = {1, 1, 2, 3, 4, 7, 10, 100, 1000};
    const int64_t below = kDenominators[Below(9)];
    const int64_t above = Below(limit) * (Below(3) == 0 ? -1 : 1);
    const int64_t divisor = std::gcd(above, below);
    return {above / divisor, below / divisor};
  }

  std::string Write(int64_t above, int64_t below) {
    const std::string sign =
        above < 0 ? Pick({"-", "- ", "\xE2\x88\x92"}) : Pick({"", "", "+"});
    return Wrap(sign + Unsigned(above < 0 ? -above : above, below));
  }

 private:
  std::string Pick(const std::vector<std::string>& choices) {
    return choices[Below(static_cast<int64_t>(choices.size()))];
  }

  std::string Grouped(const std::string& digits) {
    const std::string comma =
        Pick({"", ",", "{,}", ",\\!", "\\,", "\xE2\x80\x89", " ", "~"});
    std::string out;
    for (size_t i = 0; i < digits.size(); ++i) {
      if (i > 0 && (digits.size() - i) % 3 == 0) out += comma;
      out += digits[i];
    }
    return out;
  }

  std::string Unsigned(int64_t above, int64_t below) {
    const bool decimal = 1000 % below == 0;
    const int64_t k = 1 + Below(5);
    switch (Below(decimal ? 6 : 3)) {
      case 0:
        return std::to_string(above * k) + Pick({"/", " / "}) +
               std::to_string(below * k);
      case 1:
        return Pick({"\\frac", "\\dfrac", "\\tfrac "}) + "{" +
               std::to_string(above * k) + Pick({"}{", "} {"}) +
               std::to_string(below * k) + "}";
      case 2:
        if (above < below || above % below == 0) {
          return "\\frac{" + std::to_string(above) + "}{" +
                 std::to_string(below) + "}";
        }
        return Mixed(above / below, above % below, below);
      case 3:
        return Scientific(above * (1000 / below));
      case 4:
        return Percent(above * (1000 / below));
      default:
        return Decimal(above * (1000 / below), 3);
    }
  }

  std::string Mixed(int64_t whole, int64_t above, int64_t below) {
    const std::string first = std::to_string(whole);
    const std::string x = std::to_string(above), y = std::to_string(below);
    return Below(2) == 0 ? first + " " + x + "/" + y
                         : first + "\\frac{" + x + "}{" + y + "}";
  }

  // thousandths / 10^scale, `scale` digits after the point at least.
  std::string Decimal(int64_t digits, int scale) {
    std::string text = std::to_string(digits);
    if (static_cast<int>(text.size()) <= scale) {
      text.insert(0, static_cast<size_t>(scale) + 1 - text.size(), '0');
    }
    std::string whole = text.substr(0, text.size() - scale);
    std::string part = text.substr(text.size() - scale);
    while (!part.empty() && part.back() == '0') part.pop_back();
    part += Pick({"", "0", "00"});
    if (whole == "0" && !part.empty() && Below(2) == 0) return "." + part;
    return Grouped(whole) + (part.empty() ? "" : "." + part);
  }

  std::string Scientific(int64_t thousandths) {
    const int shift = static_cast<int>(Below(7));
    const std::string digits = Decimal(thousandths, 3 + shift);
    const std::string power = std::to_string(shift);
    return Below(2) == 0
               ? digits + Pick({"e", "E+"}) + power
               : digits + Pick({"\\times 10^{", " \\cdot 10^{"}) + power + "}";
  }

  std::string Percent(int64_t thousandths) {
    return Decimal(thousandths, 1) + Pick({"%", "\\%", " %"});
  }

  std::string Wrap(std::string text) {
    for (int64_t i = Below(3); i > 0; --i) {
      const std::vector<std::string> around = kAround[Below(9)];
      if (around[0] == "$" && text.find('$') != std::string::npos) continue;
      if (around[0] == "\\(" && text.find("\\)") != std::string::npos) continue;
      if (around[0] == "**" && text.find('*') != std::string::npos) continue;
      // {1,234} is a set, and in brackets blanks group nothing.
      if (around[0] == "{" && text.find_first_of(", ~") != std::string::npos) {
        continue;
      }
      text = around[0] + text + around[1];
    }
    return text;
  }

  const std::vector<std::vector<std::string>> kAround = {
      {"$", "$"},        {"\\(", "\\)"},   {"**", "**"},
      {" ", "\n"},       {"{", "}"},       {"", ""},
      {"\\boxed{", "}"}, {"\\text{", "}"}, {"\\displaystyle ", ""}};
  std::mt19937 random_;
};

TEST(SameAnswerTest, EqualValuesAreEqualHoweverWrittenAndOthersNever) {
  Fuzz fuzz(/*seed=*/8);
  std::pair<int64_t, int64_t> previous = {0, 1};
  int equal = 0, distinct = 0;
  for (int i = 0; i < 20000; ++i) {
    const auto [above, below] = fuzz.Value();
    const std::string one = fuzz.Write(above, below);
    const std::string other = fuzz.Write(above, below);
    ASSERT_TRUE(SameAnswer(one, other)) << one << " | " << other;
    ++equal;
    const std::string unlike = fuzz.Write(previous.first, previous.second);
    const bool same = previous == std::pair(above, below);
    ASSERT_EQ(SameAnswer(one, unlike), same) << one << " | " << unlike;
    distinct += !same;
    // Its nearest neighbours as well.
    const std::string more = fuzz.Write(above + below, below);
    ASSERT_FALSE(SameAnswer(one, more)) << one << " | " << more;
    previous = {above, below};
  }
  EXPECT_EQ(equal, 20000);
  EXPECT_GT(distinct, 15000);
}

constexpr const char* kParts[] = {"1",
                                  "2",
                                  "0",
                                  "12",
                                  "345",
                                  ",",
                                  ".",
                                  "-",
                                  "+",
                                  "/",
                                  " ",
                                  "$",
                                  "\\$",
                                  "%",
                                  "{",
                                  "}",
                                  "(",
                                  ")",
                                  "[",
                                  "]",
                                  "\\{",
                                  "\\}",
                                  "\\frac",
                                  "\\dfrac",
                                  "\\text{",
                                  "\\boxed{",
                                  "\\left(",
                                  "\\right)",
                                  "\\,",
                                  "\\!",
                                  "\\times",
                                  "10^",
                                  "e",
                                  "^",
                                  "x",
                                  "**",
                                  "*",
                                  "`",
                                  "\\(",
                                  "\\)",
                                  "\\",
                                  "\x01",
                                  "\x02",
                                  "\xC3",
                                  "\xE2\x88\x92",
                                  "####",
                                  "\\sqrt",
                                  "~",
                                  "\\quad",
                                  "_",
                                  "|",
                                  "<",
                                  ">",
                                  "\\left.",
                                  "\\cup",
                                  "{\\bf",
                                  "\\begin{pmatrix}",
                                  "\\end{pmatrix}",
                                  "&",
                                  "\\\\",
                                  "```",
                                  "\n",
                                  "\\mathbf",
                                  "\xC2\xB0",
                                  "\\pi"};

// Whatever it is made of, it is equal to itself or nothing, symmetrically, and
// no other number.
TEST(SameAnswerTest, AnyTextIsReadSymmetricallyAndIsNotAnotherNumber) {
  std::mt19937 random(9);
  const auto text = [&] {
    std::string made;
    for (size_t i = random() % 12; i > 0; --i) {
      made += kParts[random() % std::size(kParts)];
    }
    return made;
  };
  for (int i = 0; i < 50000; ++i) {
    const std::string a = text(), b = text();
    ASSERT_EQ(SameAnswer(a, b), SameAnswer(b, a)) << a << " | " << b;
    int numbers = 0;
    for (const char* number :
         {"1", "2", "12", "-1", "1/2", "345", "1345", "0"}) {
      numbers += SameAnswer(a, number);
    }
    ASSERT_LE(numbers, 1) << a;
  }
}

}  // namespace
}  // namespace temper
