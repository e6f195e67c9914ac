#include "environments/search/search_index.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>

#include "absl/strings/str_cat.h"
#include "environments/search/index_builder.h"
#include "environments/search/words.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/rng.h"

namespace temper {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Texts = std::vector<std::string>;

std::string PathOf(const std::string& name) {
  return absl::StrCat(testing::TempDir(), "/", name);
}

absl::Status Build(const std::string& path, const Texts& texts,
                   const IndexBuilderOptions& options = {}) {
  const auto builder = IndexBuilder::Create(path, options);
  if (!builder.ok()) return builder.status();
  for (const std::string& text : texts) {
    const absl::Status added = (*builder)->Add("", text);
    if (!added.ok()) return added;
  }
  return (*builder)->Finish();
}

std::unique_ptr<SearchIndex> IndexOf(const Texts& texts) {
  const std::string path = PathOf("index");
  EXPECT_EQ(Build(path, texts), absl::OkStatus());
  auto index = SearchIndex::Open(path);
  EXPECT_TRUE(index.ok()) << index.status();
  return *std::move(index);
}

// Zipf's words: of rank r about 1 / r of them.
std::string DrawnText(uint64_t index, uint32_t words, uint32_t vocabulary) {
  RngKey key = {1, RngPurpose::kTest, index, 0, 0};
  std::string text;
  for (; words > 0; --words) {
    const double rank = std::exp(Uniform(key) * std::log(vocabulary));
    ++key.ordinal;
    absl::StrAppend(&text, "w", static_cast<uint32_t>(rank), " ");
  }
  return text;
}

Texts DrawnTexts(uint32_t count) {
  Texts texts;
  for (uint32_t i = 0; i < count; ++i) {
    // Of three lengths: some passages have the same score.
    texts.push_back(DrawnText(i, 5 + 20 * (i % 3), 300));
  }
  return texts;
}

std::vector<std::string> WordsOf(const std::string& text) {
  std::vector<std::string> words;
  for (WordReader reader(text); reader.Next();) words.push_back(reader.word());
  return words;
}

// BM25 of every passage, from its definition, in double.
std::vector<double> BruteForce(const Texts& texts, const std::string& query) {
  std::vector<std::map<std::string, int>> frequencies(texts.size());
  std::vector<double> lengths(texts.size());
  double all = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    for (const std::string& word : WordsOf(texts[i])) {
      ++frequencies[i][word];
      ++lengths[i];
      ++all;
    }
  }
  std::vector<std::string> words = WordsOf(query);
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  std::vector<double> scores(texts.size());
  const auto count = static_cast<double>(texts.size());
  for (const std::string& word : words) {
    double with = 0;
    for (const auto& of : frequencies) with += of.count(word) > 0 ? 1 : 0;
    const double idf = std::log(1 + (count - with + 0.5) / (with + 0.5));
    for (size_t i = 0; i < texts.size(); ++i) {
      const auto found = frequencies[i].find(word);
      if (found == frequencies[i].end()) continue;
      const double f = found->second;
      scores[i] +=
          idf * f * 2.2 / (f + 1.2 * (0.25 + 0.75 * lengths[i] * count / all));
    }
  }
  return scores;
}

