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
    {"\\pi 2", "\\pi2"},
    {"2 n+1", "2n + 1"},
    {"1/2 x", "1/2x"},
    {"2.5 e^x", "2.5e^x"},
    {"5 cm", "5cm"},
    {"(0,+\\infty)", "(0,\\infty)"},
    {"+\\infty", "\xE2\x88\x9E"},
    {"x \\in ( 0, + \\infty)", "x\\in(0,\\infty)"},
    {"x = +3y", "x=3y"},
    {"\xC2\xB1"
     "2",
     "\\pm 2"},
    {"a\xE2\x88\x93"
     "b",
     "a \\mp b"},
    {"\xE2\x88\x9A"
     "2",
     "\\sqrt2"},
    {"2\xE2\x88\x9A"
     "10",
     "2\\sqrt{10}"},
    {"\xE2\x88\x9A 2.5", "\\sqrt{2.5}"},
    {"\xE2\x88\x9Ax", "\\sqrt{x}"},
    {"\xC2\xBD", "1/2"},
    {"-1\xC2\xBE", "-1.75"},
    {"\xE2\x85\x94", "2/3"},
    {"\xE2\x85\x9E", "0.875"},
    {"x\xC2\xB2", "x^2"},
    {"x\xC2\xB9\xE2\x81\xB4", "x^{14}"},
    {"2\xC3\x97"
     "10\xE2\x81\xBB\xC2\xB3",
     "0.002"},
    {"x\xE2\x82\x81\xE2\x82\x82", "x_{12}"},
    {"\xE2\x88\x85", "\\emptyset"},
    {"\xE2\x80\x91"
     "5",
     "-5"},
    {"\xE2\x80\x90"
     "5",
     "-5"},
    {"2\xEF\xBC\x8C"
     "3",
     "2, 3"},
    {"2\xEF\xBC\x8C"
     "300",
     "2, 300"},
    {"2\xE3\x80\x81"
     "3",
     "2,3"},
    {"\xEF\xBC\x88"
     "1\xEF\xBC\x8C"
     "2\xEF\xBC\x89",
     "(1,2)"},
    {"\xEF\xBD\x9B"
     "1, 2\xEF\xBD\x9D",
     "\\{1,2\\}"},
    {"42\xE3\x80\x82", "42"},
    {"50\xEF\xBC\x85", "1/2"},
    {"x\xEF\xBC\x9D\xEF\xBC\x8D"
     "3\xEF\xBC\x8B"
     "y",
     "x=-3+y"},
    {"\xE3\x80\x80"
     "42",
     "42"},
    {"10 000", "10,000"},
    {"10\\ 000", "10000"},
    {"10~000", "10000"},
    {"10\xC2\xA0"
     "000",
     "10000"},
    {"-$1 234 567.50", "-1234567.5"},
    {"1 234, 5", "1234, 5"},
    {"10 000 km", "10000km"},
    {"1 123/200", "1.615"}};

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
    {"1e1001", "10e1000"},
    {"x 2", "x2"},
    {"A1 B", "A1B"},
    {"2 e3", "2e3"},
    {"x=2 e+1", "x=2e+1"},
    {"x+\\infty", "x\\infty"},
    {"+-2", "-2"},
    {"Ca^{+2}", "Ca^{2}"},
    {"+", "++"},
    {"\xC2\xB1"
     "2",
     "2"},
    {"\xE2\x88\x9A"
     "10",
     "\\sqrt{1}0"},
    {"\xE2\x88\x9A(x+1)", "\\sqrt{x+1}"},
    {"x\xC2\xB9\xC2\xB2", "x^1 2"},
    {"x\xC2\xB2", "x2"},
    {"x\xE2\x82\x82", "x2"},
    {"3\xE3\x80\x82"
     "5",
     "3.5"},
    {"2\xEF\xBC\x8C"
     "300",
     "2300"},
    {"1\n234", "1234"},
    {"1  234", "1234"},
    {"1\\quad 234", "1234"},
    {"1 1/2 300", "1 1/2300"},
    {"1/2 300", "1/2300"},
    {"1 234/567", "1234/567"},
    {"1 234 5", "12345"},
    {"2 3 400", "2 3400"},
    {"1234 567", "1234567"},
    {"0 123", "123"},
    {"A1 234", "A1234"},
    {"[1 200]", "[1200]"},
    {"1,234 567", "1234567"}};

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
