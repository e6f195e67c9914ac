#include "tools/run/supervisor.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "tools/run/stop_signal.h"

namespace temper {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kDeadlineMicros = 20'000'000;

// Polls `done` in real time; false after the deadline.
bool Eventually(const std::function<bool()>& done) {
  const int64_t deadline = SystemClock()->MonotonicMicros() + kDeadlineMicros;
  while (!done()) {
    if (SystemClock()->MonotonicMicros() > deadline) return false;
    usleep(1000);
  }
  return true;
}

class SupervisorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.program = "/bin/sh";
    // Time passes fast here; a test of them says otherwise.
    options_.restarts_back_ms = int64_t{1} << 40;
    options_.log_dir = absl::StrCat(
        getenv("TEST_TMPDIR"), "/",
        ::testing::UnitTest::GetInstance()->current_test_info()->name());
    ASSERT_TRUE(MakeDirectories(options_.log_dir).ok());
  }

  std::unique_ptr<Supervisor> New() {
    return std::make_unique<Supervisor>(
        options_, &clock_, [this](const ChildEvent& event) {
          const std::string kind = EventKindName(event.kind);
          events_.push_back(absl::StrCat(event.child, " ", kind));
          details_.push_back(event.detail);
        });
  }

  static ChildSpec Shell(const std::string& name, const std::string& group,
                         const std::string& script) {
    ChildSpec spec;
    spec.name = name;
    spec.group = group;
    spec.args = {"-c", script};
    return spec;
  }

  // Polls, with time passing fast for backoffs, until the state is `state`.
  bool Reaches(Supervisor* supervisor, RunState state) {
    return Eventually([&] {
      clock_.AdvanceMicros(1'000'000);
      return supervisor->Poll() == state;
    });
  }

  SupervisorOptions options_;
  FakeClock clock_;
  // Of the child's last start, as its event tells; 0 if it was not started.
  pid_t StartedPid(const std::string& child) const {
    for (size_t i = events_.size(); i-- > 0;) {
      if (events_[i] == child + " started") return atoi(&details_[i][4]);
    }
    return 0;
  }

  std::vector<std::string> events_;
  std::vector<std::string> details_;
};

TEST_F(SupervisorTest, AVariableForChildrenIsTheirsAndNotThisProcesss) {
  ASSERT_EQ(setenv("SUPERVISOR_TEST", "ours", 1), 0);
  ASSERT_EQ(setenv("SUPERVISOR_TEST_TOO", "kept", 1), 0);
  options_.environment = {"SUPERVISOR_TEST=theirs"};
  const auto supervisor = New();
  ChildSpec spec = Shell("one", "g",
                         "env | grep -c ^SUPERVISOR_TEST=;"
                         "echo $SUPERVISOR_TEST $SUPERVISOR_TEST_TOO");
  spec.essential = true;
  ASSERT_TRUE(supervisor->Start(spec).ok());
  ASSERT_TRUE(Reaches(supervisor.get(), RunState::kFinished));
  EXPECT_EQ(*ReadFile(supervisor->LogPath("one"), 1 << 10), "1\ntheirs kept\n");
  EXPECT_STREQ(getenv("SUPERVISOR_TEST"), "ours");
}

TEST_F(SupervisorTest, EssentialChildThatFinishesFinishesTheRun) {
  const auto supervisor = New();
  ChildSpec learner = Shell("learner", "learner", "exit 0");
  learner.essential = true;
  ASSERT_TRUE(supervisor->Start(learner).ok());
  EXPECT_TRUE(Reaches(supervisor.get(), RunState::kFinished));
  EXPECT_THAT(events_, ElementsAre("learner started", "learner finished"));
  EXPECT_EQ(supervisor->first_failure(), "");
}

TEST_F(SupervisorTest, DeadLearnerFailsTheRunAtOnceAndItsWordsAreKept) {
  const auto supervisor = New();
  ChildSpec learner =
      Shell("learner", "learner", "echo one; echo two >&2; kill -9 $$");
  learner.essential = true;
  ASSERT_TRUE(supervisor->Start(learner).ok());
  ASSERT_TRUE(supervisor->Start(Shell("w", "rollout", "sleep 1000")).ok());
  EXPECT_TRUE(Reaches(supervisor.get(), RunState::kFailed));
  EXPECT_EQ(supervisor->first_failure(), "learner");
  EXPECT_THAT(details_,
              ::testing::Contains(::testing::StartsWith("signal 9 (SIGKILL")));
  EXPECT_EQ(LastLines(supervisor->LogPath("learner"), 1), "two\n");
}

