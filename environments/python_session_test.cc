// What code in a sandbox can and cannot do. The attacks are run for real.

#include "environments/python_session.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "environments/memory_attack.h"
#include "environments/sandbox_processes_fixture.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;

class PythonSessionTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    SandboxSupervisorOptions options;
    options.limits.memory_bytes_max = 256 << 20;
    options.slots_max = 2;
    auto supervisor = SandboxSupervisor::Start(options);
    ASSERT_TRUE(supervisor.ok()) << supervisor.status();
    supervisor_ = supervisor->release();
    auto pool = SandboxPool::Create(supervisor_);
    ASSERT_TRUE(pool.ok()) << pool.status();
    pool_ = pool->release();
  }

  static void TearDownTestSuite() {
    delete pool_;
    delete supervisor_;
  }

  void SetUp() override {
    ASSERT_NE(pool_, nullptr);
    session_ = NewSession();
  }

  static std::unique_ptr<PythonSession> NewSession(uint64_t seed = 7) {
    PythonSessionLimits limits;
    limits.cell_max = std::chrono::milliseconds(1500);
    return std::make_unique<PythonSession>(pool_, seed, limits);
  }

  // A Step of one cell.
  static ToolResult RunIn(PythonSession* session, const std::string& source) {
    const absl::StatusOr<ToolResult> result = session->Run(source);
    EXPECT_TRUE(result.ok()) << result.status();
    session->EndStep();
    return result.ok() ? *result : ToolResult();
  }

  ToolResult Run(const std::string& source) {
    return RunIn(session_.get(), source);
  }

  std::string Text(const std::string& source) { return Run(source).content(); }

  // After whatever happened, the machine serves the next session.
  void ExpectStillServing() {
    session_.reset();
    session_ = NewSession();
    EXPECT_EQ(Text("6*7"), "42\n");
  }

  static SandboxSupervisor* supervisor_;
  static SandboxPool* pool_;
  std::unique_ptr<PythonSession> session_;
};

SandboxSupervisor* PythonSessionTest::supervisor_ = nullptr;
SandboxPool* PythonSessionTest::pool_ = nullptr;

TEST_F(PythonSessionTest, ReturnsOutputAndTheLastValue) {
  EXPECT_EQ(Text("37*48+15"), "1791\n");
  EXPECT_EQ(Text("print('a')\n'b'"), "a\n'b'\n");
  EXPECT_EQ(Text("x = 3"), "");
  EXPECT_EQ(Text("None"), "");
  EXPECT_EQ(Text("import sys\nprint(1, file=sys.stderr)\nprint(2)"), "1\n2\n");
  EXPECT_EQ(Run("x").outcome(), OUTCOME_OK);
}

TEST_F(PythonSessionTest, KeepsStateBetweenCells) {
  Run("def f(n):\n  return n * n");
  Run("total = f(5)");
  EXPECT_EQ(Text("total + f(2)"), "29\n");
}

TEST_F(PythonSessionTest, ErrorsAreTextOfTheModelsOwnCode) {
  const ToolResult result = Run("print('before')\n1/0");
  EXPECT_EQ(result.outcome(), OUTCOME_TOOL_ERROR);
  // What follows the error's name is Python's own.
  EXPECT_THAT(result.content(), MatchesRegex("before\nZeroDivisionError: .* "
                                             "\\(line 2\\)"));
  EXPECT_THAT(Text("1 +"), MatchesRegex("SyntaxError: .* \\(line 1\\)"));
  // A line is one of this cell, wherever it was that it went wrong.
  Run("def invert(x):\n\n  return 1 / x");
  EXPECT_EQ(Text("x = 0\ninvert(x)"),
            "ZeroDivisionError: division by zero (line 2, in line 3 of an "
            "earlier cell)");
  EXPECT_EQ(Text("def twice(f):\n  f()\n  f()\ntwice(lambda: {}['x'])"),
            "KeyError: 'x' (line 4)");
  Run("def call(f):\n  return f()");
  EXPECT_EQ(Text("\n\ncall(lambda: {}['x'])"), "KeyError: 'x' (line 3)");
  EXPECT_EQ(Text("import sys; sys.exit(3)"), "SystemExit: 3 (line 1)");
  EXPECT_EQ(Run(std::string("a\0b", 3)).outcome(), OUTCOME_TOOL_ERROR);
  EXPECT_EQ(Run("\xFF\xFE").outcome(), OUTCOME_TOOL_ERROR);
  EXPECT_EQ(
      Text("class E(Exception):\n  def __str__(self): raise self\nraise E"),
      "an exception that cannot be printed");
  EXPECT_EQ(Text("1"), "1\n");  // and the session stands
}

