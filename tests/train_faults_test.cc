// `temper train` when processes die: real processes, the shipped base model,
// both environments. Whatever is killed, and whenever, a run that ends well has
// trained on the samples and has the weights of one that nothing disturbed, bit
// for bit, and its ledger is sound; one that cannot go on says how to resume.

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "learner/store/ledger.h"
#include "tests/trial_run.h"

namespace temper {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

constexpr int64_t kDeadlineMs = 240'000;
constexpr int64_t kSteps = 6, kSaveInterval = 2;
constexpr int64_t kGroups = kSmallGroups, kSamples = kSmallSamples;
constexpr int kRestarts = 3;  // of each worker and host

class TrainFaultsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { WriteSmallConfig(kSteps, kSaveInterval); }

  static std::unique_ptr<TemperProcess> Start(
      const std::string& run, const std::vector<std::string>& more = {}) {
    return StartTrain(TrialPath("small.textproto"), run, more);
  }
  static void ExpectDone(TemperProcess* train) {
    const auto code = train->Wait(kDeadlineMs);
    EXPECT_EQ(code.value_or(-1), 0) << train->err() << train->out();
  }
  // By the very line that the ended run printed.
  static void ExpectResumesToTheEnd(const std::string& run,
                                    const std::string& err,
                                    const std::string& more = "") {
    const std::string line = ResumeCommandIn(err);
    ASSERT_EQ(line, absl::StrCat(kTemper, " train --resume ", RunDir(run)))
        << err;
    const auto resumed = RunCommandLine(line + more, TrialPath(run + "-again"));
    ExpectDone(resumed.get());
  }

  // The run that all others must agree with.
  static const RunFacts& Undisturbed() {
    static const RunFacts* facts = [] {
      const auto train = Start("undisturbed");
      ExpectDone(train.get());
      auto facts = ReadFacts("undisturbed");
      EXPECT_TRUE(facts.ok()) << facts.status();
      return new RunFacts(facts.ok() ? *std::move(facts) : RunFacts());
    }();
    return *facts;
  }
  static void ExpectAsUndisturbed(const std::string& run) {
    const RunFacts& expected = Undisturbed();
    const auto got = ReadFacts(run);
    ASSERT_TRUE(got.ok()) << got.status();
    ASSERT_THAT(expected.samples, SizeIs(kSteps * kGroups * kSamples));
    EXPECT_TRUE(got->samples == expected.samples) << "other samples trained";
    EXPECT_FALSE(got->weights.empty());
    EXPECT_TRUE(got->weights == expected.weights) << "other weights";
    const absl::Status audit = AuditRun(run);
    EXPECT_TRUE(audit.ok()) << audit;
  }

  // Train samples that wait for the rest of their step.
  static int64_t ReceivedSamples(const std::string& run) {
    return QueryNumber(run,
                       "SELECT count(*) FROM ledger WHERE state = 'received' "
                       "AND grp < ?",
                       {kEvalGroupBase});
  }
  // Waits until the run is in the middle of a step that follows one without a
  // checkpoint: some samples of it are here, others are being made.
  static void AwaitMiddle(const std::string& run, TemperProcess* train) {
    ASSERT_TRUE(Eventually(kDeadlineMs, [&] {
      if (!train->running()) return true;
      const int64_t received = ReceivedSamples(run);
      return received >= 1 && received < kGroups * kSamples &&
             LastStep(run) > kSaveInterval;
    }));
    ASSERT_TRUE(train->running()) << train->err();
    ASSERT_LT(LastStep(run), kSteps) << "the run went by too fast";
  }

  static std::vector<std::string> EventsOf(const std::string& run,
                                           const std::string& process) {
    const auto rows = Query(
        run, "SELECT kind FROM event WHERE process = ? ORDER BY id", {process});
    EXPECT_TRUE(rows.ok()) << rows.status();
    std::vector<std::string> kinds;
    if (!rows.ok()) return kinds;
    for (const SqlRow& row : *rows) kinds.push_back(row[0].AsString());
    return kinds;
  }

