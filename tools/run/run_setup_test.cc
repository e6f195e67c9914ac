#include "tools/run/run_setup.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "environments/environment_set.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "kernels/base/float_mode.h"
#include "kernels/find_backend.h"
#include "kernels/model/config.h"
#include "kernels/model/master_weights.h"
#include "kernels/model/safetensors.h"
#include "learner/store/checkpoint.h"
#include "learner/store/run_db.h"
#include "learner/store/run_db_fixture.h"
#include "learner/store/run_records.h"
#include "proto/wire/task_file.h"
#include "tools/cli/next_step.h"
#include "tools/config/config.h"
#include "tools/run/run_setup_fixture.h"
#include "tools/run/run_tasks.h"

namespace temper {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

TEST_F(RunSetupTest, NewRunHoldsItsResolvedConfigurationAndTasks) {
  const auto run = PrepareRun(config_, "c.textproto", 0);
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->dir, directory_ + "/runs/trial");
  EXPECT_THAT(run->config.environments(), ElementsAre("interpreter", "math"));
  const auto tasks = ReadTaskFile(run->dir + "/tasks.jsonl");
  ASSERT_TRUE(tasks.ok()) << tasks.status();
  EXPECT_EQ(tasks->size(), 3u * 4 + 3 * 5);
  EXPECT_EQ((run->task_counts.at({"math", "heldout"})), 5);
  const auto text = ReadFile(run->dir + "/config.textproto", 1 << 20);
  EXPECT_EQ(*text, FormatConfig(run->config));
  EXPECT_EQ(access((run->dir + "/logs").c_str(), F_OK), 0);
}

TEST_F(RunSetupTest, TheDeviceIsSettledWhenARunBegins) {
  auto run = PrepareRun(config_, "c.textproto", 0);
  ASSERT_TRUE(run.ok()) << run.status();
  run->lock.reset();
  const RunConfig::Device device = run->config.device();
  EXPECT_EQ(device, KeyOf(run->compute.device));
  EXPECT_EQ(ReadRunConfig(run->dir)->device(), device);
  const char* other = device == RunConfig::cpu ? "device=cuda" : "device=cpu";
  EXPECT_THAT(std::string(ReopenRun(run->dir, {other}).status().message()),
              HasSubstr("a resume may change only"));
  // One of before there was a choice has none in its file.
  run->config.clear_device();
  const std::string file = FormatConfig(run->config);
  ASSERT_TRUE(WriteFileDurably(run->dir + "/config.textproto", file).ok());
  EXPECT_EQ(ReopenRun(run->dir, {})->compute.device, Device::kCpu);
}

TEST_F(RunSetupTest, CudaIsRefusedInNumericsThatItLacks) {
  for (const std::string numerics : {"bf16", "fp8"}) {
    ASSERT_TRUE(SetConfigValue("numerics=" + numerics, &config_).ok());
    EXPECT_THAT(Refusal("device=cuda"), HasSubstr("no kernels of " + numerics));
  }
}

// Of the model that is read: that of a resume too, while there is no other.
TEST_F(RunSetupTest, AnIndexerThatFp8CannotRotateIsRefusedByItsSize) {
  const std::string path = directory_ + "/model/config.json";
  const auto config = ReadModelConfig(directory_ + "/model");
  ASSERT_TRUE(config.ok()) << config.status();
  ModelConfig other = *config;
  other.index_head_dim = 48;
  ASSERT_TRUE(WriteFileDurably(path, ModelConfigToJson(other)).ok());
  const std::string refusal = Refusal("numerics=fp8");
  EXPECT_THAT(refusal, HasSubstr(path + ": numerics fp8 rotates"));
  EXPECT_THAT(refusal, HasSubstr("it is 48: set numerics to fp32 or bf16"));
  EXPECT_THAT(refusal, Not(HasSubstr("Hugging Face")));
  EXPECT_THAT(Refusal("numerics=bf16"), HasSubstr("tensor \""))
      << "its weights are of another size";
}

