#include "environments/search/corpus_file.h"

#include <fstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Written(const std::string& name, const std::string& bytes) {
  const std::string path = absl::StrCat(testing::TempDir(), "/", name);
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

// "title|text" of each passage, then the error, if there is one.
std::vector<std::string> Read(const std::string& name,
                              const std::string& bytes) {
  const auto reader = *CorpusReader::Open(Written(name, bytes));
  std::vector<std::string> all;
  for (;;) {
    const auto next = reader->Next();
    if (!next.ok()) {
      all.push_back(std::string(next.status().message()));
      return all;
    }
    if (!next->has_value()) break;
    all.push_back(absl::StrCat((*next)->title, "|", (*next)->text));
  }
  EXPECT_EQ(reader->bytes_read(), bytes.size());
  EXPECT_EQ(reader->bytes_total(), bytes.size());
  return all;
}

TEST(CorpusReaderTest, ALineOfJsonIsAPassage) {
  EXPECT_THAT(Read("c.jsonl",
                   "{\"id\": 7, \"title\": \"A\", \"text\": \"one\\ntwo\"}\n"
                   "\n"
                   "{\"contents\": \"\\u00e9\", \"metadata\": {}}\r\n"
                   "{\"text\": \"\"}"),
              ElementsAre("A|one\ntwo", "|é", "|"));
  EXPECT_THAT(Read("c.jsonl", ""), IsEmpty());
}

TEST(CorpusReaderTest, BlankLinesSeparatePassagesOfText) {
  EXPECT_THAT(Read("c.txt", "\n\none\ntwo\r\n \t\n\nthree\n\n"),
              ElementsAre("|one\ntwo", "|three"));
  EXPECT_THAT(Read("c.txt", "{\"text\": 1}"), ElementsAre("|{\"text\": 1}"));
  EXPECT_THAT(Read("c.txt", "\n \n"), IsEmpty());
}

TEST(CorpusReaderTest, WhatIsNoPassageIsToldByLine) {
  const std::string good = "{\"text\": \"x\"}\n";
  const auto fault = [&](const std::string& line) {
    const auto all = Read("bad.jsonl", good + line);
    EXPECT_EQ(all.size(), 2u);
    EXPECT_THAT(all.back(), HasSubstr("/bad.jsonl:2: "));
    return all.back();
  };
  EXPECT_THAT(fault("{\"text\": "), HasSubstr("not a JSON object"));
  EXPECT_THAT(fault("[]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(fault("{\"title\": \"t\"}"),
              HasSubstr("needs a string \"text\""));
  EXPECT_THAT(fault("{\"text\": 1}"), HasSubstr("needs a string \"text\""));
  EXPECT_THAT(fault("{\"text\": \"\", \"title\": 1}"), HasSubstr("\"title\""));
  EXPECT_THAT(fault("{\"text\": \"\xff\"}"), HasSubstr("byte 11 is not UTF-8"));
  EXPECT_THAT(Read("bad.txt", "\xef\xbb\xbfone").back(), HasSubstr("bad.txt"));
}

TEST(CorpusReaderTest, APassageHasALimit) {
  const std::string half(9 << 20, 'x');
  EXPECT_THAT(Read("long.jsonl",
                   "{\"title\": \"" + half + "\", \"text\": \"" + half + "\"}"),
              ElementsAre(HasSubstr("long.jsonl:1: a passage of 18874368")));
  EXPECT_THAT(Read("long.txt", half + "\n" + half + "\n"),
              ElementsAre(HasSubstr("long.txt:2: a passage of more than")));
}

TEST(CorpusReaderTest, OnlyARegularFileIsRead) {
  EXPECT_EQ(CorpusReader::Open(testing::TempDir()).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CorpusReader::Open(testing::TempDir() + "/none").status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace temper