TEST_F(PythonSessionTest, SameSeedSameText) {
  const std::string cell =
      "import random\nprint(random.random(), {'a', 'b', 'c'}, object())";
  const std::string first = Text(cell);
  session_ = NewSession(7);
  EXPECT_EQ(Text(cell), first);
  session_ = NewSession(8);
  EXPECT_NE(Text(cell), first);
}

TEST_F(PythonSessionTest, StateSurvivesTheLossOfTheSandboxToOthers) {
  Run("import random\nx = random.random()");
  const std::string x = Text("x");
  std::vector<std::unique_ptr<PythonSession>> others;
  for (int i = 0; i < 4; ++i) {  // more than there are slots
    others.push_back(NewSession());
    ASSERT_EQ(RunIn(others.back().get(), "1").content(), "1\n");
  }
  EXPECT_EQ(Text("x"), x);
  EXPECT_EQ(RunIn(others[0].get(), "2").content(), "2\n");
}

// A session that loses its sandbox to others after a cell that takes 1 s, and
// `again` seconds when it is run again.
class PythonReplayTest : public PythonSessionTest {
 protected:
  ToolResult NextCell(const std::string& again) {
    Run("import time");
    const time_t later = time(nullptr) + 3;
    EXPECT_EQ(Run("time.sleep(1 if time.time() < " + std::to_string(later) +
                  " else " + again + ")")
                  .outcome(),
              OUTCOME_OK);
    std::vector<std::unique_ptr<PythonSession>> others(2);  // all slots
    do {
      for (auto& other : others) {
        other = NewSession();
        EXPECT_EQ(RunIn(other.get(), "1").content(), "1\n");
      }
    } while (time(nullptr) <= later);
    return Run("'next'");
  }
};

TEST_F(PythonReplayTest, MachineThatIsSlowerTheSecondTimeIsForgiven) {
  // Above cell_max, below cell_max more than four times what it took.
  const ToolResult next = NextCell("3");
  EXPECT_EQ(next.outcome(), OUTCOME_OK);
  EXPECT_EQ(next.content(), "'next'\n");
}

TEST_F(PythonReplayTest, CandidateThatHangsTheSecondTimeIsCharged) {
  EXPECT_EQ(NextCell("1000").outcome(), OUTCOME_TIMEOUT);
  EXPECT_EQ(Text("6*7"), "42\n");  // and it goes on afresh
}

TEST_F(PythonSessionTest, HostFilesAndSecretsAreNotThere) {
  const std::string secret = std::string(getenv("TEST_TMPDIR")) + "/secret";
  std::ofstream(secret) << "hidden";
  for (const std::string& path :
       {secret, std::string("/etc/passwd"), std::string("/proc/1/environ"),
        std::string("/proc/self/mem"), std::string("/root"),
        std::string("/proc/sys/kernel/core_pattern"),
        std::string("/dev/sda")}) {
    EXPECT_THAT(Text("open('" + path + "').read()"), HasSubstr("Error"))
        << path;
  }
  EXPECT_EQ(Text("import os; sorted(os.environ)"),
            "['HOME', 'LC_CTYPE', 'PWD', 'PYTHONDONTWRITEBYTECODE', "
            "'PYTHONHASHSEED']\n");
  EXPECT_EQ(Text("sorted(os.listdir('/'))"),
            "['bin', 'dev', 'etc', 'lib', 'lib64', 'tmp', 'usr']\n");
}

TEST_F(PythonSessionTest, IsNobodyAndWritesOnlyItsOwnTmp) {
  EXPECT_EQ(Text("import os; os.getuid(), os.getgid(), os.uname().nodename"),
            "(1000, 1000, 'sandbox')\n");
  for (const char* path : {"/x", "/usr/x", "/usr/lib/x", "/dev/x"}) {
    EXPECT_EQ(Run(std::string("open('") + path + "', 'w')").outcome(),
              OUTCOME_TOOL_ERROR)
        << path;
  }
  EXPECT_EQ(Text("open('/tmp/x', 'w').write('1')"), "1\n");
  session_ = NewSession();
  EXPECT_EQ(Text("import os; os.listdir('/tmp')"), "[]\n");
}

