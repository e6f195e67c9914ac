// What code that is graded can do to its grader: nothing but take up its own
// time. No run may end as the machine's fault.

#include "environments/fresh_runs.h"

#include <atomic>
#include <thread>

#include "environments/sandbox_test_main.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

SandboxPool* sandboxes = nullptr;  // set in main

FreshRunsLimits ShortLimits() {
  FreshRunsLimits limits;
  limits.run_max = std::chrono::milliseconds(1000);
  limits.runs_max = std::chrono::milliseconds(4000);
  return limits;
}

// One call of f, which `source` defines.
FreshRun CallF(FreshRuns* runs, const std::string& source) {
  const auto run = runs->Call("", source, "f()");
  EXPECT_TRUE(run.ok()) << run.status() << " of " << source;
  return run.ok() ? *run : FreshRun();
}

FreshRun CallF(const std::string& source) {
  FreshRuns runs(sandboxes, 1, FreshRunsLimits());
  return CallF(&runs, source);
}

std::string Returned(const std::string& expression) {
  const FreshRun run = CallF("def f():\n  return " + expression);
  return run.outcome == OUTCOME_OK ? run.value : run.error;
}

TEST(FreshRunsTest, ValuesAreWrittenAsPythonHasThem) {
  EXPECT_EQ(Returned("[None, True, -3, 2.5, 'a\\'\\n', b'x']"),
            "[None, True, -3, 2.5, \"a'\\n\", b'x']");
  EXPECT_EQ(Returned("(1,), (), {'k': [1]}, {3}, set(), frozenset([4])"),
            "((1,), (), {'k': [1]}, {3}, {*()}, {4})");
  EXPECT_EQ(Returned("float('inf'), -float('inf'), float('nan'), 2**70"),
            "(inf, -inf, nan, 1180591620717411303424)");
  EXPECT_THAT(Returned("f"), HasSubstr("no plain value"));
  EXPECT_THAT(Returned("1j"), HasSubstr("no plain value"));
  EXPECT_THAT(Returned("10 ** 5000"), HasSubstr("ValueError"));
  EXPECT_THAT(Returned("'x' * 300000"), HasSubstr("a result of 300002 bytes"));
  EXPECT_EQ(Returned("'\\ud800'"), "'\\ud800'");
}

TEST(FreshRunsTest, ASubclassIsThePlainValueThatItIs) {
  EXPECT_EQ(CallF("import collections, enum\n"
                  "class E(enum.IntEnum): A = 3\n"
                  "def f():\n"
                  "  d = collections.defaultdict(int, a=1)\n"
                  "  return [d, collections.Counter('aa'), E.A,\n"
                  "    collections.namedtuple('P', 'x y')(1, 2)]")
                .value,
            "[{'a': 1}, {'a': 2}, 3, (1, 2)]");
}

TEST(FreshRunsTest, WhatItPrintsAndRaisesIsKept) {
  const FreshRun run = CallF(
      "print('a')\ndef f():\n  print('b')\n"
      "  raise KeyError('told')");
  EXPECT_EQ(run.outcome, OUTCOME_TOOL_ERROR);
  EXPECT_EQ(run.printed, "a\nb\n");
  EXPECT_EQ(run.error, "KeyError: 'told' (line 4)");
  EXPECT_THAT(CallF("def f(:").error, HasSubstr("SyntaxError"));
  EXPECT_THAT(CallF("def g(): pass").error, HasSubstr("NameError"));
  FreshRuns runs(sandboxes, 1, FreshRunsLimits());
  EXPECT_EQ(runs.Call("import math", "def f(x): return math.gcd(x, 4)", "f(6)")
                ->value,
            "2");
}

TEST(FreshRunsTest, ARunFindsNothingOfTheLast) {
  FreshRuns runs(sandboxes, 1, FreshRunsLimits());
  const std::string leave =
      "import os, random, sys\n"
      "def f():\n"
      "  was = [os.path.exists(p) for p in ('/tmp/x', '/dev/shm/x')]\n"
      "  was += [hasattr(sys, 'left'), os.environ.get('LEFT')]\n"
      "  for p in ('/tmp/x', '/dev/shm/x'): open(p, 'w')\n"
      "  sys.left = 1; os.environ['LEFT'] = '1'\n"
      "  return was + [random.random()]";
  const std::string first = CallF(&runs, leave).value;
  EXPECT_THAT(first, HasSubstr("[False, False, False, None, 0."));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(CallF(&runs, leave).value, first);
}

