#include "learner/run_model.h"

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
