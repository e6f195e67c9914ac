// Slots, and that nothing survives whoever started it.

#include "environments/sandbox.h"

#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <set>
#include <thread>

#include "absl/strings/numbers.h"
#include "environments/cgroup.h"
#include "environments/environment.h"
#include "environments/memory_attack.h"
#include "environments/python_session.h"
#include "environments/sandbox_processes_fixture.h"
#include "environments/sandbox_remains_fixture.h"
#include "environments/step_limits.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

SteadyTime In(int millis) {
  return std::chrono::steady_clock::now() + std::chrono::milliseconds(millis);
}

std::unique_ptr<SandboxSupervisor> NewSupervisor(uint32_t slots_max) {
  SandboxSupervisorOptions options;
  options.slots_max = slots_max;
  auto supervisor = SandboxSupervisor::Start(options);
  EXPECT_TRUE(supervisor.ok()) << supervisor.status();
  return supervisor.ok() ? *std::move(supervisor) : nullptr;
}

// Reaps until this process, a subreaper, has no descendant; a sandbox that
// outlived its starter would keep it here until the alarm.
void ExpectNoDescendantLeft() {
  alarm(30);
  while (waitpid(-1, nullptr, 0) > 0 || errno == EINTR) {
  }
  EXPECT_EQ(errno, ECHILD);
  alarm(0);
}

TEST(SandboxTest, WaitsForASlotNoLongerThanItsDeadline) {
  auto supervisor = NewSupervisor(1);
  auto pool = *SandboxPool::Create(supervisor.get());
  auto first = pool->Start(In(10000));
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = pool->Start(In(50));
  EXPECT_TRUE(absl::IsUnavailable(second.status())) << second.status();
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("slot"));
  first->reset();
  EXPECT_TRUE(pool->Start(In(10000)).ok());
}

TEST(SandboxTest, AParkedSandboxGivesWayToTheOldestFirst) {
  auto supervisor = NewSupervisor(2);
  auto pool = *SandboxPool::Create(supervisor.get());
  const uint64_t oldest = pool->Park(*pool->Start(In(10000)));
  if (supervisor->slots() == 1) {
    EXPECT_TRUE(pool->Start(In(10000)).ok());
    EXPECT_EQ(pool->Unpark(oldest), nullptr);
    return;
  }
  const uint64_t newer = pool->Park(*pool->Start(In(10000)));
  const auto third = pool->Start(In(10000));
  ASSERT_TRUE(third.ok()) << third.status();
  EXPECT_EQ(pool->Unpark(oldest), nullptr);
  EXPECT_NE(pool->Unpark(newer), nullptr);
  EXPECT_EQ(pool->Unpark(newer), nullptr);
}

