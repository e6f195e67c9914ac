#include "environments/plain_answer.h"

#include "environments/same_answer.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

struct Pair {
  const char* a;
  const char* b;
};

constexpr Pair kEqual[] = {
    {"\\frac\\text{1}\\text{2}", "1/2"},
    {"\\frac{\\text{1}}2", "1/2"},
    {"x^\\text{23}", "x^{23}"},
    {"x^\\mathrm{n}", "x^n"},
    {"\\sqrt\\text{12}", "\\sqrt{12}"},
    {"2\\mathrm{e}^3", "2e^3"},
    {"\\text{2e3}", "2000"},
    {"2e\\!3", "2\\text{e}3"},
    {"e\\!3", "e3"},
    {"4\\!2", "42"},
    {"3\\!\\frac12", "3.5"},
    {"\\pi\\!r", "\\pi r"},
    {"\\pi\\text{r}", "\\pi r"},
    {"2\\pi\\text{ cm}", "2\\pi cm"},
    {"\\frac{1}{2}\\text{ cm}", "\\frac{1}{2} cm"},
    {"\\frac12\\text{ cm}", "\\frac12 cm"},
    {"90^{\\circ}", "90^\\circ"},
    {"60\xC2\xB0", "60^\\circ"},
    {"60^{\\circ}C",
     "60\xC2\xB0"
     "C"},
    {"f^{\\prime}(x)", "f^\\prime(x)"},
    {"\\sqrt 2", "\\sqrt{2}"},
    {"\\sqrt x", "\\sqrt{x}"},
    {"\\sqrt[3] 2", "\\sqrt[3]{2}"},
    {"\\frac{\\pi}2", "\\frac{\\pi}{2}"},
    {"\\frac\\pi2", "\\dfrac{\\pi}{2}"},
    {"\\frac\\pi\\xi", "\\frac{\\pi}{\\xi}"},
    {"\\frac ab", "\\frac{a}{b}"},
    {"\\frac{x+1}2", "\\frac{x+1}{2}"},
    {"\\frac\\sqrt23", "\\frac{\\sqrt{2}}{3}"},
    {"\\frac{\\sqrt2}2", "\\frac{\\sqrt{2}}{2}"},
    {"\\frac{1}{2}x", "\\frac12x"},
    {"x^\\frac12", "x^{\\frac{1}{2}}"},
    {"x^-1", "x^{-1}"},
    {"10^{12}x", "10^12x"},
    {"a_n", "a_{n}"},
    {"\\text {E}", "E"},
    {"\\mathrm {E}", "E"},
    {"\\mathbf E", "E"},
    {"\\boldsymbol{x}", "x"},
    {"\\bm{x}", "x"},
    {"\\underline{42}", "42"},
    {"\\textnormal{E}", "E"},
    {"\\emph{yes}", "yes"},
    {"{\\bf 42}", "42"},
    {"{\\bf 1,234}", "1234"},
    {"{\\displaystyle 1,234}", "1234"},
    {"x\\leq 3", "x\\le3"},
    {"x \xE2\x89\xA4 3", "x \\leqslant 3"},
    {"x\\geq 3", "x\\ge 3"},
    {"x\\neq 3", "x\\ne 3"},
    {"\\big(1,2\\big)", "(1,2)"},
    {"\\Big(\\tfrac12,2\\Bigr)", "(0.5,2)"},
    {"\\dbinom{5}{2}", "\\binom52"},
    {"3,~4", "3,4"},
    {"42\\$", "42"},
    {"4\xE2\x80\x8B"
     "2",
     "42"},
    {"__42__", "42"},
    {"_42_", "42"},
    {"```\n42\n```", "42"},
    {"```text\n1,234\n```", "1234"},
    {"2\xCF\x80", "2\\pi"},
    {"(-\xE2\x88\x9E, 3]", "(-\\infty,3]"},
    {"\\begin{pmatrix} \\frac12 & 2 \\\\ 3 & 4 \\end{pmatrix}",
     "\\begin{pmatrix}1/2&2\\\\3&4.0\\\\\\end{pmatrix}"},
    {"(-\\infty,1/2)\\cup(2,3]", "(-\\infty, \\frac12) \xE2\x88\xAA (2, 3.0]"},
    {"{3,100}", "\\{3, 100\\}"},
    {"\\boxed{{3,100}}", "\\{3,100\\}"},
    {"\\left\\{3,100\\right\\}", "{3, 100}"},
    {"{1{,}234}", "1234"},
    {"\\boxed{1,234}", "1234"},
    {"\\frac{1,234}{2}", "617"},
    {"|1,234|", "|1, 234|"},
    {"x_{1,234}", "x_{1, 234}"},
    {"C_{5,100}", "C_{5, 100}"},
    {"<3,100>", "<3, 100>"},
    {"\xE2\x9F\xA8"
     "3,100\xE2\x9F\xA9",
     "\\langle 3, 100\\rangle"},
    {"2 < x < 1,000", "2<x<1000"},
    {"\\left.5\\right.", "5"},
    {"4\v2", "4 2"},
    {"\\pi 2", "\\pi2"}};