TEST_F(RunSetupTest, CodesOfTheModelAreCountedAndTheirScalesChecked) {
  SetFlushDenormals();
  const std::string model = directory_ + "/model";
  const auto backend = *FindBackend({});
  const auto masters =
      *MasterWeights::Load(backend.get(), *ReadModelConfig(model), model);
  ASSERT_TRUE(masters->Save(model, "F8_E4M3").ok());
  ASSERT_TRUE(SetConfigValue("numerics=fp8", &config_).ok());
  const auto run = PrepareRun(config_, "c.textproto", 0);
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_GT(run->codes.matrices, 0);
  EXPECT_EQ(run->codes.of_other_scales, 0);
  ASSERT_TRUE(RemoveAll(run->dir).ok());
  // A scale of 0.
  const auto file = *Safetensors::OpenModel(model);
  const SafetensorsEntry* const scales =
      file->Find("model.layers.0.self_attn.o_proj.weight_scale_inv");
  ASSERT_NE(scales, nullptr);
  std::vector<SafetensorsEntry> entries = file->entries();
  const std::vector<float> zeros(scales->elements());
  for (SafetensorsEntry& entry : entries) {
    if (entry.name != scales->name) continue;
    entry.data = reinterpret_cast<const std::byte*>(zeros.data());
  }
  ASSERT_TRUE(WriteSafetensors(model + "/model.safetensors", entries).ok());
  EXPECT_THAT(Refusal("name=trial"),
              AllOf(HasSubstr(scales->name), HasSubstr("the scale 0")));
}

TEST_F(RunSetupTest, RunWithoutANameIsCalledAfterItsFileAndTheTime) {
  config_.clear_name();
  const auto run = PrepareRun(config_, "some/where/quick.textproto", 86400);
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->config.name(), "quick-19700102-000000");
}

TEST_F(RunSetupTest, WhatIsWrongIsNamedAndNothingIsMade) {
  EXPECT_THAT(Refusal("model=/no/such/model"), HasSubstr("/no/such/model"));
  EXPECT_THAT(Refusal("tasks=/no/such.jsonl"), HasSubstr("/no/such.jsonl"));
  EXPECT_THAT(Refusal("environments=chess"),
              HasSubstr("names chess: there is no environment"));
  EXPECT_THAT(Refusal("tasks=/tmp"),
              HasSubstr("set tasks to a tasks.jsonl file"));
  EXPECT_THAT(Refusal("environments=math,interpreter,example"),
              HasSubstr("example"));
  EXPECT_THAT(Refusal("domain=chess:0.1"), HasSubstr("domain chess"));
  EXPECT_THAT(Refusal("steps=30000"), HasSubstr("lower steps"));
}