// Or who waits would wait for as many others as it has tests.
TEST(FreshRunsTest, ItsSlotIsNobodyElsesBetweenRuns) {
  SandboxSupervisorOptions options;
  options.slots_max = 1;
  auto supervisor = *SandboxSupervisor::Start(options);
  auto pool = *SandboxPool::Create(supervisor.get());
  const std::string six = "def f(): return 6";
  FreshRuns runs(pool.get(), 1, FreshRunsLimits());
  EXPECT_EQ(CallF(&runs, six).value, "6");
  std::atomic<bool> served = false;
  std::thread other([&] {
    FreshRuns waits(pool.get(), 1, FreshRunsLimits());
    EXPECT_EQ(CallF(&waits, six).value, "6");
    served = true;
  });
  while (pool->waiting() == 0) std::this_thread::yield();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(CallF(&runs, six).value, "6");
  EXPECT_FALSE(served);
  runs.Release();
  other.join();
  EXPECT_TRUE(served);
}

// Whatever it does is its own failure, the machine's never, and the next run
// is served.
TEST(FreshRunsTest, NoCandidateIsAnInfrastructureFailure) {
  const char* const kCandidates[] = {
      "def f():\n  while True: pass",
      "while True: pass",
      "import os\ndef f():\n  while True:\n    try: os.fork()\n"
      "    except OSError: pass",
      "def f():\n  x = []\n  while True: x.append(bytearray(1 << 20))",
      "def f():\n  while True: print('x' * 65536)",
      "import os\ndef f():\n  os.closerange(0, 64)",
      "import os\ndef f():\n  os.kill(os.getpid(), 9); os.abort()",
      "import os\ndef f():\n  os.kill(0, 9); os.kill(-1, 9); os._exit(0)",
      "import os, signal\nfor i in range(1, 65):\n"
      "  try: signal.signal(i, signal.SIG_IGN)\n  except Exception: pass\n"
      "def f():\n  while True: pass",
      "import os\ndef f():\n"
      "  for i in range(10000):\n"
      "    open('/tmp/%d' % i, 'w').write('x' * 10000)",
      "import sys\nsys.setrecursionlimit(1 << 30)\ndef f(): return f()",
      "import ctypes\ndef f(): ctypes.string_at(0)",
      "import os\nos.write(3, b'\\0' + b'\\xff' * 4)\ndef f(): pass",
      "import os\nos.write(3, b'\\7')\nos._exit(0)",
      "import os, time\ndef f():\n  for i in range(8):\n"
      "    if os.fork() == 0:\n      os.setsid()\n      time.sleep(1000)\n"
      "  while True: time.sleep(1)",
      "import os, mmap\ndef f():\n  x = mmap.mmap(-1, 100 << 20)\n"
      "  for i in range(0, 100 << 20, 4096): x[i] = 1\n"
      "  for i in range(20):\n    if os.fork() == 0: break\n"
      "  for i in range(0, 100 << 20, 4096): x[i] = 2\n  while True: pass",
  };
  for (const char* candidate : kCandidates) {
    FreshRuns runs(sandboxes, 1, ShortLimits());
    const FreshRun run = CallF(&runs, candidate);
    EXPECT_TRUE(run.outcome == OUTCOME_TOOL_ERROR ||
                run.outcome == OUTCOME_TIMEOUT)
        << candidate << " " << run.value;
    EXPECT_FALSE(run.error.empty()) << candidate;
    EXPECT_EQ(CallF(&runs, "def f(): return 6 * 7").value, "42") << candidate;
  }
}

