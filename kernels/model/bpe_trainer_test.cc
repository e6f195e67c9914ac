#include "kernels/model/bpe_trainer.h"

#include <algorithm>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

BpeTrainerOptions Bare(int32_t vocab_size) {
  BpeTrainerOptions options;
  options.vocab_size = vocab_size;
  options.leading_tokens.clear();
  options.trailing_tokens.clear();
  options.rules.clear();
  return options;
}

TEST(BpeTrainerTest, MergesTheMostFrequentPairAndBreaksTiesByBytes) {
  // ab: 3, bc: 1, xy: 2, pq: 2. Then "ab"+"c" 1 is below 2.
  const auto spec =
      TrainBpe({{"abc"}, {"ab", 2}, {"xy", 2}, {"pq", 2}}, Bare(300));
  ASSERT_TRUE(spec.ok()) << spec.status();
  ASSERT_EQ(spec->tokens.size(), 259u);
  EXPECT_EQ(spec->tokens[256], "ab");
  EXPECT_EQ(spec->tokens[257], "pq");
  EXPECT_EQ(spec->tokens[258], "xy");
}

TEST(BpeTrainerTest, V32TokensStandAtTheirPlaces) {
  BpeTrainerOptions options;
  options.vocab_size = 275;
  const auto spec = TrainBpe(
      {{"<｜User｜>the cat and the dog, the cow: thethe", 9}}, options);
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto t = Tokenizer::Create(*spec);
  ASSERT_TRUE(t.ok()) << t.status();
  EXPECT_EQ((*t)->vocab_size(), 275);
  EXPECT_EQ(*(*t)->SpecialId(kBosToken), 0);
  EXPECT_EQ(*(*t)->SpecialId(kEosToken), 1);
  EXPECT_EQ(*(*t)->SpecialId(kDsmlToken), 274);
  // A special token's characters are not learnt from.
  for (const std::string& token : spec->tokens) {
    EXPECT_EQ(token.find("User"), std::string::npos);
  }
}

TEST(BpeTrainerTest, EachDigitSignAndLetterOfAKeyStaysAToken) {
  BpeTrainerOptions options;
  options.vocab_size = 400;
  const auto spec =
      TrainBpe({{"calc 11*11+11 is print(11*11) at k1", 50}}, options);
  ASSERT_TRUE(spec.ok()) << spec.status();
  for (const std::string& token : spec->tokens) {
    if (token.size() < 2) continue;
    EXPECT_EQ(token.find_first_of("0123456789+*()k"), std::string::npos)
        << token;
  }
}

TEST(BpeTrainerTest, TheSameTextsInAnyOrderGiveTheSameVocabulary) {
  std::vector<TrainingText> texts;
  for (int i = 0; i < 50; ++i) {
    texts.push_back({"word" + std::string(1, 'a' + i % 26) + "ing of some sort",
                     1 + i % 3});
  }
  const auto spec = TrainBpe(texts, BpeTrainerOptions());
  std::reverse(texts.begin(), texts.end());
  const auto again = TrainBpe(texts, BpeTrainerOptions());
  ASSERT_TRUE(spec.ok() && again.ok());
  EXPECT_TRUE(*spec == *again);
}

TEST(BpeTrainerTest, StopsAfterAMergeWhenAsked) {
  BpeTrainerOptions options;
  int merges = 0;
  options.go_on = [&merges] { return ++merges < 2; };
  EXPECT_TRUE(
      absl::IsCancelled(TrainBpe({{"name=value", 10}}, options).status()));
  EXPECT_EQ(merges, 2);
}

TEST(BpeTrainerTest, EncodingATrainingTextFollowsTheTraining) {
  BpeTrainerOptions options;
  const auto spec = TrainBpe({{"name=\"python\">\n<", 10}}, options);
  ASSERT_TRUE(spec.ok());
  const auto t = Tokenizer::Create(*spec);
  ASSERT_TRUE(t.ok());
  const auto ids = (*t)->Encode("name=\"python\">\n<", SpecialMatching::kOff);
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(ids->size(), 1u);
}

TEST(BpeTrainerTest, RefusesBadInputByName) {
  EXPECT_THAT(TrainBpe({}, Bare(255)).status().ToString(),
              HasSubstr("vocab_size 255"));
  EXPECT_EQ(TrainBpe({}, Bare(1 << 20)).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(TrainBpe({{"a"}, {"\xFF"}}, Bare(300)).status().ToString(),
              HasSubstr("text 1"));
  EXPECT_THAT(TrainBpe({{"a", 0}}, Bare(300)).status().ToString(),
              HasSubstr("weight 0"));
}

}  // namespace
}  // namespace temper