TEST_F(PythonSessionTest, NoDescriptorOfTheLauncherIsInherited) {
  const int fd = open("/dev/zero", O_RDONLY);  // inheritable on purpose
  ASSERT_GE(fd, 0);
  session_ = NewSession();
  EXPECT_EQ(Text("import os\n"
                 "def there(fd):\n"
                 "  try:\n    os.fstat(fd)\n    return True\n"
                 "  except OSError:\n    return False\n"
                 "[fd for fd in range(64) if there(fd)]"),
            "[0, 1, 2, 3, 4]\n");
  close(fd);
}

TEST_F(PythonSessionTest, ThereIsNoNetwork) {
  for (const char* family :
       {"AF_INET", "AF_INET6", "AF_NETLINK", "AF_VSOCK", "AF_PACKET"}) {
    EXPECT_THAT(Text(std::string("import socket; socket.socket(socket.") +
                     family + ", socket.SOCK_DGRAM)"),
                HasSubstr("Address family not supported"))
        << family;
  }
  // The abstract sockets of the host are another network namespace's.
  EXPECT_THAT(Text("s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
                   "s.connect('\\0temper-sandbox-uid-20000')"),
              HasSubstr("ConnectionRefusedError"));
}

TEST_F(PythonSessionTest, DangerousSystemCallsAreRefused) {
  Run("import ctypes, os\nlibc = ctypes.CDLL('libc.so.6', use_errno=True)\n"
      "def call(*a):\n  r = libc.syscall(*a)\n"
      "  return r if r >= 0 else -ctypes.get_errno()");
  const struct {
    const char* name;
    const char* arguments;
  } kCalls[] = {
      {"unshare", "272, 0x10000000"},
      {"mount", "165, 0, 0, 0, 0, 0"},
      {"ptrace", "101, 0, 0, 0, 0"},
      {"keyctl", "250, 0, 0, 0"},
      {"io_uring_setup", "425, 1, 0"},
      {"bpf", "321, 0, 0, 0"},
      {"personality", "135, 0"},
      {"inotify_init", "253"},
      {"inotify_init1", "294, 0"},
      {"memfd_create", "319, b'x', 0"},
      {"fcntl F_SETPIPE_SZ", "72, os.pipe()[1], 1031, 1 << 20"},
      {"timer_create", "222, 0, 0, 0"},
      {"shmget", "29, 0, 4096, 0o1600"},
      {"semget", "64, 0, 1, 0o1600"},
      {"msgget", "68, 0, 0o1600"},
      {"mq_open", "240, b'q', 0o102, 0o600, 0"},
      {"fcntl F_SETSIG", "72, os.pipe()[1], 10, 18"},
      {"fcntl with more above 32 bits",
       "72, os.pipe()[1], ctypes.c_long(1 << 32 | 1031), 1 << 20"},
      {"setsockopt with more above 32 bits",
       "54, 2, ctypes.c_long(1 << 32 | 1), ctypes.c_long(1 << 32 | 7), "
       "b'\\0\\0\\1\\0', 4"},
      {"setsockopt SO_SNDBUF", "54, 2, 1, 7, b'\\0\\0\\1\\0', 4"},
      {"clone newuser", "56, 0x10000011, 0"},
      {"process_vm_readv", "310, 1, 0, 0, 0, 0, 0"},
  };
  for (const auto& c : kCalls) {
    EXPECT_EQ(Text(std::string("call(") + c.arguments + ")"), "-1\n") << c.name;
  }
  EXPECT_EQ(Text("call(435, 0, 0)"), "-38\n");  // clone3 is not there
}

TEST_F(PythonSessionTest, ForkBombIsHeldAndChargedToTheCandidate) {
  const ToolResult result = Run("import os\nwhile True: os.fork()");
  EXPECT_NE(result.outcome(), OUTCOME_OK);
  EXPECT_EQ(Text("40 + 2"), "42\n");  // the same session, or a new one
  ExpectStillServing();
}