TEST_F(SupervisorTest, FailedChildIsRestartedWithDoublingBackoffThenSpent) {
  const auto supervisor = New();
  ChildSpec worker = Shell("worker-0", "rollout", "exit 3");
  worker.restarts_max = 2;
  ASSERT_TRUE(supervisor->Start(worker).ok());
  EXPECT_TRUE(Reaches(supervisor.get(), RunState::kFailed));
  EXPECT_THAT(
      events_,
      ElementsAre("worker-0 started", "worker-0 failed", "worker-0 restarting",
                  "worker-0 started", "worker-0 failed", "worker-0 restarting",
                  "worker-0 started", "worker-0 failed", "worker-0 spent"));
  EXPECT_EQ(details_[1], "exit 3");
  EXPECT_EQ(details_[2], "in 500 ms, 1 of 2");
  EXPECT_EQ(details_[5], "in 1000 ms, 2 of 2");
  EXPECT_EQ(supervisor->first_failure(), "worker-0");
}

TEST_F(SupervisorTest, OneThatLivedForLongHasItsRestartsBack) {
  options_.restarts_back_ms = 60'000;
  const auto supervisor = New();
  ChildSpec server = Shell("words", "words", "sleep 1000");
  server.restarts_max = 1;
  ASSERT_TRUE(supervisor->Start(server).ok());
  const auto die_after = [&](int64_t ms) {
    const pid_t pid = StartedPid("words");
    clock_.AdvanceMicros(1000 * ms);
    kill(pid, SIGKILL);
    const size_t before = events_.size();
    EXPECT_TRUE(Eventually([&] {
      supervisor->Poll();
      return events_.size() > before + 1;
    }));
    const std::string then = details_.back();
    clock_.AdvanceMicros(500'000);  // its backoff
    supervisor->Poll();
    return then;
  };
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(die_after(60'000), "in 500 ms, 1 of 1") << i;
  }
  EXPECT_EQ(die_after(59'000), "1 restarts");
  EXPECT_EQ(events_.back(), "words spent");
  EXPECT_EQ(supervisor->state(), RunState::kFailed);
}

TEST_F(SupervisorTest, OneWhoseRestartsAreNotCountedNeverEndsTheRun) {
  options_.backoff_ms_max = 1500;
  const auto supervisor = New();
  ChildSpec server = Shell("words", "words", "exit 1");
  server.restarts_max = kRestartsUncounted;
  ASSERT_TRUE(supervisor->Start(server).ok());
  std::string waits;
  for (int death = 1; death <= 5; ++death) {
    ASSERT_TRUE(Eventually([&] {
      supervisor->Poll();
      return events_.back() == "words restarting";
    }));
    absl::StrAppend(&waits, details_.back(), "; ");
    clock_.AdvanceMicros(1'500'000);
    EXPECT_EQ(supervisor->Poll(), RunState::kRunning);
  }
  EXPECT_EQ(waits,
            "in 500 ms, 1 so far; in 1000 ms, 2 so far; in 1500 ms, 3 so far; "
            "in 1500 ms, 4 so far; in 1500 ms, 5 so far; ");
}

TEST_F(SupervisorTest, NothingIsRestartedBeforeItsBackoffIsOver) {
  const auto supervisor = New();
  ChildSpec worker = Shell("worker-0", "rollout", "exit 3");
  worker.restarts_max = 1;
  ASSERT_TRUE(supervisor->Start(worker).ok());
  ASSERT_TRUE(Eventually([&] {
    supervisor->Poll();
    return events_.back() == "worker-0 restarting";
  }));
  clock_.AdvanceMicros(499'999);
  supervisor->Poll();
  EXPECT_EQ(events_.back(), "worker-0 restarting");
  clock_.AdvanceMicros(1);
  supervisor->Poll();
  EXPECT_EQ(events_.back(), "worker-0 started");
}

TEST_F(SupervisorTest, RunGoesOnWhileAnyMemberOfAGroupIsLeft) {
  const auto supervisor = New();
  ASSERT_TRUE(supervisor->Start(Shell("a", "rollout", "exit 1")).ok());
  ASSERT_TRUE(supervisor->Start(Shell("b", "rollout", "sleep 1000")).ok());
  ASSERT_TRUE(Eventually([&] {
    supervisor->Poll();
    return events_.back() == "a spent";
  }));
  EXPECT_EQ(supervisor->Poll(), RunState::kRunning);
  kill(StartedPid("b"), SIGKILL);
  EXPECT_TRUE(Reaches(supervisor.get(), RunState::kFailed));
  EXPECT_EQ(supervisor->first_failure(), "a");
}

TEST_F(SupervisorTest, WorkerThatFinishesWhileTheRunGoesOnIsRestarted) {
  const auto supervisor = New();
  ChildSpec learner = Shell("learner", "learner", "sleep 1000");
  learner.essential = true;
  ChildSpec worker = Shell("w", "rollout", "exit 0");
  worker.restarts_max = 1;
  ASSERT_TRUE(supervisor->Start(learner).ok());
  ASSERT_TRUE(supervisor->Start(worker).ok());
  EXPECT_TRUE(Reaches(supervisor.get(), RunState::kFailed));
  EXPECT_THAT(events_, ElementsAre("learner started", "w started", "w finished",
                                   "w failed", "w restarting", "w started",
                                   "w finished", "w failed", "w spent"));
  EXPECT_EQ(supervisor->first_failure(), "w");
}

TEST_F(SupervisorTest, WorkerMayFinishALittleBeforeTheLearner) {
  const auto supervisor = New();
  const std::string go = options_.log_dir + "/go";
  ChildSpec learner =
      Shell("learner", "learner",
            absl::StrCat("until [ -e ", go, " ]; do sleep 0.01; done"));
  learner.essential = true;
  ASSERT_TRUE(supervisor->Start(learner).ok());
  ASSERT_TRUE(supervisor->Start(Shell("w", "rollout", "exit 0")).ok());
  ASSERT_TRUE(Eventually([&] {
    supervisor->Poll();
    return events_.back() == "w finished";
  }));
  clock_.AdvanceMicros(1000 * options_.finish_slack_ms - 1);
  EXPECT_EQ(supervisor->Poll(), RunState::kRunning);
  ASSERT_TRUE(WriteFileDurably(go, "").ok());
  EXPECT_TRUE(
      Eventually([&] { return supervisor->Poll() == RunState::kFinished; }));
  EXPECT_THAT(events_, ElementsAre("learner started", "w started", "w finished",
                                   "learner finished"));
}

TEST_F(SupervisorTest, StoppedRunHasFinishedOnlyIfItsLearnerHas) {
  for (const int code : {0, 1}) {
    const auto supervisor = New();
    ChildSpec learner =
        Shell(absl::StrCat("learner-", code), "learner",
              absl::StrCat("trap 'exit ", code,
                           "' TERM; echo up; while :; do sleep 0.01; done"));
    learner.essential = true;
    ASSERT_TRUE(supervisor->Start(learner).ok());
    ASSERT_TRUE(supervisor->Start(Shell("w", "rollout", "sleep 1000")).ok());
    ASSERT_TRUE(Eventually([&] {
      return LastLines(supervisor->LogPath(learner.name), 1) == "up\n";
    }));
    supervisor->Stop(nullptr);
    EXPECT_EQ(supervisor->state(),
              code == 0 ? RunState::kFinished : RunState::kFailed);
    EXPECT_EQ(supervisor->first_failure(), code == 0 ? "" : learner.name);
    EXPECT_EQ(supervisor->Poll(), supervisor->state());
    EXPECT_THAT(events_, ::testing::Not(::testing::Contains("w restarting")));
  }
}

TEST_F(SupervisorTest, MisusedChildIsNotTriedAgain) {
  const auto supervisor = New();
  ChildSpec worker = Shell("w", "rollout", "exit 2");
  worker.restarts_max = 5;
  ASSERT_TRUE(supervisor->Start(worker).ok());
  EXPECT_TRUE(Reaches(supervisor.get(), RunState::kFailed));
  EXPECT_THAT(events_, ElementsAre("w started", "w failed", "w spent"));
}

TEST_F(SupervisorTest, StopEndsLowerOrdersFirstAndKillsTheDeaf) {
  const auto supervisor = New();
  const std::string order = options_.log_dir + "/order";
  ChildSpec first = Shell(
      "first", "learner",
      absl::StrCat("trap 'echo first >> ", order,
                   "; exit 0' TERM; echo up; while :; do sleep 0.01; done"));
  ChildSpec second = Shell(
      "second", "rollout",
      absl::StrCat("trap 'echo second >> ", order,
                   "; exit 0' TERM; echo up; while :; do sleep 0.01; done"));
  ChildSpec deaf =
      Shell("deaf", "host", "trap '' TERM; echo up; while :; do sleep 1; done");
  second.stop_order = 1;
  deaf.stop_order = 2;
  deaf.stop_grace_ms = 1000;
  for (const ChildSpec& spec : {second, deaf, first}) {
    ASSERT_TRUE(supervisor->Start(spec).ok());
    ASSERT_TRUE(Eventually([&] {
      return LastLines(supervisor->LogPath(spec.name), 1) == "up\n";
    }));
  }
  const pid_t pid = StartedPid("deaf");
  supervisor->Stop(nullptr);
  EXPECT_EQ(LastLines(order, 9), "first\nsecond\n");
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_EQ(events_.back(), "deaf failed");
  // Nobody is to look for a lack of memory.
  EXPECT_EQ(details_.back(),
            "killed when it had not ended 1 s after it was asked to");
}

TEST_F(SupervisorTest, ASignalThatMeansALimitNamesIt) {
  const auto supervisor = New();
  ChildSpec learner = Shell("learner", "learner",
                            "ulimit -f 1; exec head -c 9999 /dev/zero >big");
  learner.essential = true;
  ASSERT_TRUE(supervisor->Start(learner).ok());
  EXPECT_TRUE(Reaches(supervisor.get(), RunState::kFailed));
  EXPECT_THAT(details_, ::testing::Contains(::testing::HasSubstr(
                            "signal 25 (SIGXFSZ: a file grew past")));
}

TEST_F(SupervisorTest, HurryKillsWithoutWaitingForGrace) {
  const auto supervisor = New();
  ChildSpec deaf =
      Shell("deaf", "g", "trap '' TERM; echo up; while :; do sleep 1; done");
  deaf.stop_grace_ms = 600'000;
  ASSERT_TRUE(supervisor->Start(deaf).ok());
  ASSERT_TRUE(Eventually(
      [&] { return LastLines(supervisor->LogPath("deaf"), 1) == "up\n"; }));
  const int64_t begin = SystemClock()->MonotonicMicros();
  supervisor->Stop([] { return true; });
  EXPECT_LT(SystemClock()->MonotonicMicros() - begin, kDeadlineMicros);
  EXPECT_EQ(details_.back(), "killed in the hurry that was asked for");
}

TEST_F(SupervisorTest, WhatADeadChildLeftBehindIsKilledWithIt) {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  const auto supervisor = New();
  ASSERT_TRUE(
      supervisor
          ->Start(Shell("parent", "g", "sleep 1000 & echo $!; kill -9 $$"))
          .ok());
  ASSERT_TRUE(Reaches(supervisor.get(), RunState::kFailed));
  const pid_t orphan =
      atoi(LastLines(supervisor->LogPath("parent"), 1).c_str());
  ASSERT_GT(orphan, 0);
  int status = 0;
  EXPECT_TRUE(
      Eventually([&] { return waitpid(orphan, &status, WNOHANG) == orphan; }));
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

TEST_F(SupervisorTest, NoChildOutlivesAParentKilledByMinusNine) {
  // Orphans come to this process, so their end can be waited for.
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  const pid_t parent = fork();
  ASSERT_GE(parent, 0);
  if (parent == 0) {
    const auto supervisor = New();
    const bool started =
        supervisor->Start(Shell("child", "g", "echo up; sleep 1000")).ok();
    const pid_t child = started ? StartedPid("child") : 0;
    if (write(fds[1], &child, sizeof child) != sizeof child) _exit(1);
    for (;;) pause();
  }
  pid_t child = 0;
  ASSERT_EQ(read(fds[0], &child, sizeof child),
            static_cast<ssize_t>(sizeof child));
  ASSERT_GT(child, 0);
  ASSERT_TRUE(Eventually(
      [&] { return LastLines(options_.log_dir + "/child.log", 1) == "up\n"; }));
  ASSERT_EQ(kill(parent, SIGKILL), 0);
  ASSERT_EQ(waitpid(parent, nullptr, 0), parent);
  int status = 0;
  EXPECT_TRUE(
      Eventually([&] { return waitpid(child, &status, WNOHANG) == child; }));
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  close(fds[0]);
  close(fds[1]);
}

TEST_F(SupervisorTest, LogStaysBelowItsLimitAndKeepsTheNewestWords) {
  options_.log_bytes_max = 1000;
  const auto supervisor = New();
  // 1092 bytes, which seq writes at once.
  const std::string go = options_.log_dir + "/go";
  ASSERT_TRUE(
      supervisor
          ->Start(Shell("loud", "g",
                        absl::StrCat("seq 300; until [ -e ", go,
                                     " ]; do sleep 0.01; done; echo after")))
          .ok());
  const std::string log = supervisor->LogPath("loud");
  ASSERT_TRUE(Eventually([&] {
    supervisor->Poll();
    return LastLines(log + ".1", 1) == "300\n";
  }));
  ASSERT_TRUE(WriteFileDurably(go, "").ok());
  EXPECT_TRUE(Eventually([&] {
    supervisor->Poll();
    return LastLines(log, 9) == "after\n";
  }));
}

TEST_F(SupervisorTest, ChildInheritsNoDescriptorAndNoInput) {
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  const auto supervisor = New();
  ASSERT_TRUE(
      supervisor->Start(Shell("c", "g", "cat; ls /proc/self/fd | tr '\\n' ' '"))
          .ok());
  ASSERT_TRUE(Eventually([&] {
    supervisor->Poll();
    return events_.back() == "c finished";
  }));
  // ls itself has 3 open, the directory.
  EXPECT_EQ(LastLines(supervisor->LogPath("c"), 1), "0 1 2 3 ");
  close(fds[0]);
  close(fds[1]);
}

// A shell passes on to its jobs the hangup that the kernel has sent already.
TEST(StopSignalTest, AHangupAsksForAStopAndNeverForAHurry) {
  ASSERT_TRUE(InstallStopSignal().ok());
  ASSERT_EQ(StopSignalCount(), 0);
  raise(SIGHUP);
  EXPECT_TRUE(WaitForStopSignal(10'000));
  raise(SIGHUP);
  EXPECT_FALSE(WaitForStopSignal(0));
  EXPECT_EQ(StopSignalCount(), 1);
  raise(SIGINT);
  EXPECT_TRUE(WaitForStopSignal(10'000));
  EXPECT_EQ(StopSignalCount(), 2);
}

TEST(StopSignalTest, AHangupThatNohupIgnoresStaysIgnored) {
  signal(SIGHUP, SIG_IGN);
  ASSERT_TRUE(InstallStopSignal().ok());
  struct sigaction now = {};
  ASSERT_EQ(sigaction(SIGHUP, nullptr, &now), 0);
  EXPECT_EQ(now.sa_handler, SIG_IGN);
  signal(SIGHUP, SIG_DFL);
}

// In a process of its own, which it ends.
TEST(StopSignalDeathTest, WhereTheSecondEndsItIsNotTheOneOfTimeout) {
  const auto two = [](int64_t apart_ms) {
    if (!InstallStopSignal(SecondStop::kEnds).ok()) _exit(1);
    raise(SIGTERM);
    usleep(static_cast<useconds_t>(apart_ms * 1000));
    raise(SIGTERM);
    _exit(StopSignalCount());
  };
  EXPECT_EXIT(two(0), ::testing::ExitedWithCode(2), "");
  EXPECT_EXIT(two(700), ::testing::KilledBySignal(SIGTERM), "");
}

TEST(StopSignalTest, SignalsAreCountedAndWakeTheWaiter) {
  ASSERT_TRUE(InstallStopSignal().ok());
  EXPECT_FALSE(WaitForStopSignal(0));
  const int before = StopSignalCount();
  raise(SIGTERM);
  raise(SIGINT);
  EXPECT_EQ(StopSignalCount(), before + 2);
  EXPECT_TRUE(WaitForStopSignal(10'000));
  EXPECT_TRUE(WaitForStopSignal(10'000));
  EXPECT_FALSE(WaitForStopSignal(0));
}

TEST(LastLinesTest, CountsLinesFromTheEnd) {
  const std::string path = absl::StrCat(getenv("TEST_TMPDIR"), "/lines");
  ASSERT_TRUE(WriteFileDurably(path, "a\nb\n\nd").ok());
  EXPECT_EQ(LastLines(path, 1), "d");
  EXPECT_EQ(LastLines(path, 3), "b\n\nd");
  EXPECT_EQ(LastLines(path, 9), "a\nb\n\nd");
  EXPECT_EQ(LastLines(path + ".none", 9), "");
}

}  // namespace
}  // namespace temper
