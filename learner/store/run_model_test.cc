#include "learner/store/run_model.h"

#include <unistd.h>

#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"

namespace temper {
namespace {

using testing::ElementsAre;

TEST(RunModelTest, EverythingButTheWeightsIsKept) {
  const std::string home = absl::StrCat(getenv("TEST_TMPDIR"), "/kept");
  const std::string model = home + "/base", run = home + "/run";
  ASSERT_TRUE(MakeDirectories(model + "/original").ok());
  EXPECT_EQ(RunModelDir(run, model), model);
  for (const char* name :
       {"config.json", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "model.safetensors",
        "model.safetensors.index.json"}) {
    ASSERT_TRUE(WriteFileDurably(absl::StrCat(model, "/", name), name).ok());
  }
  const absl::Status kept = KeepRunModel(run, model);
  ASSERT_TRUE(kept.ok()) << kept;
  EXPECT_EQ(RunModelDir(run, model), run + "/model");
  EXPECT_THAT(*ListDirectory(run + "/model"),
              ElementsAre("chat_template.jinja", "config.json",
                          "tokenizer.json", "tokenizer_config.json"));
  EXPECT_EQ(*ReadFile(run + "/model/tokenizer.json", 100), "tokenizer.json");
}

// By name the others come first, and would take all the room.
TEST(RunModelTest, TheTokenizerIsKeptWhateverElseThereIs) {
  const std::string home = absl::StrCat(getenv("TEST_TMPDIR"), "/large");
  const std::string model = home + "/base", run = home + "/run";
  ASSERT_TRUE(MakeDirectories(model).ok());
  ASSERT_TRUE(WriteFileDurably(model + "/config.json", "{}").ok());
  for (const char* name : {"/a1.dat", "/a2.dat", "/a3.dat", "/a4.dat"}) {
    ASSERT_TRUE(WriteFileDurably(model + name, "").ok());
    ASSERT_EQ(truncate((model + name).c_str(), 64 << 20), 0);
  }
  EXPECT_TRUE(absl::IsNotFound(KeepRunModel(run, model)));
  EXPECT_EQ(RunModelDir(run, model), model);
  ASSERT_TRUE(WriteFileDurably(model + "/tokenizer.json", "t").ok());
  const absl::Status kept = KeepRunModel(run, model);
  ASSERT_TRUE(kept.ok()) << kept;
  EXPECT_EQ(*ReadFile(run + "/model/tokenizer.json", 100), "t");
  EXPECT_EQ(RunModelDir(run, model), run + "/model");
}

TEST(RunModelTest, WhatIsNoModelIsNotTakenForOne) {
  const std::string home = absl::StrCat(getenv("TEST_TMPDIR"), "/none");
  ASSERT_TRUE(MakeDirectories(home + "/base").ok());
  ASSERT_TRUE(WriteFileDurably(home + "/base/tokenizer.json", "{}").ok());
  EXPECT_FALSE(KeepRunModel(home, home + "/base").ok());
  EXPECT_EQ(RunModelDir(home, home + "/base"), home + "/base");
  EXPECT_FALSE(KeepRunModel(home, home + "/nowhere").ok());
}

}  // namespace
}  // namespace temper