TEST_F(RunSetupTest, TooFewOpenFilesAreSaidBeforeAnythingIsMade) {
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few = {64, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  const auto run = PrepareRun(config_, "c.textproto", 0);
  const auto again = ReopenRun(directory_ + "/runs/trial", {});
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  for (const absl::Status& status : {run.status(), again.status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    EXPECT_THAT(std::string(status.message()),
                testing::HasSubstr("64 open files a process; a run needs 256: "
                                   "`ulimit -n 1024`"));
  }
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/runs"));
}

TEST_F(RunSetupTest, ADirectoryThatIsInTheWayIsResumedOnlyIfItIsARun) {
  const std::string dir = directory_ + "/runs/trial";
  ASSERT_TRUE(MakeDirectories(dir).ok());
  EXPECT_THAT(std::string(PrepareRun(config_, "", 0).status().message()),
              EndsWith(" exists and is no run; give another --name"));
  ASSERT_TRUE(WriteFileDurably(dir + "/config.textproto", "seed: 1").ok());
  EXPECT_THAT(std::string(PrepareRun(config_, "", 0).status().message()),
              HasSubstr(" exists; give another --name, or go on with it by "));
}

TEST_F(RunSetupTest, WhatMayNotBeReadIsToBeMadeReadableOrNamedOtherwise) {
  const absl::Status status =
      IfUnusable(absl::PermissionDeniedError("f: denied"), "name a file");
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_EQ(
      std::string(status.message()),
      "f: denied; make it readable to the user who runs temper, or name a "
      "file");
}

TEST_F(RunSetupTest, ADamagedModelIsRefusedAndNothingIsMade) {
  const auto refuse = [&](const std::string& name, const std::string& bytes) {
    const std::string path = absl::StrCat(directory_, "/model/", name);
    const std::string whole = *ReadFile(path, 1 << 24);
    EXPECT_TRUE(WriteFileDurably(path, bytes).ok());
    const std::string refusal = Refusal("name=trial");
    EXPECT_TRUE(WriteFileDurably(path, whole).ok());
    return refusal;
  };
  const std::string weights =
      *ReadFile(directory_ + "/model/model.safetensors", 1 << 24);
  EXPECT_THAT(
      refuse("model.safetensors", weights.substr(0, weights.size() / 2)),
      HasSubstr("model.safetensors"));
  const std::string config =
      *ReadFile(directory_ + "/model/config.json", 1 << 20);
  EXPECT_THAT(refuse("config.json",
                     absl::StrReplaceAll(
                         config, {{"\"vocab_size\": ", "\"vocab_size\": 1"}})),
              HasSubstr("tensor \""));
  EXPECT_THAT(refuse("tokenizer.json", "{}"), HasSubstr("tokenizer.json"));
  std::filesystem::remove(directory_ + "/model/tokenizer.json");
  EXPECT_THAT(Refusal("name=trial"), HasSubstr("name the tokenizer.json"));
}

TEST_F(RunSetupTest, DirectoryThatExistsIsNotTouched) {
  ASSERT_TRUE(PrepareRun(config_, "", 0).ok());
  EXPECT_THAT(std::string(PrepareRun(config_, "", 0).status().message()),
              HasSubstr("train --resume"));
}

TEST_F(RunSetupTest, WhatAKilledTrainLeftIsToBeRemovedNotResumed) {
  const std::string dir = directory_ + "/runs/trial";
  const auto refusals = [&] {
    const absl::Status begun = PrepareRun(config_, "", 0).status();
    EXPECT_TRUE(absl::IsInvalidArgument(begun)) << begun;
    return std::pair(
        begun.ToString(),
        FindRunDir("trial", directory_ + "/runs").status().ToString());
  };
  ASSERT_TRUE(MakeDirectories(dir + "/logs").ok());
  EXPECT_THAT(refusals(), Pair(HasSubstr("is no run; give another --name"),
                               HasSubstr("no run at")));
  ASSERT_TRUE(WriteFileDurably(dir + "/train.lock", "").ok());
  EXPECT_THAT(refusals(), Pair(HasSubstr("left it; remove it, or give"),
                               HasSubstr("left it; remove it")));
  ASSERT_TRUE(RemoveAll(dir).ok());
  EXPECT_TRUE(PrepareRun(config_, "", 0).ok());
}

TEST_F(RunSetupTest, RunStartedByRelativePathsIsResumedFromAnyDirectory) {
  const std::string here = std::filesystem::current_path();
  const auto tasks = MakeTasks(config_, {});
  ASSERT_TRUE(tasks.ok());
  ASSERT_TRUE(WriteTaskFile(directory_ + "/some.jsonl", *tasks).ok());
  for (const char* assignment :
       {"model=model", "runs_dir=./runs", "tasks=some.jsonl"}) {
    ASSERT_TRUE(SetConfigValue(assignment, &config_).ok());
  }
  std::filesystem::current_path(directory_);
  auto run = PrepareRun(config_, "", 0);
  if (run.ok()) run->lock.reset();
  std::filesystem::create_directory("elsewhere");
  std::filesystem::current_path("elsewhere");
  const auto resumed = ReopenRun("../runs/trial", {});
  std::filesystem::current_path(here);
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->dir, directory_ + "/runs/trial");
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_EQ(resumed->dir, run->dir);
  EXPECT_EQ(resumed->config.model(), directory_ + "/model");
  EXPECT_EQ(resumed->config.tasks(0), directory_ + "/some.jsonl");
  EXPECT_EQ(resumed->config.runs_dir(), directory_ + "/runs");
}

TEST_F(RunSetupTest, RunIsFoundByDirectoryNameOrRunDbBeforeThatExists) {
  const auto run = PrepareRun(config_, "c.textproto", 0);
  ASSERT_TRUE(run.ok()) << run.status();
  const std::string runs = directory_ + "/runs";
  for (const std::string& name :
       {run->dir, std::string("trial"), run->dir + "/run.db"}) {
    const auto found = FindRunDir(name, runs);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(*found, run->dir);
  }
  const auto other = FindRunDir("other", runs);
  EXPECT_TRUE(absl::IsNotFound(other.status()));
  EXPECT_THAT(std::string(other.status().message()),
              HasSubstr(runs + "/other"));
  EXPECT_FALSE(FindRunDir(run->dir + "/nothing", runs).ok());
}

TEST_F(RunSetupTest, ResumeChangesWhatItMayAndNothingElse) {
  auto run = PrepareRun(config_, "", 0);
  ASSERT_TRUE(run.ok()) << run.status();
  run->lock.reset();
  auto longer = ReopenRun(run->dir, {"steps=9"});
  ASSERT_TRUE(longer.ok()) << longer.status();
  EXPECT_EQ(longer->config.steps(), 9u);
  EXPECT_EQ(longer->task_counts, run->task_counts);
  longer->lock.reset();
  EXPECT_EQ(ReopenRun(run->dir, {})->config.steps(), 9u);
  EXPECT_THAT(
      std::string(ReopenRun(run->dir, {"top_p=0.5"}).status().message()),
      HasSubstr("top_p is 0.5, and began as 0.95"));
}

TEST_F(RunSetupTest, AResumeToFewerStepsThanAreDoneIsRefused) {
  auto run = PrepareRun(config_, "", 0);
  ASSERT_TRUE(run.ok()) << run.status();
  run->lock.reset();
  const auto db = OpenTrialDb(run->dir, SystemClock());
  ASSERT_NE(db, nullptr);
  ASSERT_TRUE(db->RecordCheckpoint(2, "step_2").ok());
  EXPECT_THAT(std::string(ReopenRun(run->dir, {"steps=1"}).status().message()),
              HasSubstr("steps 1 is less than the 2"));
  EXPECT_EQ(ReadRunConfig(run->dir)->steps(), 3u);
}

TEST_F(RunSetupTest, AResumeWithOtherTasksIsRefusedAndChangesNothing) {
  auto run = PrepareRun(config_, "", 0);
  ASSERT_TRUE(run.ok()) << run.status();
  run->lock.reset();
  {
    const auto db = RunDb::OpenWriter(run->dir + "/run.db", SystemClock());
    ASSERT_TRUE(db.ok()) << db.status();
    RunInfo info;
    info.name = "trial";
    info.tasks_sha256 = *TasksSha256(run->dir);
    ASSERT_TRUE((*db)->StartRun(info).ok());
  }
  ASSERT_TRUE(ReopenRun(run->dir, {}).ok());
  const std::string path = run->dir + "/tasks.jsonl";
  std::vector<Task> tasks = *ReadTaskFile(path);
  tasks.pop_back();
  ASSERT_TRUE(WriteTaskFile(path, tasks).ok());
  EXPECT_THAT(std::string(ReopenRun(run->dir, {"steps=9"}).status().message()),
              HasSubstr(path + " has changed since the run began"));
  EXPECT_EQ(ReadRunConfig(run->dir)->steps(), 3u);
}

TEST_F(RunSetupTest, AResumeOfARunOfANewerProgramIsRefusedAndChangesNothing) {
  auto run = PrepareRun(config_, "", 0);
  ASSERT_TRUE(run.ok()) << run.status();
  run->lock.reset();
  const std::string path = run->dir + "/config.textproto";
  const std::string before = *ReadFile(path, 1 << 20);
  {
    const auto db = RunDb::OpenWriter(run->dir + "/run.db", SystemClock());
    ASSERT_TRUE(db.ok()) << db.status();
    ASSERT_TRUE((*db)->sqlite()->Execute("PRAGMA user_version=99").ok());
  }
  EXPECT_THAT(std::string(ReopenRun(run->dir, {"steps=9"}).status().message()),
              HasSubstr("has schema version 99"));
  EXPECT_EQ(*ReadFile(path, 1 << 20), before);
}

// The run is its maker's until that lets go of it.
TEST_F(RunSetupTest, ARunIsOfOneTrainAtATime) {
  auto made = PrepareRun(config_, "", 0);
  ASSERT_TRUE(made.ok()) << made.status();
  const std::string path = made->dir + "/config.textproto";
  const std::string before = *ReadFile(path, 1 << 20);
  const absl::Status refused = ReopenRun(made->dir, {"steps=9"}).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition) << refused;
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("being trained by another `temper train`"));
  EXPECT_EQ(*ReadFile(path, 1 << 20), before);
  made->lock.reset();
  const auto first = ReopenRun(made->dir, {"steps=9"});
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_FALSE(ReopenRun(made->dir, {"steps=8"}).ok());
  EXPECT_EQ(ReadRunConfig(made->dir)->steps(), 9u);
}

