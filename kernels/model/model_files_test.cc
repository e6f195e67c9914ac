#include "kernels/model/model_files.h"

#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"

namespace temper {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

std::string Dir(const std::string& name) {
  const std::string dir = absl::StrCat(getenv("TEST_TMPDIR"), "/", name);
  EXPECT_TRUE(MakeDirectories(dir).ok());
  return dir;
}

TEST(ModelFilesTest, WhatIsNeitherWeightsNorWrittenAnewIsCarried) {
  const std::string from = Dir("from"), to = Dir("to");
  for (const char* name :
       {"config.json", "manifest.json", "model.safetensors",
        "model-00001-of-00002.safetensors", "model.safetensors.index.json",
        "pytorch_model.bin", "pytorch_model.bin.index.json", ".gitattributes",
        "model.gguf", "LICENSE.tmp.17.0", "tokenizer.json",
        "tokenizer_config.json", "generation_config.json",
        "chat_template.jinja", "LICENSE"}) {
    ASSERT_TRUE(WriteFileDurably(from + "/" + name, name).ok());
  }
  Dir("from/directory");
  // As in a cache of the Hugging Face hub.
  const std::string blob = Dir("blobs") + "/0";
  ASSERT_TRUE(WriteFileDurably(blob, "linked").ok());
  ASSERT_EQ(symlink(blob.c_str(), (from + "/vocab.json").c_str()), 0);
  auto files = ReadModelFiles(from);
  ASSERT_TRUE(files.ok()) << files.status();
  ASSERT_TRUE(WriteModelFiles(*files, to).ok());
  EXPECT_THAT(
      *ListDirectory(to),
      ElementsAre("LICENSE", "chat_template.jinja", "generation_config.json",
                  "tokenizer.json", "tokenizer_config.json", "vocab.json"));
  EXPECT_EQ(*ReadFile(to + "/LICENSE", 100), "LICENSE");
  EXPECT_EQ(*ReadFile(to + "/vocab.json", 100), "linked");
  DropTokenizerFiles(&*files);
  EXPECT_THAT(
      *files,
      ElementsAre(Pair("LICENSE", "LICENSE"),
                  Pair("chat_template.jinja", "chat_template.jinja"),
                  Pair("generation_config.json", "generation_config.json")));
}

// A cleaned cache leaves the first; neither ends a run, and neither is dropped
// without a word.
TEST(ModelFilesTest, LinksToNothingAndDirectoriesAreLeftOutByName) {
  const std::string dir = Dir("left_out"), to = Dir("left_out_copy");
  ASSERT_TRUE(WriteFileDurably(dir + "/tokenizer.json", "t").ok());
  ASSERT_EQ(symlink("nowhere", (dir + "/vocab.json").c_str()), 0);
  ASSERT_EQ(symlink("round.txt", (dir + "/round.txt").c_str()), 0);
  Dir("left_out/additional_chat_templates");
  testing::internal::CaptureStderr();
  const auto files = ReadModelFiles(dir);
  const std::string log = testing::internal::GetCapturedStderr();
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_THAT(*files, ElementsAre(Pair("tokenizer.json", "t")));
  EXPECT_THAT(log, HasSubstr("/vocab.json is a link to nothing"));
  EXPECT_THAT(log, HasSubstr("/round.txt is a link to nothing"));
  EXPECT_THAT(log, HasSubstr("/additional_chat_templates is no file"));
  EXPECT_TRUE(CopyModelFiles(dir, to).ok());
  EXPECT_THAT(*ListDirectory(to), ElementsAre("tokenizer.json"));
}

TEST(ModelFilesTest, WhatIsTooLargeIsLeftOut) {
  const std::string dir = Dir("large");
  ASSERT_TRUE(WriteFileDurably(dir + "/notes.txt", "a").ok());
  ASSERT_TRUE(WriteFileDurably(dir + "/data.jsonl", "").ok());
  ASSERT_EQ(truncate((dir + "/data.jsonl").c_str(), (64 << 20) + 1), 0);
  const auto files = ReadModelFiles(dir);
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_THAT(*files, ElementsAre(Pair("notes.txt", "a")));
  EXPECT_FALSE(ReadModelFiles(dir + "/nothing").ok());
}

TEST(ModelFilesTest, TheTokenizerIsThereWhateverElseIs) {
  const std::string dir = Dir("full"), to = Dir("full_copy");
  for (const char* name : {"a1", "a2", "a3", "a4", "b", "tokenizer.json"}) {
    ASSERT_TRUE(WriteFileDurably(dir + "/" + name, "t").ok());
    if (name[0] == 'a') {
      ASSERT_EQ(truncate((dir + "/" + name).c_str(), 64 << 20), 0);
    }
  }
  const auto files = ReadModelFiles(dir);
  ASSERT_TRUE(files.ok()) << files.status();
  // It takes none of the others' room, which ends before b.
  std::vector<std::string> names;
  for (const auto& [name, bytes] : *files) names.push_back(name);
  EXPECT_THAT(names, ElementsAre("a1", "a2", "a3", "a4", "tokenizer.json"));
  EXPECT_EQ(files->at("tokenizer.json"), "t");
  // Without one, or with what cannot be one, nothing is copied.
  ASSERT_EQ(truncate((dir + "/tokenizer.json").c_str(), (64 << 20) + 1), 0);
  EXPECT_TRUE(absl::IsNotFound(CopyModelFiles(dir, to)));
  ASSERT_EQ(unlink((dir + "/tokenizer.json").c_str()), 0);
  EXPECT_TRUE(absl::IsNotFound(CopyModelFiles(dir, to)));
  EXPECT_THAT(*ListDirectory(to), ElementsAre());
}

}  // namespace
}  // namespace temper