  // kill -9 of the first child of this verb; the run must go on to its end, and
  // run.db must tell of it.
  static void ExpectSurvivesDeathOf(const std::string& verb,
                                    const std::string& name,
                                    const std::string& run,
                                    const std::vector<std::string>& more) {
    const auto train = Start(run, more);
    AwaitMiddle(run, train.get());
    const pid_t child = ChildByVerb(train->pid(), verb);
    ASSERT_NE(child, 0);
    ASSERT_EQ(kill(child, SIGKILL), 0);
    ExpectDone(train.get());
    ExpectAsUndisturbed(run);
    EXPECT_THAT(EventsOf(run, name), Contains("restarting"));
  }

  // kill -9 of a worker, and of each that replaces it, until none does.
  static void KillUntilSpent(const std::string& worker, TemperProcess* train) {
    for (int kills = 0; kills <= kRestarts; ++kills) {
      pid_t pid = 0;
      ASSERT_TRUE(Eventually(kDeadlineMs, [&] {
        for (const ProcessInfo& process : Descendants(train->pid())) {
          const auto& argv = process.argv;
          if (argv.size() > 1 && argv[1] == "rollout" && StillRuns(process) &&
              std::count(argv.begin(), argv.end(), worker) == 1) {
            pid = process.pid;
          }
        }
        return pid != 0 || !train->running();
      }));
      ASSERT_NE(pid, 0) << train->err();
      ASSERT_EQ(kill(pid, SIGKILL), 0);
      const int dead = kills + 1;
      ASSERT_TRUE(Eventually(kDeadlineMs, [&] {
        return CountOf(train->err(), worker + " failed: signal 9") >= dead;
      }));
    }
  }
  static int CountOf(const std::string& text, const std::string& part) {
    int count = 0;
    for (size_t at = text.find(part); at != std::string::npos;
         at = text.find(part, at + 1)) {
      ++count;
    }
    return count;
  }
};

TEST_F(TrainFaultsTest, AKilledLearnerResumesToTheSameWeights) {
  const auto train = Start("learner-killed");
  AwaitMiddle("learner-killed", train.get());
  const pid_t learner = ChildByVerb(train->pid(), "learner");
  ASSERT_NE(learner, 0);
  ASSERT_EQ(kill(learner, SIGKILL), 0);
  EXPECT_EQ(train->Wait(kDeadlineMs).value_or(-1), 1) << train->err();
  EXPECT_THAT(train->err(),
              HasSubstr(absl::StrCat("learner failed; the last lines of ",
                                     RunDir("learner-killed"),
                                     "/logs/learner.log:\n")));
  EXPECT_LT(LastStep("learner-killed"), kSteps);

  ExpectResumesToTheEnd("learner-killed", train->err());
  ExpectAsUndisturbed("learner-killed");
}

TEST_F(TrainFaultsTest, AKilledWorkerIsRestartedAndNothingIsLostOrDoubled) {
  ExpectSurvivesDeathOf("rollout", "worker-0", "worker-killed", {});
}

TEST_F(TrainFaultsTest, OneOfTwoWorkersKilledChangesNothing) {
  ExpectSurvivesDeathOf("rollout", "worker-0", "one-of-two-killed",
                        {"--set", "workers=2"});
}

TEST_F(TrainFaultsTest, AKilledEnvironmentHostIsRestartedAndChangesNothing) {
  ExpectSurvivesDeathOf("env-host", "env-host", "host-killed", {});
}