TEST_F(RunSetupTest, AFinishedRunIsKnownToBe) {
  auto run = PrepareRun(config_, "", 0);
  ASSERT_TRUE(run.ok()) << run.status();
  run->lock.reset();
  const auto finished = [&](const std::vector<std::string>& sets) {
    const auto again = ReopenRun(run->dir, sets);
    EXPECT_TRUE(again.ok()) << again.status();
    return again.ok() && again->finished;
  };
  EXPECT_FALSE(finished({}));
  const auto change = [&](const std::function<absl::Status(RunDb*)>& write) {
    const auto db = OpenTrialDb(run->dir, SystemClock());
    ASSERT_NE(db, nullptr);
    EXPECT_EQ(write(db.get()), absl::OkStatus());
  };
  change([](RunDb* db) { return db->RecordCheckpoint(2, "step_2"); });
  EXPECT_FALSE(finished({}));
  change([](RunDb* db) {
    auto transaction = *db->sqlite()->Begin();
    const absl::Status status =
        transaction->Run("INSERT INTO step VALUES (1, 3, 1, 1, 1, 1, 2)", {});
    return status.ok() ? transaction->Commit() : status;
  });
  EXPECT_FALSE(finished({})) << "there is no checkpoint of it";
  change([](RunDb* db) { return db->RecordCheckpoint(3, "step_3"); });
  EXPECT_FALSE(finished({})) << "it is not evaluated";
  change([](RunDb* db) { return db->RecordMetrics(3, {{"eval/dropped", 0}}); });
  EXPECT_TRUE(finished({}));
  EXPECT_FALSE(finished({"steps=4"}));
}

