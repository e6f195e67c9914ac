#include "kernels/model/tokenizer.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Ids: 0 "<a>", 1..256 the bytes, then "th", "he", "the", " the"; 261 "<ab>".
TokenizerSpec SmallSpec() {
  TokenizerSpec spec;
  spec.tokens.emplace_back();
  for (int b = 0; b < 256; ++b)
    spec.tokens.emplace_back(1, static_cast<char>(b));
  for (const char* token : {"th", "he", "the", " the"})
    spec.tokens.push_back(token);
  const auto byte = [](char c) { return 1 + static_cast<uint8_t>(c); };
  spec.merges = {{byte('t'), byte('h')},
                 {byte('h'), byte('e')},
                 {257, byte('e')},
                 {byte(' '), 259}};
  spec.added = {{0, "<a>", true}, {261, "<ab>", false}, {262, "<a><a>", true}};
  spec.rules = {{kGpt2Pattern}};
  return spec;
}

std::unique_ptr<Tokenizer> Make(TokenizerSpec spec = SmallSpec()) {
  auto tokenizer = Tokenizer::Create(std::move(spec));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

absl::Status Error(TokenizerSpec spec) {
  return Tokenizer::Create(std::move(spec)).status();
}

std::vector<int32_t> Ids(const Tokenizer& t, const std::string& text,
                         SpecialMatching matching = SpecialMatching::kOff) {
  auto ids = t.Encode(text, matching);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return *ids;
}

TEST(TokenizerTest, TheLowestRankMergesFirstAndLeftmost) {
  const auto t = Make();
  EXPECT_THAT(Ids(*t, "the"), ElementsAre(259));
  EXPECT_THAT(Ids(*t, "he"), ElementsAre(258));
  EXPECT_THAT(Ids(*t, "thhe"), ElementsAre(257, 258));
  EXPECT_THAT(Ids(*t, "the the"), ElementsAre(259, 260));
}

TEST(TokenizerTest, SpecialTokensAreFoundLongestFirstOnlyWhenMatchingIsOn) {
  const auto t = Make();
  EXPECT_THAT(Ids(*t, "<a>the<ab><a><a><a>", SpecialMatching::kOn),
              ElementsAre(0, 259, 261, 262, 0));
  for (int32_t id : Ids(*t, "<a>the<ab><a><a>")) EXPECT_FALSE(t->IsSpecial(id));
}

TEST(TokenizerTest, IgnoreMergesTakesAWholePieceThatIsAToken) {
  TokenizerSpec spec = SmallSpec();
  spec.merges.clear();
  EXPECT_EQ(Ids(*Make(spec), "the").size(), 3u);
  spec.ignore_merges = true;
  EXPECT_THAT(Ids(*Make(spec), "the"), ElementsAre(259));
}

TEST(TokenizerTest, AnyTextComesBackFromItsIds) {
  const auto t = Make();
  for (const std::string& text :
       std::vector<std::string>{"", "the 天気 the é\n\t <a>",
                                "\xF0\x9F\x98\x80 x", std::string("a\0b", 3)}) {
    EXPECT_EQ(*t->DecodeBytes(Ids(*t, text)), text);
    EXPECT_EQ(*t->DecodeBytes(Ids(*t, text, SpecialMatching::kOn)), text);
  }
}

TEST(TokenizerTest, ALongPieceTakesNoQuadraticTime) {
  const auto t = Make();
  std::string text;
  for (int i = 0; i < 300'000; ++i) text += "the";
  EXPECT_EQ(Ids(*t, text).size(), 300'000u);
}

TEST(TokenizerTest, RefusesTextThatIsNotUtf8WithTheOffset) {
  const auto t = Make();
  const auto ids = t->Encode("ab\xFF", SpecialMatching::kOff);
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(ids.status().ToString(), HasSubstr("byte 2"));
}

TEST(TokenizerTest, RefusesTextAboveTheLimit) {
  const auto t = Make();
  EXPECT_EQ(
      t->Encode(std::string(kEncodeBytesMax + 1, 'a'), SpecialMatching::kOff)
          .status()
          .code(),
      absl::StatusCode::kResourceExhausted);
}

TEST(TokenizerTest, RefusesIdsWithoutAToken) {
  const auto t = Make();
  for (int32_t id : {-1, 263, 1 << 30}) {
    EXPECT_THAT(t->DecodeBytes({id}).status().ToString(),
                HasSubstr(std::to_string(id)));
  }
}

TEST(TokenizerTest, RefusesABadSpecNamingWhatIsWrong) {
  TokenizerSpec spec = SmallSpec();
  spec.tokens[1 + 'q'] = "";
  EXPECT_THAT(Error(spec).ToString(), HasSubstr("byte 0x71"));
  spec = SmallSpec();
  spec.tokens[258] = "th";
  EXPECT_THAT(Error(spec).ToString(),
              HasSubstr("257 and 258 have the same bytes"));
  spec = SmallSpec();
  spec.added.push_back({259, "<x>"});
  EXPECT_THAT(Error(spec).ToString(), HasSubstr("id 259 is used twice"));
  spec = SmallSpec();
  spec.added.push_back({0, "<x>"});
  EXPECT_THAT(Error(spec).ToString(), HasSubstr("id 0 is used twice"));
  spec = SmallSpec();
  spec.added.push_back({300, "<a>"});
  EXPECT_THAT(Error(spec).ToString(), HasSubstr("'<a>' is there twice"));
  spec = SmallSpec();
  spec.added.push_back({kTokenizerIdsMax, "<x>"});
  EXPECT_THAT(Error(spec).ToString(), HasSubstr("has id 1048576"));
  spec = SmallSpec();
  spec.merges.push_back({5000, 1});
  EXPECT_THAT(Error(spec).ToString(), HasSubstr("token id 5000"));
  spec = SmallSpec();
  spec.merges.push_back({0, 1});  // a special token never merges
  EXPECT_THAT(Error(spec).ToString(), HasSubstr("token id 0"));
  spec = SmallSpec();
  spec.merges.push_back({258, 258});
  EXPECT_THAT(Error(spec).ToString(),
              HasSubstr("the result is not in the vocab"));
  spec = SmallSpec();
  spec.merges.push_back(spec.merges[0]);
  EXPECT_THAT(Error(spec).ToString(),
              HasSubstr("merge 4 of 't' and 'h' is there twice"));
  spec = SmallSpec();
  spec.tokens[257] = std::string(kTokenBytesMax + 1, 'x');
  EXPECT_EQ(Error(spec).code(), absl::StatusCode::kResourceExhausted);
}

TEST(IncrementalDecoderTest, HoldsBackHalfCharactersAndEqualsDecode) {
  const auto t = Make();
  const std::vector<int32_t> ids = Ids(*t, "é😀the");
  IncrementalDecoder decoder(t.get());
  std::vector<std::string> parts;
  for (int32_t id : ids) parts.push_back(*decoder.Add(id));
  EXPECT_THAT(parts, ElementsAre("", "é", "", "", "", "😀", "the"));
  EXPECT_EQ(decoder.Finish(), "");
}

TEST(IncrementalDecoderTest, MarksWhatNeverBecomesACharacter) {
  const auto t = Make();
  const std::vector<int32_t> ids = {1 + 0xF0, 1 + 0x9F, 1 + 'x', 1 + 0xC3};
  IncrementalDecoder decoder(t.get());
  std::string text;
  for (int32_t id : ids) text += *decoder.Add(id);
  EXPECT_FALSE(decoder.Add(5000).ok());
  text += decoder.Finish();
  EXPECT_EQ(text, "\xEF\xBF\xBDx\xEF\xBF\xBD");
  EXPECT_EQ(text, *t->Decode(ids));
}

}  // namespace
}  // namespace temper