TEST_F(TrainFaultsTest,
       RestartsSpentTheOthersGoOnAndWithNoneLeftItSaysHowToResume) {
  const std::string run = "workers-spent";
  const auto train = Start(run, {"--set", "workers=2", "--set", "steps=2000"});
  AwaitMiddle(run, train.get());
  KillUntilSpent("worker-0", train.get());
  EXPECT_TRUE(Eventually(kDeadlineMs, [&] {
    return CountOf(train->err(), "worker-0 spent") == 1;
  }));
  const int64_t then = LastStep(run);
  ASSERT_TRUE(Eventually(kDeadlineMs, [&] {
    return !train->running() || LastStep(run) >= then + 2;
  }));
  ASSERT_TRUE(train->running()) << train->err();

  KillUntilSpent("worker-1", train.get());
  EXPECT_EQ(train->Wait(kDeadlineMs).value_or(-1), 1) << train->err();
  EXPECT_THAT(train->err(), HasSubstr(" failed; the last lines of "));
  for (const char* worker : {"worker-0", "worker-1"}) {
    const auto events = EventsOf(run, worker);
    EXPECT_EQ(std::count(events.begin(), events.end(), "restarting"),
              kRestarts);
    EXPECT_EQ(std::count(events.begin(), events.end(), "spent"), 1);
  }
  const int64_t last = LastStep(run);
  ExpectResumesToTheEnd(run, train->err(),
                        absl::StrCat(" --set steps=", last + 1));
  EXPECT_EQ(LastStep(run), last + 1);
  // Of the steps that this attempt was to take, not the first.
  TemperProcess status(kTemper, {"status", RunDir(run)},
                       TrialPath(run + "-status"));
  EXPECT_EQ(status.Wait(kDeadlineMs).value_or(-1), 0) << status.err();
  EXPECT_THAT(status.out(),
              HasSubstr(absl::StrCat(" ", last + 1, "/", last + 1, " ")));
  const absl::Status audit = AuditRun(run);
  EXPECT_TRUE(audit.ok()) << audit;
}