TEST(SandboxTest, ManySessionsShareFewSlots) {
  auto supervisor = NewSupervisor(2);
  auto pool = *SandboxPool::Create(supervisor.get());
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&pool, i] {
      PythonSession session(pool.get(), 1, PythonSessionLimits());
      EXPECT_EQ(session.Run("x = " + std::to_string(i))->outcome(), OUTCOME_OK);
      for (int k = 0; k < 5; ++k) {
        session.EndStep();
        EXPECT_EQ(session.Run("x")->content(), std::to_string(i) + "\n");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(SandboxTest, SlotsAreGivenInOrderOfArrival) {
  auto supervisor = NewSupervisor(1);
  auto pool = *SandboxPool::Create(supervisor.get());
  auto held = *pool->Start(In(10000));
  std::vector<size_t> order;  // guarded by the one slot
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 5; ++i) {
    threads.emplace_back([&pool, &order, i] {
      auto sandbox = pool->Start(In(60000));
      ASSERT_TRUE(sandbox.ok()) << sandbox.status();
      order.push_back(i);
      if (i % 2 == 0) pool->Unpark(pool->Park(*std::move(sandbox))).reset();
    });
    while (pool->waiting() <= i) std::this_thread::yield();
  }
  const uint64_t ticket = pool->Park(std::move(held));
  EXPECT_EQ(pool->Unpark(ticket), nullptr);  // it went to who waited
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(order, testing::ElementsAre(0, 1, 2, 3, 4));
}

TEST(SandboxTest, AStepKeepsItsSlotToItsEnd) {
  auto supervisor = NewSupervisor(1);
  auto pool = *SandboxPool::Create(supervisor.get());
  PythonSession session(pool.get(), 1, PythonSessionLimits());
  // Not repeatable: a cell that ran again would show.
  const std::string x =
      session.Run("import os; x = os.urandom(8); x")->content();
  std::string other_said;
  std::thread waits([&pool, &other_said] {
    PythonSession other(pool.get(), 1, PythonSessionLimits());
    other_said = other.Run("'other'")->content();
  });
  while (pool->waiting() == 0) std::this_thread::yield();
  for (int i = 0; i < 10; ++i) EXPECT_EQ(session.Run("x")->content(), x);
  EXPECT_EQ(pool->waiting(), 1u);
  session.EndStep();
  waits.join();
  EXPECT_EQ(other_said, "'other'\n");
  EXPECT_NE(session.Run("x")->content(), x);  // and now it ran again
}

// What step_limits.h allows at worst, scaled down but for the time that a start
// takes: kStepsPerSlotMax sessions on one slot, with cells that are as slow as
// may be and as many as a Step may have.
TEST(SandboxTest, SlowCandidatesEndInTheirOwnOutcomesAndInTime) {
  auto supervisor = NewSupervisor(1);
  auto pool = *SandboxPool::Create(supervisor.get());
  PythonSessionLimits limits;
  limits.cell_max = kCellMax / 50;
  limits.session_max = kSessionMax / 50;
  limits.replay_max = kReplayMax / 50;
  limits.slot_max = kSlotWaitMax / 25;
  std::vector<std::thread> threads;
  for (int i = 0; i < kStepsPerSlotMax; ++i) {
    threads.emplace_back([&pool, &limits] {
      PythonSession session(pool.get(), 1, limits);
      int timeouts = 0;
      for (const uint32_t calls : {3u, kToolCallsPerStepMax}) {
        const SteadyTime begin = std::chrono::steady_clock::now();
        for (uint32_t call = 0; call < calls; ++call) {
          const auto result = session.Run("import time; time.sleep(0.08)");
          ASSERT_TRUE(result.ok()) << result.status();
          timeouts += result->outcome() == OUTCOME_TIMEOUT;
        }
        session.EndStep();
        EXPECT_LT(std::chrono::steady_clock::now() - begin, kStepMax / 25);
      }
      EXPECT_GE(timeouts, 1);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Whether `expectations` hold in a process of an ordinary user.
bool HoldsForAnOrdinaryUser(const std::function<void()>& expectations) {
  const pid_t child = fork();
  if (child == 0) {
    if (geteuid() == 0 &&
        (setgroups(0, nullptr) != 0 || setresgid(65534, 65534, 65534) != 0 ||
         setresuid(65534, 65534, 65534) != 0)) {
      _exit(2);
    }
    prctl(PR_SET_DUMPABLE, 1);  // or /proc/self would be root's
    expectations();
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = -1;
  waitpid(child, &status, 0);
  return status == 0;
}

TEST(SandboxTest, AnOrdinaryUserIsServedAndMemoryIsBoundedWithoutACgroup) {
  EXPECT_TRUE(HoldsForAnOrdinaryUser([] {
    auto supervisor = NewSupervisor(2);
    EXPECT_THAT(supervisor->description(), HasSubstr("in a user namespace"));
    if (!supervisor->holds_memory()) {
      EXPECT_EQ(supervisor->slots(), 1u);
      EXPECT_THAT(supervisor->description(),
                  HasSubstr("1 slot of 4 processes of 112 MiB"));
    }
    const auto pool = SandboxPool::Create(supervisor.get());
    ASSERT_TRUE(pool.ok()) << pool.status();
    for (const int child_mib : {20, 60, 90, 106}) {
      PythonSession session(pool->get(), 1, PythonSessionLimits());
      const auto result = session.Run(TakeMemory(child_mib));
      ASSERT_TRUE(result.ok()) << result.status();
      ASSERT_EQ(result->outcome(), OUTCOME_OK) << result->content();
      uint64_t mib = 0;
      EXPECT_TRUE(absl::SimpleAtoi(result->content(), &mib));
      EXPECT_LE(mib << 20, supervisor->limits().memory_bytes_max);
      EXPECT_GE(mib << 20, supervisor->limits().file_bytes_max);
    }
  }));
}

TEST(SandboxTest, NothingRunsBetweenStepsWithoutACgroup) {
  EXPECT_TRUE(HoldsForAnOrdinaryUser([] {
    auto supervisor = NewSupervisor(1);
    auto pool = *SandboxPool::Create(supervisor.get());
    PythonSessionLimits limits;
    limits.cell_max = std::chrono::milliseconds(1500);
    for (const std::string& cell : CellsThatGoOn()) {
      PythonSession session(pool.get(), 1, limits);
      EXPECT_EQ(session.Run("1")->content(), "1\n");
      session.EndStep();
      EXPECT_THAT(AwakeBelow(supervisor->helper_pid()), IsEmpty());
      ASSERT_TRUE(session.Run(cell).ok());
      session.EndStep();
      EXPECT_THAT(AwakeBelow(supervisor->helper_pid()), IsEmpty()) << cell;
      usleep(300'000);
      EXPECT_THAT(AwakeBelow(supervisor->helper_pid()), IsEmpty()) << cell;
    }
  }));
}

// Whoever forks on the machine, beside the sandbox, costs it nothing.
TEST(SandboxTest, ItIsKeptBesideForkLoopsWithoutACgroup) {
  EXPECT_TRUE(HoldsForAnOrdinaryUser([] {
    auto supervisor = NewSupervisor(1);
    auto pool = *SandboxPool::Create(supervisor.get());
    PythonSession session(pool.get(), 1, PythonSessionLimits());
    std::vector<pid_t> loops;
    for (int i = 0; i < 4; ++i) {
      loops.push_back(fork());
      if (loops.back() != 0) continue;
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (;;) {
        if (fork() == 0) _exit(0);
        waitpid(-1, nullptr, 0);
      }
    }
    const std::string x =
        session.Run("import os; x = os.urandom(8); x")->content();
    for (int i = 0; i < 10; ++i) {
      session.EndStep();
      EXPECT_EQ(session.Run("x")->content(), x);
    }
    for (const pid_t loop : loops) kill(loop, SIGKILL);
  }));
}

// One session, whose state would show that it was run again.
class ParkedTest : public testing::Test {
 protected:
  void Start(uint32_t life_seconds_max) {
    SandboxSupervisorOptions options;
    options.slots_max = 1;
    options.limits.life_seconds_max = life_seconds_max;
    supervisor_ = *SandboxSupervisor::Start(options);
    pool_ = *SandboxPool::Create(supervisor_.get());
    session_ =
        std::make_unique<PythonSession>(pool_.get(), 1, PythonSessionLimits());
  }
  ToolResult Run(const std::string& cell) {
    const auto result = session_->Run(cell);
    EXPECT_TRUE(result.ok()) << result.status();
    session_->EndStep();
    return result.ok() ? *result : ToolResult();
  }

  std::unique_ptr<SandboxSupervisor> supervisor_;
  std::unique_ptr<SandboxPool> pool_;
  std::unique_ptr<PythonSession> session_;
};

TEST_F(ParkedTest, TimeThatASandboxIsParkedIsNoneOfItsLife) {
  Start(/*life_seconds_max=*/2);
  const std::string x = Run("import os, time; x = os.urandom(8); x").content();
  sleep(3);
  EXPECT_EQ(Run("x").content(), x);
  EXPECT_THAT(Run("time.sleep(4)").content(), HasSubstr("died"));  // it is one
}

TEST_F(ParkedTest, DeathWhileParkedIsNotTheCandidates) {
  Start(/*life_seconds_max=*/1800);
  const std::string x = Run("import os; x = os.urandom(8); x").content();
  bool killed = false;
  for (const SandboxProcess& process :
       ProcessesBelow(supervisor_->helper_pid())) {
    if (process.state != 'T') continue;
    ASSERT_EQ(kill(process.pid, SIGKILL), 0);
    killed = true;
  }
  ASSERT_TRUE(killed);
  const ToolResult again = Run("x");
  EXPECT_EQ(again.outcome(), OUTCOME_OK) << again.content();
  EXPECT_NE(again.content(), x);
}

TEST(SandboxTest, ASlotWhoseSandboxEndsLateIsUsedAgain) {
  SandboxSupervisorOptions options;
  options.slots_max = 1;
  options.sandbox_end_max = std::chrono::milliseconds(100);
  auto supervisor = *SandboxSupervisor::Start(options);
  auto pool = *SandboxPool::Create(supervisor.get());
  auto sandbox = *pool->Start(In(10000));
  pid_t keeper = 0;
  for (const SandboxProcess& process :
       ProcessesBelow(supervisor->helper_pid())) {
    if (process.parent == supervisor->helper_pid()) keeper = process.pid;
  }
  ASSERT_NE(keeper, 0);
  kill(keeper, SIGSTOP);
  sandbox.reset();  // in vain
  EXPECT_TRUE(absl::IsUnavailable(pool->Start(In(300)).status()));
  EXPECT_FALSE(pool->lost());
  const SteadyTime end = In(10000);
  while (!pool->lost() && std::chrono::steady_clock::now() < end) usleep(1000);
  EXPECT_TRUE(pool->lost());  // nothing can start
  kill(keeper, SIGCONT);
  EXPECT_TRUE(pool->Start(In(10000)).ok());
  EXPECT_FALSE(pool->lost());
}

TEST(SandboxTest, KillNineOfTheStarterLeavesNothing) {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t starter = fork();
  if (starter == 0) {
    auto supervisor = NewSupervisor(1);
    auto pool = *SandboxPool::Create(supervisor.get());
    PythonSession session(pool.get(), 1, PythonSessionLimits());
    const bool ran = session
                         .Run(
                             "import threading, time\n"
                             "def spin():\n  while True: time.sleep(1)\n"
                             "threading.Thread(target=spin).start()")
                         .ok();
    if (write(ready[1], ran ? "y" : "n", 1) == 1) pause();
    _exit(1);
  }
  char answer = 0;
  ASSERT_EQ(read(ready[0], &answer, 1), 1);
  EXPECT_EQ(answer, 'y');
  kill(starter, SIGKILL);
  ExpectNoDescendantLeft();
  close(ready[0]);
  close(ready[1]);
}

TEST(SandboxTest, KillNineOfTheHelperLeavesNothingAndIsReported) {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  auto supervisor = NewSupervisor(1);
  auto pool = *SandboxPool::Create(supervisor.get());
  auto sandbox = pool->Start(In(10000));
  ASSERT_TRUE(sandbox.ok()) << sandbox.status();
  EXPECT_FALSE(supervisor->lost());
  kill(supervisor->helper_pid(), SIGKILL);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(supervisor->helper_pid()), &info,
                   WEXITED | WNOWAIT),
            0);
  EXPECT_TRUE(supervisor->lost());
  ExpectNoDescendantLeft();
  EXPECT_TRUE(supervisor->lost());
  char byte;
  // No doing of a candidate's.
  EXPECT_TRUE(absl::IsUnavailable((*sandbox)->Read(&byte, 1, In(10000))));
  EXPECT_TRUE(absl::IsUnavailable(supervisor->Launch(0, {})));
}

// Of whoever is between a session and the helper, while a session is at work.
TEST(SandboxTest, KillNineOfAKeeperOrABubblewrapLeavesNothing) {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  const CgroupHierarchy hierarchy = DetectCgroups();
  auto supervisor = NewSupervisor(1);
  const pid_t helper = supervisor->helper_pid();
  auto pool = *SandboxPool::Create(supervisor.get());
  std::set<int> keepers;
  for (const size_t victim : {0, 1, 2}) {
    PythonSession session(pool.get(), 1, PythonSessionLimits());
    const auto ran = session.Run(
        "import threading, time\nopen('/tmp/left', 'w').write('x')\n"
        "def spin():\n  while True: time.sleep(1)\n"
        "threading.Thread(target=spin).start()");
    ASSERT_TRUE(ran.ok()) << ran.status();
    // The keeper, and both of bubblewrap's, from the outside inwards.
    std::vector<pid_t> chain = {helper};
    while (chain.size() < 4) {
      pid_t inner = 0;
      for (const SandboxProcess& process : ProcessesBelow(helper)) {
        if (process.parent == chain.back()) inner = process.pid;
      }
      ASSERT_NE(inner, 0);
      chain.push_back(inner);
    }
    keepers.insert(chain[1]);
    EXPECT_EQ(GroupsOf(keepers, hierarchy).empty(), hierarchy.parents.empty());
    ASSERT_EQ(kill(chain[1 + victim], SIGKILL), 0);
    // The helper finds out by itself, though nobody asks it about the slot.
    const SteadyTime end = In(10000);
    while ((!ProcessesBelow(helper).empty() ||
            !GroupsOf(keepers, hierarchy).empty()) &&
           std::chrono::steady_clock::now() < end) {
      usleep(1000);
    }
    EXPECT_THAT(GroupsOf(keepers, hierarchy), IsEmpty()) << victim;
    EXPECT_TRUE(ProcessesBelow(helper).empty()) << victim;
    EXPECT_THAT(FilesOfSandboxes(), IsEmpty()) << victim;
    EXPECT_FALSE(supervisor->lost());
  }
  EXPECT_EQ(keepers.size(), 3u);
  pool.reset();
  supervisor.reset();
  ExpectNoDescendantLeft();
}

TEST(SandboxTest, AHelperThatHangsIsKilledAtTheEnd) {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  SandboxSupervisorOptions options;
  options.end_max = std::chrono::milliseconds(100);
  auto supervisor = SandboxSupervisor::Start(options);
  ASSERT_TRUE(supervisor.ok()) << supervisor.status();
  kill((*supervisor)->helper_pid(), SIGSTOP);
  alarm(30);
  supervisor->reset();
  ExpectNoDescendantLeft();
}

TEST(SandboxTest, EndingASandboxEndsItsDaemons) {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  auto supervisor = NewSupervisor(1);
  auto pool = *SandboxPool::Create(supervisor.get());
  {
    PythonSessionLimits limits;
    limits.cell_max = std::chrono::milliseconds(300);
    PythonSession session(pool.get(), 1, limits);
    EXPECT_EQ(session
                  .Run("import os, time\n"
                       "for i in range(5):\n"
                       "  if os.fork() == 0:\n    os.setsid()\n"
                       "    time.sleep(1000)\n"
                       "time.sleep(1000)")
                  ->outcome(),
              OUTCOME_TIMEOUT);
  }
  pool.reset();
  supervisor.reset();
  ExpectNoDescendantLeft();
}

TEST(SandboxTest, StartedTooLateOrWithoutItsToolsItSaysSo) {
  SandboxSupervisorOptions options;
  options.bwrap = "/nonexistent/bwrap";
  EXPECT_THAT(std::string(SandboxSupervisor::Start(options).status().message()),
              HasSubstr("install bubblewrap"));
  options.slots_max = 0;
  EXPECT_EQ(SandboxSupervisor::Start(options).status().code(),
            absl::StatusCode::kInvalidArgument);
  absl::StatusCode in_thread = absl::StatusCode::kOk;
  std::thread([&in_thread] {
    in_thread = SandboxSupervisor::Start({}).status().code();
  }).join();
  EXPECT_EQ(in_thread, absl::StatusCode::kFailedPrecondition);
}

TEST(SandboxTest, AProgramThatIsNoSandboxIsRefusedWithTheReason) {
  SandboxSupervisorOptions options;
  options.bwrap = "/bin/false";
  auto supervisor = SandboxSupervisor::Start(options);
  ASSERT_TRUE(supervisor.ok());
  const auto pool = SandboxPool::Create(supervisor->get());
  EXPECT_EQ(pool.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(pool.status().message()),
              HasSubstr("no sandbox can start here"));
}

}  // namespace
}  // namespace temper
