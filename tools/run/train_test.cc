#include "tools/run/train.h"

#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "environments/registration.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "kernels/base/float_mode.h"
#include "kernels/model/config.h"
#include "learner/store/run_db_fixture.h"
#include "tools/config/config.h"
#include "tools/run/engine_size.h"

namespace temper {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::Pair;

TrainOptions Options() {
  TrainOptions options;
  options.run.dir = "runs/trial";
  const auto json = ReadFile("tools/configs/quickstart_model.json", 1 << 20);
  EXPECT_TRUE(json.ok()) << json.status();
  const auto model = ParseModelConfig(*json);
  EXPECT_TRUE(model.ok()) << model.status();
  options.run.model = *model;
  options.run.config.set_workers(2);
  options.run.config.set_steps(5);
  options.run.config.set_numerics(RunConfig::fp32);
  options.run.config.add_environments("math");
  options.run.config.set_model("base");
  options.run.config.add_tasks("quickstart");
  const absl::Status resolved = ResolveConfig(&options.run.config);
  EXPECT_TRUE(resolved.ok()) << resolved;
  SetFlushDenormals();
  const auto compute = ChooseComputeBackend(WishOf(options.run.config));
  EXPECT_TRUE(compute.ok()) << compute.status();
  options.run.compute = *compute;
  return options;
}

std::vector<std::string> Names(const std::vector<ChildSpec>& children) {
  std::vector<std::string> names;
  for (const ChildSpec& child : children) names.push_back(child.name);
  return names;
}

TEST(TrainTest, HostIsStartedOnlyForEnvironmentsThatNeedOne) {
  TrainOptions options = Options();
  EXPECT_THAT(Names(PlanChildren(options)),
              ElementsAre("learner", "worker-0", "worker-1"));
  options.run.config.add_environments("interpreter");
  const auto children = PlanChildren(options);
  EXPECT_THAT(Names(children),
              ElementsAre("env-host", "learner", "worker-0", "worker-1"));
  EXPECT_THAT(children[2].args, Contains("--env-host-file"));
}

TEST(TrainTest, HostHasRoomForWhatTheConfigurationAsks) {
  TrainOptions options = Options();
  options.run.config.add_environments("interpreter");
  options.run.config.set_workers(5);
  options.run.config.mutable_objective()->set_prompts_per_step(160);
  // 5 workers of 256 samples and 8 calls at once, and as much of dead ones.
  EXPECT_THAT(absl::StrJoin(PlanChildren(options)[0].args, " "),
              HasSubstr("--sandboxes 8 --episodes 2560 --calls 80"));
  options.run.config.set_workers(64);
  options.run.config.mutable_objective()->set_prompts_per_step(65536);
  EXPECT_THAT(absl::StrJoin(PlanChildren(options)[0].args, " "),
              HasSubstr("--sandboxes 64 --episodes 32768 --calls 1024"));
}

// Or its room would be asked for by more than it has, for as long as Steps of
// another environment stay open.
TEST(TrainTest, HostHasRoomForEveryWorkersEpisodesThatAreNotInAnOpenStep) {
  TrainOptions options = Options();
  options.run.config.add_environments("interpreter");
  options.run.config.add_environments("far");
  options.run.config.mutable_objective()->set_prompts_per_step(65536);
  options.run.registrations.resize(1);
  options.run.registrations[0].set_name("far");
  options.run.registrations[0].set_address("127.0.0.1:7000");
  options.run.registrations[0].mutable_description()->set_open_steps(true);
  // As a worker asks for it (tools/verbs/rollout.cc).
  const EngineDemand demand = WorkerDemand(
      options.run.config, 0, HaveOpenSteps(options.run.registrations));
  EXPECT_EQ(demand.open, 4096);
  EXPECT_THAT(
      absl::StrJoin(PlanChildren(options)[0].args, " "),
      HasSubstr(absl::StrCat("--episodes ", 2 * 2 * demand.samples, " ")));
  EXPECT_EQ(demand.samples, 256) << "all others are in the way of others";
  EXPECT_THAT(DescribePlan(options),
              Contains(Pair("  each worker", HasSubstr("open episodes 240"))));
}

TEST(TrainTest, ACommandIsServedByAProcessOfItsOwnAndAnAddressByNone) {
  TrainOptions options = Options();
  options.run.config.add_environments("interpreter");
  options.run.config.add_environments("words");
  options.run.config.add_environments("far");
  options.run.registrations.resize(2);
  options.run.registrations[0].set_name("words");
  options.run.registrations[0].add_command("python3");
  options.run.registrations[0].add_command("environment.py");
  options.run.registrations[0].set_directory("/home/me/words");
  options.run.registrations[1].set_name("far");
  options.run.registrations[1].set_address("127.0.0.1:7000");
  const auto children = PlanChildren(options);
  EXPECT_THAT(Names(children), ElementsAre("env-host", "environment-words",
                                           "learner", "worker-0", "worker-1"));
  EXPECT_THAT(absl::StrJoin(children[1].args, " "),
              "env serve words --registry runs/trial/environments.jsonl "
              "--address-file runs/trial/environment-words.address");
  EXPECT_EQ(children[1].restarts_max, kRestartsUncounted)
      << "it costs its own episodes alone";
  EXPECT_GT(children[1].stop_order, children[3].stop_order)
      << "workers wait for its answers";
  EXPECT_THAT(DescribePlan(options),
              Contains(Pair("environments",
                            "math (each worker), interpreter (env-host), words "
                            "(python3 environment.py in /home/me/words), far "
                            "(127.0.0.1:7000)")));
  EXPECT_THAT(DescribePlan(options),
              Contains(Pair("isolation", HasSubstr("no network"))));
}

TEST(TrainTest, LearnerIsEssentialStopsFirstAndIsNeverRestarted) {
  TrainOptions options = Options();
  options.run.config.add_environments("interpreter");
  for (const ChildSpec& child : PlanChildren(options)) {
    const bool learner = child.name == "learner";
    EXPECT_EQ(child.essential, learner);
    EXPECT_EQ(child.restarts_max, learner ? 0 : options.restarts_max);
    EXPECT_EQ(child.stop_order == 0, learner);
  }
}

TEST(TrainTest, OnlyAResumedLearnerIsToldToResume) {
  TrainOptions options = Options();
  EXPECT_THAT(PlanChildren(options)[0].args, Not(Contains("--resume")));
  options.resume = true;
  EXPECT_THAT(PlanChildren(options)[0].args, Contains("--resume"));
}

TEST(TrainTest, PlanNamesWhatIsNotTrainedAndWhatIsKnownToBreak) {
  TrainOptions options = Options();
  EXPECT_THAT(DescribePlan(options), Not(Contains(Pair("MTP", ::testing::_))));
  EXPECT_THAT(DescribePlan(options),
              Not(Contains(Pair("warning", ::testing::_))));
  options.run.model.num_nextn_predict_layers = 1;
  options.run.config.mutable_objective()->set_keep_sampling_mask(false);
  EXPECT_THAT(DescribePlan(options),
              Contains(Pair("numerics",
                            MatchesRegex("fp32 on CPU tier [a-z0-9_]+ "
                                         "\\((named|the fastest|timed).*"))));
  EXPECT_THAT(DescribePlan(options),
              Contains(Pair("MTP", HasSubstr("not trained"))));
  EXPECT_THAT(DescribePlan(options),
              Contains(Pair("warning", HasSubstr("keep_sampling_mask"))));
}

// Of DeepSeek-V3.2's dimensions.
TEST(TrainTest, PlanSaysWhatATokenTakesInTheCache) {
  TrainOptions options = Options();
  ModelConfig& model = options.run.model;
  model.num_attention_heads = model.qk_nope_head_dim = model.v_head_dim = 128;
  model.kv_lora_rank = 512;
  model.qk_rope_head_dim = 64;
  model.index_head_dim = 128;
  const auto cache = [&](RunConfig::Numerics numerics) {
    options.run.config.set_numerics(numerics);
    for (const auto& [name, text] : DescribePlan(options)) {
      if (name == "cache") return text;
    }
    return std::string();
  };
  const std::string heads =
      " less than multi-head attention in bf16 takes "
      "(81920); ";
  EXPECT_EQ(cache(RunConfig::fp8),
            absl::StrCat("788 bytes a token and layer in fp8, 99 %", heads,
                         "1408 in bf16"));
  EXPECT_EQ(cache(RunConfig::bf16),
            absl::StrCat("1408 bytes a token and layer in bf16, 98 %", heads,
                         "788 in fp8"));
  EXPECT_EQ(cache(RunConfig::fp32),
            absl::StrCat("2816 bytes a token and layer in fp32, 97 %", heads,
                         "1408 in bf16; 788 in fp8"));
}

TEST(TrainTest, PlanSaysWhatBecomesOfCodes) {
  TrainOptions options = Options();
  const auto weights = [&](const StoredCodes& codes,
                           RunConfig::Numerics numerics) {
    options.run.codes = codes;
    options.run.config.set_numerics(numerics);
    for (const auto& [name, text] : DescribePlan(options)) {
      if (name == "weights") return text;
    }
    return std::string();
  };
  EXPECT_EQ(weights({}, RunConfig::fp8), "");
  EXPECT_EQ(weights({7, 0}, RunConfig::fp8),
            "7 matrices stored in F8_E4M3, whose values are kept");
  EXPECT_EQ(weights({7, 2}, RunConfig::fp8),
            "7 matrices stored in F8_E4M3, of which 2 have scales that are no "
            "powers of two from 2^-22 on: dequantised and quantised again");
  EXPECT_EQ(weights({7, 2}, RunConfig::bf16),
            "7 matrices stored in F8_E4M3, dequantised");
}

// A whole run whose children are shell scripts, named as the verbs.
class TrainRunTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string directory = absl::StrCat(
        getenv("TEST_TMPDIR"), "/",
        ::testing::UnitTest::GetInstance()->current_test_info()->name());
    options_ = Options();
    char* const here = getcwd(nullptr, 0);
    here_ = here;
    free(here);
    options_.run.dir = directory + "/run";
    options_.child_program = "/bin/sh";
    options_.run.config.set_workers(1);
    ASSERT_TRUE(MakeDirectories(options_.run.dir + "/logs").ok());
    ASSERT_EQ(chdir(directory.c_str()), 0);
    Script("rollout", "sleep 1000");
    Script("env-host", "sleep 1000");
    const auto db = OpenTrialDb(options_.run.dir, SystemClock());
    ASSERT_NE(db, nullptr);
    ASSERT_TRUE(db->RecordCheckpoint(4, "step_4").ok());
  }

  // Tests find their data from here.
  void TearDown() override { EXPECT_EQ(chdir(here_.c_str()), 0); }

  static void Script(const std::string& verb, const std::string& text) {
    ASSERT_TRUE(WriteFileDurably(verb, text + "\n").ok());
  }

  // A learner that presses Ctrl-C and then ends so.
  static void StoppedLearner(const std::string& end) {
    Script("learner", absl::StrCat("trap '", end,
                                   "' TERM; kill -INT $PPID; "
                                   "while :; do sleep 0.01; done"));
  }

  // The exit code; stderr is in err_.
  int Run() {
    ::testing::internal::CaptureStderr();
    const int code = TrainRun(options_);
    err_ = ::testing::internal::GetCapturedStderr();
    return code;
  }

  TrainOptions options_;
  std::string here_;
  std::string err_;
};