TEST(SearchIndexTest, HitsAreThoseOfBruteForce) {
  const Texts texts = DrawnTexts(900);
  const auto index = IndexOf(texts);
  int compared = 0;
  for (uint32_t i = 0; i < 60; ++i) {
    const std::string query = DrawnText(10'000 + i, 1 + i % 8, 400);
    const std::vector<double> expected = BruteForce(texts, query);
    std::vector<double> sorted = expected;
    std::sort(sorted.rbegin(), sorted.rend());
    for (const size_t count : {1, 10, 1000}) {
      const auto hits = index->Search(query, count);
      ASSERT_TRUE(hits.ok()) << hits.status();
      const auto found = static_cast<size_t>(
          std::count_if(expected.begin(), expected.end(),
                        [](double score) { return score > 0; }));
      ASSERT_EQ(hits->size(), std::min(count, found)) << query;
      for (size_t at = 0; at < hits->size(); ++at) {
        const Hit& hit = (*hits)[at];
        const double right = expected[hit.passage];
        EXPECT_NEAR(hit.score, right, 1e-6 * right) << query;
        // Nothing better was left out.
        EXPECT_NEAR(hit.score, sorted[at], 1e-6 * sorted[at]) << query;
        ++compared;
      }
    }
  }
  EXPECT_GT(compared, 10'000);
}

TEST(SearchIndexTest, OfEqualScoresTheFirstPassageComesFirst) {
  // All words of a query in passages of the same length, in any order.
  const auto index =
      IndexOf({"c b a", "x y z", "a b c", "a x c", "b c a", "x c a"});
  const auto numbers = [&](const std::string& query, size_t count) {
    std::vector<uint32_t> all;
    const auto hits = *index->Search(query, count);
    for (const Hit& hit : hits) all.push_back(hit.passage);
    return all;
  };
  EXPECT_THAT(numbers("a b c", 10), ElementsAre(0, 2, 4, 3, 5));
  EXPECT_THAT(numbers("c b b a a", 10), ElementsAre(0, 2, 4, 3, 5));
  EXPECT_THAT(numbers("c b a", 2), ElementsAre(0, 2));
  EXPECT_THAT(numbers("x", 2), ElementsAre(1, 3));
}

TEST(SearchIndexTest, MoreHitsBeginWithFewerHits) {
  const auto index = IndexOf(DrawnTexts(900));
  for (uint32_t i = 0; i < 40; ++i) {
    const std::string query = DrawnText(20'000 + i, 6, 300);
    const auto all = *index->Search(query, 900);
    for (const size_t count : {1, 2, 5, 50, 200}) {
      const auto some = *index->Search(query, count);
      ASSERT_EQ(some.size(), std::min(count, all.size()));
      for (size_t at = 0; at < some.size(); ++at) {
        EXPECT_EQ(some[at].passage, all[at].passage) << query;
        EXPECT_EQ(some[at].score, all[at].score) << query;
      }
    }
  }
}

TEST(SearchIndexTest, WordsThatNoPassageHasFindNothing) {
  const auto index = IndexOf({"one two", "three"});
  EXPECT_THAT(*index->Search("four", 5), IsEmpty());
  EXPECT_THAT(*index->Search("", 5), IsEmpty());
  EXPECT_THAT(*index->Search(" ?! ", 5), IsEmpty());
  EXPECT_EQ(index->Search("four THREE", 5)->size(), 1u);
  EXPECT_THAT(*index->Search("one", 0), IsEmpty());
  EXPECT_EQ(index->PassagesWith("one"), 1u);
  EXPECT_EQ(index->PassagesWith("zero"), 0u);
}

TEST(SearchIndexTest, TitlesAreSearchedAndTextsGivenBack) {
  const std::string path = PathOf("titles");
  const auto builder = *IndexBuilder::Create(path, {});
  ASSERT_EQ(builder->Add("Élan", "runs far"), absl::OkStatus());
  ASSERT_EQ(builder->Add("", ""), absl::OkStatus());
  ASSERT_EQ(builder->Add("Other", "élan, too"), absl::OkStatus());
  ASSERT_EQ(builder->Finish(), absl::OkStatus());
  const auto index = *SearchIndex::Open(path);
  EXPECT_EQ(index->passages(), 3u);
  EXPECT_EQ(index->words(), 5u);
  EXPECT_EQ(index->postings(), 6u);
  EXPECT_EQ(index->Search("ÉLAN", 9)->size(), 2u);
  EXPECT_EQ(index->Get(0)->title, "Élan");
  EXPECT_EQ(index->Get(0)->text, "runs far");
  EXPECT_EQ(index->Get(1)->text, "");
  EXPECT_EQ(index->Get(2)->text, "élan, too");
  EXPECT_EQ(index->Verify(), absl::OkStatus());
}

TEST(SearchIndexTest, TheLimitOfMemoryDoesNotChangeAByte) {
  const Texts texts = DrawnTexts(400);
  std::vector<double> signs;
  IndexBuilderOptions narrow;
  narrow.postings_bytes_max = 2048;
  narrow.progress = [&](double part) { signs.push_back(part); };
  ASSERT_EQ(Build(PathOf("wide"), texts), absl::OkStatus());
  ASSERT_EQ(Build(PathOf("narrow"), texts, narrow), absl::OkStatus());
  EXPECT_TRUE(*ReadFile(PathOf("wide"), 1 << 24) ==
              *ReadFile(PathOf("narrow"), 1 << 24));
  EXPECT_GT(signs.size(), 10u);
  EXPECT_TRUE(std::is_sorted(signs.begin(), signs.end()));
  EXPECT_LT(signs.back(), 1);
}

TEST(SearchIndexTest, NothingIsLeftOfABuildThatWasGivenUp) {
  const std::string dir = PathOf("given_up");
  ASSERT_EQ(MakeDirectories(dir), absl::OkStatus());
  {
    const auto builder = *IndexBuilder::Create(dir + "/index", {});
    ASSERT_EQ(builder->Add("", "text"), absl::OkStatus());
    EXPECT_EQ(builder->Add("", std::string(kPassageBytesMax + 1, 'x')).code(),
              absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(Build(dir + "/empty", {}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(*ListDirectory(dir), IsEmpty());
}

// Not durably, which a thousand files would take their time for.
void Write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// What Open says of `bytes`.
std::string Refusal(const std::string& bytes) {
  const std::string path = PathOf("refused");
  Write(path, bytes);
  const auto index = SearchIndex::Open(path);
  if (index.ok()) return "";
  EXPECT_THAT(std::string(index.status().message()), HasSubstr(path));
  return index.status().ToString();
}

TEST(SearchIndexTest, WhatIsNoWholeIndexIsRefusedByName) {
  ASSERT_EQ(Build(PathOf("good"), DrawnTexts(20)), absl::OkStatus());
  const std::string good = *ReadFile(PathOf("good"), 1 << 24);
  EXPECT_EQ(Refusal(good), "");
  for (const std::string& foreign :
       {std::string(), std::string("{\"text\": \"a corpus\"}\n"),
        std::string("SQLite format 3"), good.substr(1), good.substr(0, 7)}) {
    EXPECT_THAT(Refusal(foreign), HasSubstr("is no search index; make one"));
  }
  for (size_t size = 8; size < good.size(); size += size < 300 ? 1 : 97) {
    EXPECT_THAT(Refusal(good.substr(0, size)), HasSubstr("is truncated"))
        << size;
  }
  EXPECT_THAT(Refusal(good + "more"), HasSubstr("is truncated"));
  // An end over another beginning.
  EXPECT_THAT(Refusal(good.substr(0, 400) + good.substr(408)),
              HasSubstr("is truncated: of"));
  std::string other = good;
  other[8] = 0;
  EXPECT_THAT(Refusal(other),
              HasSubstr("version 0, made by an older Temper; this one reads "
                        "version 1: build it again"));
  other[8] = 2;
  EXPECT_THAT(Refusal(other), HasSubstr("version 2, made by a newer Temper"));
}

TEST(SearchIndexTest, ADamagedByteIsRefusedOrFoundByVerify) {
  ASSERT_EQ(Build(PathOf("good"), DrawnTexts(20)), absl::OkStatus());
  const std::string good = *ReadFile(PathOf("good"), 1 << 24);
  const std::string path = PathOf("damaged");
  const size_t ends = good.size() - sizeof(IndexTrailer);
  int verified = 0;
  int64_t read = 0;
  for (size_t at = sizeof(IndexHeader); at < good.size(); at += 5) {
    std::string bytes = good;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x41);
    Write(path, bytes);
    const auto index = SearchIndex::Open(path);
    EXPECT_EQ(index.ok(), at < ends) << at;
    if (!index.ok()) continue;
    verified += (*index)->Verify().code() == absl::StatusCode::kDataLoss;
    // Hits and texts may be others; a read beyond the file would end this
    // process.
    for (const char* query : {"w1", "w1 w2 w3 w9", "w77"}) {
      const auto hits = (*index)->Search(query, 100);
      EXPECT_LE(hits.ok() ? hits->size() : 0, 20u);
    }
    for (uint32_t i = 0; i < (*index)->passages(); ++i) {
      const auto passage = (*index)->Get(i);
      if (!passage.ok()) continue;
      read += std::count(passage->text.begin(), passage->text.end(), ' ');
    }
  }
  EXPECT_GT(read, 0);
  // All but what pads sections.
  EXPECT_GE(verified + 8, static_cast<int>((ends - sizeof(IndexHeader)) / 5));
}

TEST(SearchIndexTest, AMissingFileIsNotFound) {
  EXPECT_EQ(SearchIndex::Open(PathOf("none")).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace temper
