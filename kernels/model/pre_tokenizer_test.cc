#include "kernels/model/pre_tokenizer.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Pieces(const std::vector<SplitRule>& rules,
                                const std::string& text) {
  auto pre = PreTokenizer::Create(rules);
  EXPECT_TRUE(pre.ok()) << pre.status();
  auto pieces = (*pre)->Split(text);
  EXPECT_TRUE(pieces.ok()) << pieces.status();
  std::vector<std::string> out;
  for (const auto& [begin, end] : *pieces)
    out.push_back(text.substr(begin, end - begin));
  return out;
}

TEST(PreTokenizerTest, Gpt2PatternSplitsAsGpt2Does) {
  EXPECT_THAT(Pieces({{kGpt2Pattern}}, "I'll pay  12 €, née?\n\n x"),
              ElementsAre("I", "'ll", " pay", " ", " 12", " €,", " née", "?",
                          "\n\n", " x"));
}

TEST(PreTokenizerTest, DeepSeekPatternsApplyOneAfterTheOther) {
  const std::vector<SplitRule> rules = {
      {R"(\p{N}{1,3})"},
      {"[一-龥぀-ゟ゠-ヿ]+"},
      {"[!\"#$%&'()*+,\\-./"
       ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}"
       "\\p{S}]?[\\p{L}\\p{M}]+| "
       "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|"
       "\\s+"}};
  EXPECT_THAT(Pieces(rules, "x = 12345;\nfoo.bar 中文字 ok"),
              ElementsAre("x", " =", " ", "123", "45", ";\n", "foo", ".bar",
                          " ", "中文字", " ok"));
}

TEST(PreTokenizerTest, ALiteralRuleIsNotAPattern) {
  EXPECT_THAT(Pieces({{"a.", true}}, "aba.b"), ElementsAre("ab", "a.", "b"));
}

TEST(PreTokenizerTest, WithoutRulesTheTextIsOnePiece) {
  EXPECT_THAT(Pieces({}, "a b"), ElementsAre("a b"));
  EXPECT_THAT(Pieces({}, ""), ElementsAre());
}

TEST(PreTokenizerTest, RefusesWhatDoesNotCompileOrMatchesNothing) {
  EXPECT_THAT(PreTokenizer::Create({{"(a"}}).status().ToString(),
              HasSubstr("'(a'"));
  EXPECT_THAT(PreTokenizer::Create({{"a*"}}).status().ToString(),
              HasSubstr("can match the empty string"));
  EXPECT_EQ(PreTokenizer::Create({{std::string(5000, 'a')}}).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(
      PreTokenizer::Create(std::vector<SplitRule>(17, {"a"})).status().code(),
      absl::StatusCode::kResourceExhausted);
}

TEST(PreTokenizerTest, AHostilePatternRunsIntoItsLimitInsteadOfForever) {
  auto pre = PreTokenizer::Create({{"(?:a+)+[^a-z]"}});
  ASSERT_TRUE(pre.ok());
  const auto pieces = (*pre)->Split(std::string(64, 'a') + "b");
  EXPECT_EQ(pieces.status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(PreTokenizerTest, AMegabyteOfOneLetterIsFine) {
  const std::string text(1 << 20, 'a');
  EXPECT_THAT(Pieces({{kGpt2Pattern}}, text), ElementsAre(text));
}

}  // namespace
}  // namespace temper