TEST_F(PythonSessionTest, ChildrenCannotOutliveTheirCellOrAnswerForIt) {
  EXPECT_EQ(Text("import os, time\n"
                 "if os.fork() == 0:\n  os.setsid()\n"
                 "  os.fork()\n  time.sleep(100)\n"
                 "print('parent')"),
            "parent\n");
  // Killed and reaped, they leave the limit free: all together are above it.
  const int children = supervisor_->holds_memory() ? 20 : 1;
  for (int cell = 0; cell < (children > 1 ? 5 : 20); ++cell) {
    const ToolResult result =
        Run(absl::StrCat("for i in range(", children,
                         "):\n  if os.fork() == 0: time.sleep(100)"));
    ASSERT_EQ(result.outcome(), OUTCOME_OK) << result.content();
  }
}

TEST_F(PythonSessionTest, MemoryIsBounded) {
  EXPECT_THAT(Text("x = bytearray(1 << 30)"), HasSubstr("MemoryError"));
  session_ = std::make_unique<PythonSession>(pool_, 1, PythonSessionLimits());
  const ToolResult result = Run(TakeMemory(60));
  uint64_t mib = 0;
  if (absl::SimpleAtoi(result.content(), &mib)) {
    EXPECT_LE(mib << 20, supervisor_->limits().memory_bytes_max);
  } else {
    EXPECT_TRUE(supervisor_->holds_memory());
    EXPECT_THAT(result.content(), HasSubstr("the Python process died"));
  }
  ExpectStillServing();
}

TEST_F(PythonSessionTest, FilesAndOutputAreBounded) {
  // In pieces: one of 64 MiB is more than some sandboxes' memory.
  EXPECT_THAT(Text("with open('/tmp/x', 'wb') as file:\n"
                   "  for i in range(64): file.write(b'x' * (1 << 20))"),
              HasSubstr("OSError"));
  const ToolResult flood = Run("while True: print('spam' * 100)");
  EXPECT_EQ(flood.outcome(), OUTCOME_TOOL_ERROR);
  EXPECT_LE(flood.content().size(), PythonSessionLimits().output_bytes_max);
  EXPECT_THAT(flood.content(), HasSubstr("[cut]"));
  EXPECT_EQ(Text("1"), "1\n");  // nothing of the flood is left over
  EXPECT_EQ(Text("import os; n = os.write(1, b'\\xff\\x00ok\\n')"), "?ok\n");
}

TEST_F(PythonSessionTest, TimeIsBounded) {
  Run("x = 1");
  for (const char* cell :
       {"while True: pass",
        "import signal, time\n"
        "for s in range(1, 30):\n  try: signal.signal(s, signal.SIG_IGN)\n"
        "  except Exception: pass\ntime.sleep(100)",
        "import signal\nsignal.pause()"}) {
    const ToolResult result = Run(cell);
    EXPECT_EQ(result.outcome(), OUTCOME_TIMEOUT) << cell;
    EXPECT_THAT(result.content(), HasSubstr("no result after 1500 ms"));
  }
  EXPECT_THAT(Text("x"), HasSubstr("NameError"));  // the state went with it
}

TEST_F(PythonSessionTest, TimeOfAllCellsIsBounded) {
  PythonSessionLimits limits;
  limits.cell_max = std::chrono::milliseconds(1000);
  limits.session_max = std::chrono::milliseconds(1500);
  session_ = std::make_unique<PythonSession>(pool_, 1, limits);
  EXPECT_EQ(Run("import time\ntime.sleep(0.7)").outcome(), OUTCOME_OK);
  EXPECT_EQ(Run("import os; os._exit(0)").outcome(), OUTCOME_TOOL_ERROR);
  // A death gives no time back: less than cell_max is left.
  const ToolResult last = Run("while True: pass");
  EXPECT_EQ(last.outcome(), OUTCOME_TIMEOUT);
  EXPECT_THAT(last.content(), HasSubstr("ran for 1500 ms in all"));
  const ToolResult more = Run("1");
  EXPECT_EQ(more.outcome(), OUTCOME_TIMEOUT);
  EXPECT_THAT(more.content(), HasSubstr("have run for 1500 ms in all"));
}

