// A session that is asked to restart: what is gone, and what is kept.

#include <memory>
#include <string>
#include <vector>

#include "environments/python_session.h"
#include "environments/sandbox_test_main.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

SandboxPool* sandboxes = nullptr;  // set in main

std::unique_ptr<PythonSession> NewSession() {
  PythonSessionLimits limits;
  limits.cell_max = std::chrono::milliseconds(1500);
  return std::make_unique<PythonSession>(sandboxes, /*seed=*/7, limits);
}

// A Step of one cell.
ToolResult RunIn(PythonSession* session, const std::string& source) {
  const absl::StatusOr<ToolResult> result = session->Run(source);
  EXPECT_TRUE(result.ok()) << result.status();
  session->EndStep();
  return result.ok() ? *result : ToolResult();
}

class PythonRestartTest : public testing::Test {
 protected:
  ToolResult Run(const std::string& source) {
    return RunIn(session_.get(), source);
  }
  std::string Text(const std::string& source) { return Run(source).content(); }

  std::unique_ptr<PythonSession> session_ = NewSession();
};

TEST_F(PythonRestartTest, ItKeepsFilesAndNothingElse) {
  const std::string fresh = Text(
      "import os, random, sys, threading\n"
      "sorted(os.environ), os.getcwd(), os.getpid(), os.getuid(), "
      "random.random(), threading.active_count(), sorted(globals())");
  // In one Step: what leaves a thread is run anew in the next (sandbox.h).
  const auto left = session_->Run(
      "import builtins, json, subprocess, time\n"
      "x = 1\njson.dumps = sys.left = len\nbuiltins.kept = 1\n"
      "os.environ['LEFT'] = '1'\nos.mkdir('d')\nos.chdir('d')\n"
      "open('file', 'w').write('kept')\nhandle = open('file')\n"
      "def spin():\n  while True: time.sleep(1)\n"
      "threading.Thread(target=spin).start()\nrandom.random()");
  ASSERT_TRUE(left.ok()) << left.status();
  EXPECT_EQ(left->outcome(), OUTCOME_OK) << left->content();
  const ToolResult restarted = Run(" %restart \n");
  EXPECT_EQ(restarted.outcome(), OUTCOME_OK);
  EXPECT_EQ(restarted.content(),
            "the session was restarted; its files are kept");
  EXPECT_EQ(Text("import os, random, sys, threading\n"
                 "sorted(os.environ), os.getcwd(), os.getpid(), os.getuid(), "
                 "random.random(), threading.active_count(), "
                 "sorted(globals())"),
            fresh);
  EXPECT_EQ(Text("import json\njson.dumps([1]), hasattr(sys, 'left'), "
                 "hasattr(__builtins__, 'kept'), open('/tmp/d/file').read()"),
            "('[1]', False, False, 'kept')\n");
  EXPECT_EQ(Text("x"), "NameError: name 'x' is not defined (line 1)");
  // As a first session has them: stdin, stdout, stderr and the driver's two.
  EXPECT_EQ(Text("def there(fd):\n"
                 "  try:\n    os.fstat(fd)\n    return True\n"
                 "  except OSError:\n    return False\n"
                 "[fd for fd in range(64) if there(fd)]"),
            "[0, 1, 2, 3, 4]\n");
}

TEST_F(PythonRestartTest, ItKeepsTheWalls) {
  Run("%restart");
  Run("import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)");
  EXPECT_EQ(Text("libc.unshare(0x10000000), libc.prctl(39, 0, 0, 0, 0), "
                 "libc.prctl(21, 0, 0, 0, 0)"),
            "(-1, 1, 2)\n");  // no new privileges, and the filter
  EXPECT_THAT(Text("x = bytearray(1 << 30)"), HasSubstr("MemoryError"));
  EXPECT_EQ(Text("import resource\nmade = 0\n"
                 "try:\n  while made < 100:\n    if os.fork() == 0:\n"
                 "      __import__('time').sleep(100)\n    made += 1\n"
                 "except BlockingIOError: pass\nmade < 40"),
            "True\n");
  EXPECT_EQ(Run("while True: pass").outcome(), OUTCOME_TIMEOUT);
  EXPECT_EQ(Text("6*7"), "42\n");
}

TEST_F(PythonRestartTest, WhatFollowsARestartRunsInTheNewPython) {
  Run("x = 1\nprint = None");
  const ToolResult result = Run("%restart\nprint('new')\nx");
  EXPECT_EQ(result.outcome(), OUTCOME_TOOL_ERROR);
  EXPECT_EQ(result.content(),
            "new\nNameError: name 'x' is not defined (line 3)");
  EXPECT_THAT(Text("x = 1\n%restart"), HasSubstr("SyntaxError"));
  EXPECT_THAT(Text("%restarts"), HasSubstr("SyntaxError"));
}

TEST_F(PythonRestartTest, RestartsOfASessionAreBounded) {
  for (uint32_t i = 0; i < PythonSessionLimits().restarts_max; ++i) {
    EXPECT_EQ(Run("%restart").outcome(), OUTCOME_OK);
  }
  Run("x = 5");
  const ToolResult more = Run("%restart\nx = 6");
  EXPECT_EQ(more.outcome(), OUTCOME_TOOL_ERROR);
  EXPECT_EQ(more.content(),
            "error: not run, for the session was restarted 4 times, its limit");
  EXPECT_EQ(Text("x"), "5\n");
}

TEST_F(PythonRestartTest, ItIsRunAgainInAnotherSandbox) {
  Run("x = 1\nopen('file', 'w').write('kept')");
  Run("%restart");
  const std::string y = Text("import random\ny = random.random(); y");
  std::vector<std::unique_ptr<PythonSession>> others;
  for (uint32_t i = 0; i < sandboxes->supervisor().slots(); ++i) {
    others.push_back(NewSession());
    ASSERT_EQ(RunIn(others.back().get(), "1").content(), "1\n");
  }
  EXPECT_EQ(Text("y"), y);
  EXPECT_EQ(Text("open('/tmp/file').read()"), "'kept'\n");
  EXPECT_THAT(Text("x"), HasSubstr("NameError"));
}

}  // namespace
}  // namespace temper

int main(int argc, char** argv) {
  return temper::RunTestsWithSandboxes(argc, argv, &temper::sandboxes);
}