TEST(FreshRunsTest, TimeAndNumberOfRunsAreBoundedTogether) {
  FreshRunsLimits limits = ShortLimits();
  limits.runs_max = std::chrono::milliseconds(1500);
  FreshRuns slow(sandboxes, 1, limits);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(CallF(&slow, "while True: pass").outcome, OUTCOME_TIMEOUT);
  }
  EXPECT_THAT(CallF(&slow, "def f(): pass").error, HasSubstr("not run"));
  slow.Release();  // there may be one slot only
  limits.run_count_max = 2;
  FreshRuns few(sandboxes, 1, limits);
  EXPECT_EQ(CallF(&few, "def f(): return 1").value, "1");
  few.Release();
  EXPECT_EQ(CallF(&few, "def f(): return 1").value, "1");
  EXPECT_THAT(CallF(&few, "def f(): return 1").error, HasSubstr("not run"));
}

Program Python(const std::string& code) {
  Program program;
  program.argv = {"/usr/bin/python3", "-S", "/tmp/main.py", "an argument"};
  program.snapshot = {{.path = "main.py", .contents = code}};
  program.stdin_text = "first\nsecond";
  return program;
}

FreshRun Execute(const Program& program) {
  FreshRuns runs(sandboxes, 1, FreshRunsLimits());
  const auto run = runs.Execute(program);
  EXPECT_TRUE(run.ok()) << run.status();
  return run.ok() ? *run : FreshRun();
}

TEST(FreshRunsTest, AProgramHasArgumentsInputAndOutput) {
  const FreshRun run = Execute(
      Python("import os, sys\nprint(input(), sys.stdin.read(), sys.argv[1])\n"
             "print(sorted(os.listdir('/tmp')), sorted(os.listdir('/usr')))\n"
             "print(os.environ.get('PATH'), len(os.environ), file=sys.stderr)\n"
             "sys.exit(3)"));
  EXPECT_EQ(run.outcome, OUTCOME_OK) << run.error;
  EXPECT_THAT(run.printed,
              HasSubstr("first second an argument\n['main.py'] ['bin', "));
  EXPECT_THAT(run.stderr_text, HasSubstr("/usr/bin "));
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_EQ(Execute(Python("import os; os.kill(os.getpid(), 9)")).exit_code,
            137);
  Program missing;
  missing.argv = {"/usr/bin/nothing"};
  EXPECT_EQ(Execute(missing).exit_code, 127);
}

TEST(FreshRunsTest, AProgramLeavesNothingRunningAndNoSocketToReach) {
  FreshRuns runs(sandboxes, 1, ShortLimits());
  Program program = Python(
      "import os, time\n"
      "for fd in range(3, 64):\n"
      "  try:\n    os.fstat(fd)\n    print('open', fd)\n"
      "  except OSError: pass\n"
      "for i in range(3):\n"
      "  try: child = os.fork()\n"
      "  except OSError: break  # few processes without a cgroup\n"
      "  if child == 0:\n    os.setsid()\n    time.sleep(1000)\n"
      "os.kill(1, 9)\nprint('done')");
  const auto run = runs.Execute(program);
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->printed, "done\n");
  EXPECT_EQ(run->exit_code, 0) << run->stderr_text;
}

TEST(FreshRunsTest, AnArtifactComesBackAndIsBounded) {
  Program program = Python("open('/tmp/out', 'wb').write(bytes(1000))");
  program.artifact = "out";
  EXPECT_EQ(Execute(program).artifact, std::string(1000, '\0'));
  program.snapshot[0].contents = "open('/tmp/out', 'wb').write(bytes(5 << 20))";
  EXPECT_EQ(Execute(program).outcome, OUTCOME_TOOL_ERROR);
  program.snapshot[0].contents =
      "import os; os.symlink('/dev/null', '/tmp/out')";
  EXPECT_EQ(Execute(program).artifact, "");
  program.snapshot[0].contents = "";
  EXPECT_EQ(Execute(program).outcome, OUTCOME_TOOL_ERROR);
}

TEST(FreshRunsTest, OutputIsBoundedWhileItIsMade) {
  FreshRunsLimits limits = ShortLimits();
  limits.output_bytes_max = 100;
  FreshRuns runs(sandboxes, 1, limits);
  const auto run = runs.Execute(Python("while True: print('x' * 1000)"));
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->printed, std::string(100, 'x'));
  EXPECT_TRUE(run->outcome == OUTCOME_TIMEOUT || run->exit_code != 0);
}

}  // namespace
}  // namespace temper

int main(int argc, char** argv) {
  return temper::RunTestsWithSandboxes(argc, argv, &temper::sandboxes);
}