TEST_F(PythonSessionTest, AfterADeathTheRestOfTheStepIsNotRun) {
  for (const char* cell : {"import os; os._exit(0)", "while True: pass"}) {
    EXPECT_NE(session_->Run(cell)->outcome(), OUTCOME_OK);
    const auto rest = session_->Run("1");
    EXPECT_EQ(rest->outcome(), OUTCOME_TOOL_ERROR);
    EXPECT_THAT(rest->content(), HasSubstr("not run"));
    session_->EndStep();
    EXPECT_EQ(Text("1"), "1\n");
  }
}

TEST_F(PythonSessionTest, DeathIsChargedToTheCandidate) {
  for (const char* cell :
       {"import os; os._exit(0)", "import os; os.abort()",
        "import ctypes; ctypes.string_at(0)", "import os; os.close(3)",
        "import os; os.closerange(0, 64)"}) {
    EXPECT_EQ(Run(cell).outcome(), OUTCOME_TOOL_ERROR) << cell;
    EXPECT_EQ(Text("1"), "1\n");
  }
}

TEST_F(PythonSessionTest, ForgedRepliesAreTextAtMost) {
  // As good as print(): it is this cell's own result.
  EXPECT_EQ(Text("import os\n"
                 "n = os.write(3, bytes([0]) + (6).to_bytes(4, 'little') + "
                 "b'forged')\nos._exit(0)"),
            "forged");
  EXPECT_EQ(Run("1").outcome(), OUTCOME_TOOL_ERROR);  // the process was gone
  for (const char* bytes : {"b'\\xff' * 5", "b'\\x00' + b'\\xff' * 4",
                            "b'\\x02\\x00\\x00\\x00\\x00'"}) {
    const ToolResult broken =
        Run(std::string("import os\nn = os.write(3, ") + bytes + ")");
    EXPECT_EQ(broken.outcome(), OUTCOME_TOOL_ERROR) << bytes;
    EXPECT_THAT(broken.content(), HasSubstr("own socket"));
  }
  ExpectStillServing();
}

TEST_F(PythonSessionTest, NothingOfASessionRunsBetweenItsSteps) {
  for (const std::string& cell : CellsThatGoOn()) {
    session_ = NewSession();
    Run("1");
    EXPECT_THAT(AwakeBelow(supervisor_->helper_pid()), IsEmpty());
    Run(cell);
    EXPECT_THAT(AwakeBelow(supervisor_->helper_pid()), IsEmpty()) << cell;
    usleep(300'000);
    EXPECT_THAT(AwakeBelow(supervisor_->helper_pid()), IsEmpty()) << cell;
    EXPECT_EQ(RunIn(NewSession().get(), "6*7").content(), "42\n");
  }
  ExpectStillServing();
}

TEST_F(PythonSessionTest, WhatWasPrintedBeforeTheEndIsTold) {
  EXPECT_EQ(Text("print('begun')\nprint('half', end='')\nwhile True: pass"),
            "begun\nhalf\nerror: no result after 1500 ms; the session was "
            "ended (a first line %restart ends it and keeps its files)");
  EXPECT_THAT(
      Text("import os; print('begun'); os._exit(3)"),
      HasSubstr("begun\nerror: the Python process died with exit status "
                "3; the session was ended"));
  EXPECT_THAT(Text("print('begun'); os._exit(3)"),
              HasSubstr("NameError"));  // nothing of the ended session
  EXPECT_THAT(Text("import ctypes; print('begun'); ctypes.string_at(0)"),
              HasSubstr("begun\nerror: the Python process died by signal 11 "
                        "(SIGSEGV"));
  const std::string flood = Text(
      "for i in range(5000): print('spam')\n"
      "while True: pass");
  EXPECT_LE(flood.size(), PythonSessionLimits().output_bytes_max);
  EXPECT_THAT(flood, HasSubstr("spam\nspam\n"));
  EXPECT_THAT(flood, HasSubstr("[cut]\nerror: no result"));
  EXPECT_EQ(Text("1"), "1\n");
}

TEST_F(PythonSessionTest, CellsOfASessionAreBounded) {
  ToolResult last;
  for (uint32_t i = 0; i <= PythonSessionLimits().cells_max; ++i) {
    last = Run("1");
  }
  EXPECT_EQ(last.outcome(), OUTCOME_TOOL_ERROR);
  EXPECT_THAT(last.content(), HasSubstr("its limit"));
}

}  // namespace
}  // namespace temper