// Its device is fixed: "set device to cpu" would only be refused in turn.
TEST_F(RunSetupTest, ARunOfCudaGoesOnWhereAGpuIsUnlessItIsFinished) {
  auto run = PrepareRun(config_, "", 0);
  ASSERT_TRUE(run.ok()) << run.status();
  run->lock.reset();
  run->config.set_device(RunConfig::cuda);
  ASSERT_TRUE(WriteFileDurably(run->dir + "/config.textproto",
                               FormatConfig(run->config))
                  .ok());
  if (!SurveyGpus().missing.empty()) {
    const std::string refusal(ReopenRun(run->dir, {}).status().message());
    EXPECT_THAT(refusal, HasSubstr("it began on cuda and stays there"));
    EXPECT_THAT(refusal, Not(HasSubstr("device to cpu")));
  }
  {
    const auto db = OpenTrialDb(run->dir, SystemClock());
    ASSERT_NE(db, nullptr);
    ASSERT_TRUE(db->sqlite()
                    ->Execute("INSERT INTO step VALUES (1, 3, 1, 1, 1, 1, 2)")
                    .ok());
    ASSERT_TRUE(db->RecordCheckpoint(3, "step_3").ok());
    ASSERT_TRUE(db->RecordMetrics(3, {{"eval/dropped", 0}}).ok());
  }
  const auto again = ReopenRun(run->dir, {});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(again->finished);
}

TEST_F(RunSetupTest, AResumeWithoutAKlCoefficientWantsNoBaseModel) {
  ASSERT_TRUE(SetConfigValue("kl_coef=0", &config_).ok());
  auto run = PrepareRun(config_, "", 0);
  ASSERT_TRUE(run.ok()) << run.status();
  run->lock.reset();
  ASSERT_TRUE(RemoveAll(directory_ + "/model").ok());
  const absl::Status no_weights = ReopenRun(run->dir, {}).status();
  EXPECT_THAT(std::string(no_weights.message()),
              HasSubstr(directory_ + "/model"))
      << "nowhere are weights";
  SaveCheckpoint(run->dir);
  auto resumed = ReopenRun(run->dir, {});
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_EQ(resumed->model.vocab_size, run->model.vocab_size);

  // A run that has kept nothing of its model: its checkpoint has all.
  resumed->lock.reset();
  ASSERT_TRUE(RemoveAll(run->dir + "/checkpoints/step_1/model").ok());
  std::filesystem::rename(run->dir + "/model",
                          run->dir + "/checkpoints/step_1/model");
  const auto old = ReopenRun(run->dir, {});
  ASSERT_TRUE(old.ok()) << old.status();
  EXPECT_EQ(access((run->dir + "/model/tokenizer.json").c_str(), F_OK), 0);
}

TEST_F(RunSetupTest, AResumeWithAKlCoefficientWantsItsReference) {
  auto run = PrepareRun(config_, "", 0);
  ASSERT_TRUE(run.ok()) << run.status();
  run->lock.reset();
  SaveCheckpoint(run->dir);
  ASSERT_TRUE(RemoveAll(directory_ + "/model").ok());
  EXPECT_THAT(std::string(ReopenRun(run->dir, {}).status().message()),
              HasSubstr(directory_ + "/model"));
}

TEST_F(RunSetupTest, ARefusedResumeOfALiveRunChangesNothing) {
  auto run = PrepareRun(config_, "", 0);
  ASSERT_TRUE(run.ok()) << run.status();
  run->lock.reset();
  const std::string path = run->dir + "/config.textproto";
  const std::string before = *ReadFile(path, 1 << 20);
  auto live = OpenTrialDb(run->dir, SystemClock());
  ASSERT_NE(live, nullptr);
  const absl::Status refused = ReopenRun(run->dir, {"steps=9"}).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("stop it first"));
  EXPECT_EQ(*ReadFile(path, 1 << 20), before);
  live.reset();
  EXPECT_TRUE(ReopenRun(run->dir, {"steps=9"}).ok());
  EXPECT_NE(*ReadFile(path, 1 << 20), before);
}

}  // namespace
}  // namespace temper