TEST_F(TrainFaultsTest, NoProcessOutlivesAKilledTrain) {
  const auto train = Start("train-killed");
  AwaitMiddle("train-killed", train.get());
  const std::vector<ProcessInfo> below = Descendants(train->pid());
  EXPECT_GE(below.size(), 3u);  // learner, worker, env-host
  train->Signal(SIGKILL);
  EXPECT_EQ(train->Wait(kDeadlineMs).value_or(-1), 128 + SIGKILL);
  for (const ProcessInfo& process : below) {
    EXPECT_TRUE(Eventually(20'000, [&process] { return !StillRuns(process); }))
        << process.pid << " " << ::testing::PrintToString(process.argv);
  }
  const auto resumed = RunCommandLine(
      absl::StrCat(kTemper, " train --resume ", RunDir("train-killed")),
      TrialPath("train-killed-again"));
  ExpectDone(resumed.get());
  ExpectAsUndisturbed("train-killed");
}

// What closing a terminal does: the kernel hangs up on its processes, the shell
// passes that on, and nothing can be written there any more.
TEST_F(TrainFaultsTest, AClosedTerminalEndsWithACheckpoint) {
  const std::string run = "hung-up";
  int terminal = -1;
  const std::string config = TrialPath("small.textproto");
  const pid_t train = forkpty(&terminal, nullptr, nullptr, nullptr);
  ASSERT_GE(train, 0);
  if (train == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execl(kTemper, kTemper, "train", config.c_str(), "--name", run.c_str(),
          "--set", "steps=2000", static_cast<char*>(nullptr));
    _exit(127);
  }
  // A terminal that nobody reads stops who writes to it.
  char text[4096];
  ASSERT_EQ(fcntl(terminal, F_SETFL, O_NONBLOCK), 0);
  EXPECT_TRUE(Eventually(kDeadlineMs, [&] {
    while (read(terminal, text, sizeof text) > 0) {
    }
    return ReceivedSamples(run) >= 1 && LastStep(run) > kSaveInterval;
  }));
  const std::vector<ProcessInfo> below = Descendants(train);
  EXPECT_GE(below.size(), 3u);
  close(terminal);
  kill(train, SIGHUP);
  int status = 0;
  EXPECT_TRUE(Eventually(
      kDeadlineMs, [&] { return waitpid(train, &status, WNOHANG) == train; }));
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  for (const ProcessInfo& process : below) {
    EXPECT_FALSE(StillRuns(process)) << process.pid;
  }
  const auto facts = ReadFacts(run);  // the checkpoint is of LastStep
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_GT(facts->last_step, kSaveInterval);
}

TEST_F(TrainFaultsTest, OfTwoResumesAtOnceOneGoesOnAndTheOtherChangesNothing) {
  const std::string run = "raced";
  // Without a KL coefficient the base model may be gone by then, too.
  const std::string base = TrialPath("base");
  std::filesystem::copy(kQuickstartModel, base);
  const auto first =
      Start(run, {"--set", "steps=1", "--set", "eval_tasks=0", "--set",
                  "kl_coef=0", "--set", absl::StrCat("model=", base)});
  ExpectDone(first.get());
  ASSERT_TRUE(RemoveAll(base).ok());
  std::vector<std::unique_ptr<TemperProcess>> resumes;
  // Enough that neither ends before the other has begun.
  for (const int steps : {10, 11}) {
    resumes.push_back(
        RunCommandLine(absl::StrCat(kTemper, " train --resume ", RunDir(run),
                                    " --set steps=", steps),
                       TrialPath(absl::StrCat(run, "-", steps))));
  }
  std::vector<int> codes;
  for (const auto& resume : resumes) {
    codes.push_back(resume->Wait(kDeadlineMs).value_or(-1));
  }
  EXPECT_THAT(codes, UnorderedElementsAre(0, 1));
  const size_t refused = codes[0] == 0 ? 1 : 0;
  EXPECT_THAT(resumes[refused]->err(),
              HasSubstr("is being trained by another `temper train`"));
  const int64_t steps = refused == 0 ? 11 : 10;
  EXPECT_EQ(LastStep(run), steps);
  EXPECT_THAT(ReadAll(RunDir(run) + "/config.textproto"),
              HasSubstr(absl::StrCat("steps: ", steps, "\n")));
  EXPECT_EQ(QueryNumber(run, "SELECT max(attempt) FROM attempt"), 2);
  const absl::Status audit = AuditRun(run);
  EXPECT_TRUE(audit.ok()) << audit;

  // And once more: it is finished.
  const auto again =
      RunCommandLine(absl::StrCat(kTemper, " train --resume ", RunDir(run)),
                     TrialPath(run + "-again"));
  ExpectDone(again.get());
  EXPECT_THAT(again->out(), HasSubstr("nothing to do: all "));
  EXPECT_EQ(QueryNumber(run, "SELECT max(attempt) FROM attempt"), 2);
}

TEST_F(TrainFaultsTest, CtrlCEndsWithACheckpointThatResumes) {
  const auto train = Start("stopped");
  AwaitMiddle("stopped", train.get());
  const std::vector<ProcessInfo> below = Descendants(train->pid());
  train->Signal(SIGINT);
  ExpectDone(train.get());
  for (const ProcessInfo& process : below) {
    EXPECT_FALSE(StillRuns(process)) << process.pid;
  }
  const auto stopped = ReadFacts("stopped");  // the checkpoint is of LastStep
  ASSERT_TRUE(stopped.ok()) << stopped.status();
  EXPECT_GT(stopped->last_step, kSaveInterval);
  EXPECT_LT(stopped->last_step, kSteps);
  EXPECT_FALSE(stopped->weights.empty());

  const auto commands = NextCommandsIn(train->out());
  EXPECT_THAT(commands, SizeIs(3));
  for (const std::string& command : commands) {
    const auto process = RunCommandLine(command, TrialPath("next"));
    EXPECT_EQ(process->Wait(kDeadlineMs).value_or(-1), 0) << command << "\n"
                                                          << process->err();
  }

  ExpectResumesToTheEnd("stopped", train->err());
  ExpectAsUndisturbed("stopped");
  // Only its own steps are the resumed attempt's progress.
  const std::string out = ReadAll(TrialPath("stopped-again.out"));
  EXPECT_THAT(
      out, HasSubstr(absl::StrCat("going on after step ", stopped->last_step,
                                  "\nstep   ", stopped->last_step + 1, "/")));
}

}  // namespace
}  // namespace temper
