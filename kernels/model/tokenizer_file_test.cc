#include "kernels/model/tokenizer_file.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/model/bpe_trainer.h"
#include "nlohmann/json.hpp"

namespace temper {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;

TokenizerSpec Trained() {
  BpeTrainerOptions options;
  options.vocab_size = 270;
  auto spec = TrainBpe({{"hello hello yellow 12+34", 5}}, options);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return *spec;
}

Json Document() { return Json::parse(TokenizerJson(Trained())); }

std::string ErrorOf(const Json& document) {
  const auto spec = ParseTokenizerJson(document.dump());
  if (!spec.ok()) return spec.status().ToString();
  return Tokenizer::Create(*spec).status().ToString();
}

TEST(TokenizerFileTest, ASpecComesBackEqualAndTheFileIsTheSameBytes) {
  const TokenizerSpec spec = Trained();
  const std::string json = TokenizerJson(spec);
  const auto again = ParseTokenizerJson(json);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(*again == spec);
  EXPECT_EQ(TokenizerJson(*again), json);
}

TEST(TokenizerFileTest, TokensThatNoMergeMakesAreRefused) {
  Json document = Document();
  const Json whole = document["model"]["merges"];
  const size_t tokens = whole.size();
  ASSERT_GT(tokens, 3u);
  // Cut anywhere: what is left makes fewer tokens than the vocabulary has.
  for (size_t kept = 0; kept < tokens; ++kept) {
    document["model"]["merges"] = Json(whole.begin(), whole.begin() + kept);
    EXPECT_THAT(ErrorOf(document),
                HasSubstr(absl::StrCat(tokens - kept, " of the ", tokens,
                                       " tokens of several bytes")))
        << kept;
  }
  // One from the middle takes with it what is made of it.
  document["model"]["merges"] = whole;
  document["model"]["merges"].erase(0);
  EXPECT_THAT(ErrorOf(document), HasSubstr(" of the "));
  // Ranks do not say what can be made.
  document["model"]["merges"] = std::vector<Json>(whole.rbegin(), whole.rend());
  EXPECT_EQ(ErrorOf(document), "OK");
  document["model"]["merges"] = Json::array();
  document["model"]["ignore_merges"] = true;
  EXPECT_THAT(ErrorOf(document), HasSubstr("by none of the 0 model.merges"));
  // Words that are tokens need none: a few tokens may be made by no merge.
  document["model"]["merges"] = Json(whole.begin(), whole.begin() + 1);
  EXPECT_EQ(ErrorOf(document), "OK");
  // Bytes alone need none.
  document = Document();
  document["model"]["merges"] = Json::array();
  Json& vocab = document["model"]["vocab"];
  for (auto token = vocab.begin(); token != vocab.end();) {
    const size_t characters =
        std::count_if(token.key().begin(), token.key().end(),
                      [](char byte) { return (byte & 0xC0) != 0x80; });
    token = characters > 1 ? vocab.erase(token) : std::next(token);
  }
  EXPECT_EQ(ErrorOf(document), "OK");
}

TEST(TokenizerFileTest, AByteOrderMarkIsRefusedByName) {
  const auto spec = ParseTokenizerJson("\xEF\xBB\xBF" + Document().dump());
  ASSERT_FALSE(spec.ok());
  EXPECT_THAT(spec.status().ToString(), HasSubstr("byte-order mark"));
}

TEST(TokenizerFileTest, ReadsWhatHuggingFaceWritesForDeepSeek) {
  Json document = Document();
  // Merges as strings, a token listed in both places, DeepSeek's components.
  Json& model = document["model"];
  for (Json& merge : model["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  model["vocab"]["<｜begin▁of▁sentence｜>"] = 0;
  document["normalizer"] = {{"type", "Sequence"},
                            {"normalizers", Json::array()}};
  document["post_processor"] = {{"type", "ByteLevel"},
                                {"add_prefix_space", true}};
  document["pre_tokenizer"] =
      Json::parse(R"({"type":"Sequence","pretokenizers":[
      {"type":"Split","pattern":{"Regex":"\\p{N}{1,3}"},"behavior":"Isolated","invert":false},
      {"type":"Digits","individual_digits":true},
      {"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true}]})");
  const auto spec = ParseTokenizerJson(document.dump());
  ASSERT_TRUE(spec.ok()) << spec.status();
  TokenizerSpec expected = Trained();
  expected.rules = {{"\\p{N}{1,3}"}, {"\\p{N}"}, {kGpt2Pattern}};
  EXPECT_TRUE(*spec == expected);
}

TEST(TokenizerFileTest, RefusesAWrongVocabularyNamingTheToken) {
  Json d = Document();
  d["model"]["vocab"]["zz"] = 100;
  EXPECT_THAT(ErrorOf(d), HasSubstr("token id 100 is used twice"));
  d = Document();
  d["model"]["vocab"]["zz"] = -1;
  EXPECT_THAT(ErrorOf(d), HasSubstr("token 'zz' has id -1"));
  d["model"]["vocab"]["zz"] = 18446744073709551615u;
  EXPECT_THAT(ErrorOf(d), HasSubstr("has id 18446744073709551615"));
  d["model"]["vocab"]["zz"] = 1.5;
  EXPECT_THAT(ErrorOf(d), HasSubstr("has id 1.5"));
  d = Document();
  d["model"]["vocab"]["<｜User｜>"] = 4;
  EXPECT_THAT(ErrorOf(d), HasSubstr("in added_tokens"));
  d = Document();
  d["model"]["vocab"]["天"] = 300;
  EXPECT_THAT(ErrorOf(d),
              HasSubstr("token '天' (id 300) is not in the byte-level"));
  d = Document();
  d["model"]["vocab"].erase("q");
  EXPECT_THAT(ErrorOf(d), HasSubstr("byte 0x71"));
  d = Document();
  d["added_tokens"][1]["id"] = 0;
  EXPECT_THAT(ErrorOf(d), HasSubstr("id 0 is used twice"));
}

TEST(TokenizerFileTest, RefusesAWrongMergeNamingIt) {
  Json d = Document();
  d["model"]["merges"].push_back({"qq", "a"});
  EXPECT_THAT(ErrorOf(d), HasSubstr("names token 'qq'"));
  d = Document();
  d["model"]["merges"].push_back("q");
  EXPECT_THAT(ErrorOf(d), HasSubstr("'q' has one part"));
  d["model"]["merges"].back() = "q z";
  EXPECT_THAT(ErrorOf(d), HasSubstr("the result is not in the vocabulary"));
  d["model"]["merges"].back() = 7;
  EXPECT_THAT(ErrorOf(d), HasSubstr("is not a pair"));
}

TEST(TokenizerFileTest, RefusesComponentsThatAreNotBuiltByName) {
  const auto with = [](const char* pointer, const Json& value) {
    Json d = Document();
    d[Json::json_pointer(pointer)] = value;
    return ErrorOf(d);
  };
  EXPECT_THAT(with("/pre_tokenizer", {{"type", "Metaspace"}}),
              HasSubstr("'Metaspace'"));
  EXPECT_THAT(with("/pre_tokenizer", nullptr), HasSubstr("pre_tokenizer"));
  EXPECT_THAT(with("/pre_tokenizer/pretokenizers/0/behavior", "Removed"),
              HasSubstr("\"Removed\""));
  EXPECT_THAT(with("/pre_tokenizer/pretokenizers/0/invert", true),
              HasSubstr("invert"));
  EXPECT_THAT(with("/pre_tokenizer/pretokenizers/1/add_prefix_space", true),
              HasSubstr("add_prefix_space"));
  EXPECT_THAT(with("/normalizer", {{"type", "NFC"}}), HasSubstr("'NFC'"));
  EXPECT_THAT(with("/decoder", {{"type", "WordPiece"}}),
              HasSubstr("'WordPiece'"));
  EXPECT_THAT(with("/post_processor", {{"type", "TemplateProcessing"}}),
              HasSubstr("'TemplateProcessing'"));
  EXPECT_THAT(with("/model/type", "Unigram"), HasSubstr("'Unigram'"));
  EXPECT_THAT(with("/model/byte_fallback", true), HasSubstr("byte_fallback"));
  EXPECT_THAT(with("/added_tokens/0/lstrip", true), HasSubstr("lstrip"));
  EXPECT_THAT(with("/truncation", {{"max_length", 5}}),
              HasSubstr("truncation"));
}

TEST(TokenizerFileTest, RefusesAKeyThatIsThereTwiceAndWhatIsNoJson) {
  std::string json = TokenizerJson(Trained());
  const size_t at = json.find("\"vocab\": {") + 10;
  json.insert(at, "\"!\": 5,");
  EXPECT_THAT(ParseTokenizerJson(json).status().ToString(),
              HasSubstr("has the key \"!\" twice"));
  for (const char* bad : {"", "[]", "{\"model\":", "7", "\xFF"}) {
    EXPECT_FALSE(ParseTokenizerJson(bad).ok()) << bad;
  }
}

TEST(TokenizerFileTest, LoadNamesTheFile) {
  const std::string path =
      std::string(getenv("TEST_TMPDIR")) + "/tokenizer.json";
  EXPECT_EQ(LoadTokenizer(path).status().code(), absl::StatusCode::kNotFound);
  std::ofstream(path) << TokenizerJson(Trained());
  const auto tokenizer = LoadTokenizer(path);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocab_size(), 270);
  std::ofstream(path) << "{}";
  EXPECT_THAT(LoadTokenizer(path).status().ToString(), HasSubstr(path));
}

}  // namespace
}  // namespace temper