TEST_F(TrainRunTest, StoppedRunNamesItsCheckpointsStep) {
  StoppedLearner("exit 0");
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(Run(), 0);
  // Where the run goes on is told once, and not as something to try.
  EXPECT_THAT(::testing::internal::GetCapturedStdout(),
              Not(HasSubstr("--resume")));
  EXPECT_THAT(err_, HasSubstr("stopped after step 4; resume with"));
}

TEST_F(TrainRunTest, StoppedRunHasFailedIfItsLearnerCouldNotSave) {
  StoppedLearner("echo disk full; exit 1");
  EXPECT_EQ(Run(), 1);
  EXPECT_THAT(err_, HasSubstr("learner failed; the last lines"));
  EXPECT_THAT(err_, HasSubstr("disk full"));
  EXPECT_THAT(err_, HasSubstr("train --resume " + options_.run.dir));
  EXPECT_THAT(err_, Not(HasSubstr("stopped after step")));
}

TEST_F(TrainRunTest, StoppedRunHasFailedIfItsLearnerHadToBeKilled) {
  options_.learner_grace_ms = 50;
  StoppedLearner("");
  EXPECT_EQ(Run(), 1);
  EXPECT_THAT(err_, HasSubstr("learner failed; the last lines"));
}

TEST_F(TrainRunTest, ADeafWorkerHasItsOwnGraceNotTheLearners) {
  options_.learner_grace_ms = 60'000;
  options_.worker_grace_ms = 50;
  Script("rollout", "trap '' TERM; echo deaf; while :; do sleep 1; done");
  Script("learner",
         "trap 'exit 0' TERM; "
         "until grep -q deaf run/logs/worker-0.log; do sleep 0.01; done; "
         "kill -INT $PPID; while :; do sleep 0.01; done");
  const int64_t begin_us = SystemClock()->MonotonicMicros();
  EXPECT_EQ(Run(), 0);
  EXPECT_LT(SystemClock()->MonotonicMicros() - begin_us, 30'000'000);
}

TEST_F(TrainRunTest, AFinishedRunSaysThatThereIsNothingToDoAndStartsNobody) {
  options_.run.finished = true;
  Script("learner", "exit 1");
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(Run(), 0);
  const std::string out = ::testing::internal::GetCapturedStdout();
  EXPECT_THAT(out, HasSubstr("nothing to do: all 5 steps are done"));
  EXPECT_THAT(out, HasSubstr("--set steps=35"));
  EXPECT_NE(access((options_.run.dir + "/logs/learner.log").c_str(), F_OK), 0);
}

TEST_F(TrainRunTest, AddressesOfAnEarlierAttemptAreNotLeftForWorkers) {
  options_.run.config.add_environments("interpreter");
  Script("learner", "exit 0");
  for (const std::string name : {"/learner.address", "/env-host.address"}) {
    ASSERT_TRUE(WriteFileDurably(options_.run.dir + name, "old").ok());
  }
  EXPECT_EQ(Run(), 0);
  for (const std::string name : {"/learner.address", "/env-host.address"}) {
    EXPECT_NE(access((options_.run.dir + name).c_str(), F_OK), 0) << name;
  }
}

}  // namespace
}  // namespace temper
