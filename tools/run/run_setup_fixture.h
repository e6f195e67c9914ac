// For tests: a configuration of a small run, with a model and places of its
// own.

#ifndef TOOLS_RUN_RUN_SETUP_FIXTURE_H_
#define TOOLS_RUN_RUN_SETUP_FIXTURE_H_

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "kernels/base/float_mode.h"
#include "learner/store/checkpoint.h"
#include "proto/config.pb.h"
#include "proto/task.pb.h"
#include "proto/wire/task_file.h"
#include "tools/config/config.h"
#include "tools/run/run_setup.h"

namespace temper {

class RunSetupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SetFlushDenormals();
    directory_ = absl::StrCat(
        getenv("TEST_TMPDIR"), "/",
        ::testing::UnitTest::GetInstance()->current_test_info()->name());
    ASSERT_TRUE(MakeDirectories(directory_ + "/model").ok());
    for (const char* name :
         {"config.json", "model.safetensors", "tokenizer.json"}) {
      std::filesystem::copy_file(absl::StrCat("tools/quickstart_model/", name),
                                 absl::StrCat(directory_, "/model/", name));
    }
    for (const std::string& assignment :
         {absl::StrCat("model=", directory_, "/model"),
          absl::StrCat("runs_dir=", directory_, "/runs"),
          std::string("tasks=quickstart"), std::string("steps=3"),
          std::string("prompts_per_step=4"), std::string("eval_tasks=5"),
          std::string("name=trial")}) {
      ASSERT_TRUE(SetConfigValue(assignment, &config_).ok()) << assignment;
    }
  }

  // Writes tasks.jsonl, of which the configuration is to be from now on.
  void UseTasks(const std::vector<Task>& tasks) {
    const std::string path = directory_ + "/tasks.jsonl";
    ASSERT_TRUE(WriteTaskFile(path, tasks).ok());
    ASSERT_TRUE(SetConfigValue("tasks=" + path, &config_).ok());
  }

  std::string Refusal(const std::string& assignment) {
    RunConfig config = config_;
    EXPECT_TRUE(SetConfigValue(assignment, &config).ok());
    const auto run = PrepareRun(config, "c.textproto", 0);
    EXPECT_FALSE(run.ok()) << assignment;
    EXPECT_NE(access((directory_ + "/runs/trial").c_str(), F_OK), 0)
        << "something was made";
    return std::string(run.status().message());
  }

  // One of step 1, whose model/ is empty.
  static void SaveCheckpoint(const std::string& run_dir) {
    const auto store = CheckpointStore::Create({run_dir + "/checkpoints"});
    ASSERT_TRUE(store.ok()) << store.status();
    const auto saved = (*store)->Save(1, [](const std::string& directory) {
      return MakeDirectories(directory + "/model");
    });
    ASSERT_TRUE(saved.ok()) << saved.status();
  }

  std::string directory_;
  RunConfig config_;
};

}  // namespace temper

#endif  // TOOLS_RUN_RUN_SETUP_FIXTURE_H_