TEST(PlainAnswerTest, SpellingsOfOneThingAreOnePlainAnswer) {
  for (const Pair& one : kEqual) {
    EXPECT_TRUE(SameAnswer(one.a, one.b)) << one.a << " | " << one.b;
    EXPECT_TRUE(SameAnswer(one.b, one.a)) << one.b << " | " << one.a;
  }
}

constexpr Pair kUnequal[] = {
    {"{3,100}", "3100"},
    {"{3,100}", "\\{3100\\}"},
    {"{3,100}", "3,100"},
    {"\\boxed{{3,100}}", "3100"},
    {"|1,234|", "|1234|"},
    {"\\lvert 1,234\\rvert", "|1234|"},
    {"\\|1,234\\|", "\\|1234\\|"},
    {"x_{1,234}", "x_{1234}"},
    {"x_1,234", "x_1234"},
    {"C_{5,100}", "C_{5100}"},
    {"x^{1,234}", "x^{1234}"},
    {"<3,100>", "<3100>"},
    {"\xE2\x9F\xA8"
     "3,100\xE2\x9F\xA9",
     "\\langle 3100\\rangle"},
    {"\\left.5\\right.", "0.5"},
    {"4\v2", "42"},
    {"4\x7F"
     "2",
     "42"},
    {"4\x01"
     "2",
     "42"},
    {"1\x01"
     "234",
     "1234"},
    {"\\frac\\pi\\text{12}", "\\frac\\pi12"},
    {"\\frac\\pi23", "\\frac{\\pi}{23}"},
    {"\\frac abc", "\\frac{a}{bc}"},
    {"\\sqrt 23", "\\sqrt{23}"},
    {"x^23", "x^{23}"},
    {"x_{12}", "x_12"},
    {"10^{1}2", "10^{12}"},
    {"210^12", "210^{12}"},
    {"$42\\$", "$42$$"},
    {"\\$42\\$", "42"},
    {"~42", "42"},
    {"\\begin{pmatrix}1&2\\end{pmatrix}", "\\begin{bmatrix}1&2\\end{bmatrix}"},
    {"\\begin{pmatrix}1&2\\end{pmatrix}",
     "\\begin{pmatrix}1\\\\2\\end{pmatrix}"},
    {"\\begin{pmatrix}1&2\\end{pmatrix}", "\\begin{pmatrix}12\\end{pmatrix}"},
    {"(1,2)\\cup(3,4)", "(1,2)\\cup(3,5)"},
    {"(1,2)\\cup(3,4)", "(1,2),(3,4)"},
    {"``` 42 ```", "43"},
    {"1e1001", "10e1000"}};

TEST(PlainAnswerTest, OtherThingsAreNot) {
  for (const Pair& one : kUnequal) {
    EXPECT_FALSE(SameAnswer(one.a, one.b)) << one.a << " | " << one.b;
    EXPECT_FALSE(SameAnswer(one.b, one.a)) << one.b << " | " << one.a;
  }
}

// What the header says that every plain answer is.
TEST(PlainAnswerTest, ArgumentsHaveBracesAndGroupsAreJoined) {
  EXPECT_EQ(PlainAnswer("\\dfrac1{1,234}"), "\\frac{1}{1234}");
  EXPECT_EQ(PlainAnswer("\\sqrt[3]\\frac\\pi\\text{12}^\\circ"),
            "\\sqrt[3]{\\frac{\\pi}{12}}^{\\circ}");
  EXPECT_EQ(PlainAnswer("{\\sqrt} 1\\,234 2\\,3"), "{\\sqrt} 1234 2 3");
  EXPECT_EQ(PlainAnswer("x_\\frac"), "x_{\\frac}");
}

}  // namespace
}  // namespace temper
