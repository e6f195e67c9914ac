// What sessions that are forked from one zygote share with one another: nothing
// that they could write, find or end.

#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "environments/fresh_runs.h"
#include "environments/python_session.h"
#include "environments/sandbox_processes_fixture.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

// One slot, so that every session is of the same zygote.
class ZygoteTest : public testing::Test {
 protected:
  void SetUp() override { Start(/*sessions_max=*/1000); }

  void Start(uint32_t sessions_max) {
    pool_.reset();
    supervisor_.reset();
    SandboxSupervisorOptions options;
    options.slots_max = 1;
    options.sessions_max = sessions_max;
    options.limits.memory_bytes_max = 256 << 20;
    supervisor_ = *SandboxSupervisor::Start(options);
    pool_ = *SandboxPool::Create(supervisor_.get());
  }

  // The first cells of a session of their own, in one Step.
  std::vector<ToolResult> Cells(const std::vector<std::string>& cells,
                                uint64_t seed = 7) {
    PythonSessionLimits limits;
    limits.cell_max = std::chrono::milliseconds(2000);
    PythonSession session(pool_.get(), seed, limits);
    std::vector<ToolResult> results;
    for (const std::string& cell : cells) {
      const auto result = session.Run(cell);
      EXPECT_TRUE(result.ok()) << result.status();
      if (!result.ok()) break;
      results.push_back(*result);
    }
    return results;
  }
  std::string Text(const std::string& cell, uint64_t seed = 7) {
    const auto results = Cells({cell}, seed);
    return results.empty() ? "" : results[0].content();
  }

  std::vector<pid_t> Pids(const std::string& name) {
    std::vector<pid_t> pids;
    for (const auto& process : ProcessesBelow(supervisor_->helper_pid())) {
      // A fork of it has its name at first.
      const bool fork =
          std::count(pids.begin(), pids.end(), process.parent) > 0;
      if (process.name == name && !fork) pids.push_back(process.pid);
    }
    return pids;
  }
  void AwaitNoZygote() {
    for (int i = 0; i < 500 && !Pids("temper-zygote").empty(); ++i) {
      usleep(10'000);
    }
  }
  // A driver is forked some time after its zygote is there, and after the last
  // session's has ended.
  void AwaitDriver() {
    for (int i = 0; i < 500 && Pids("temper-driver").empty(); ++i) {
      usleep(10'000);
    }
  }
  // Kills the zygote, or who stands so many above it, once code is kAtWork.
  // Sessions that have ended may take a moment to be gone.
  void AwaitNobodyAtWork() {
    for (int i = 0; i < 500 && !Pids("at-work").empty(); ++i) usleep(10'000);
    ASSERT_TRUE(Pids("at-work").empty());
  }
  void HarmWhoIsAtWork(int above) {
    for (int i = 0; i < 500 && Pids("at-work").empty(); ++i) usleep(10'000);
    pid_t victim = ZygotePid();
    for (; above > 0; --above) {
      for (const auto& process : ProcessesBelow(supervisor_->helper_pid())) {
        if (process.pid == victim) {
          victim = process.parent;
          break;
        }
      }
    }
    kill(victim, SIGKILL);
  }
  pid_t ZygotePid() {
    const auto pids = Pids("temper-zygote");
    EXPECT_EQ(pids.size(), 1u);
    return pids.empty() ? 0 : pids[0];
  }

  std::unique_ptr<SandboxSupervisor> supervisor_;
  std::unique_ptr<SandboxPool> pool_;
};

TEST_F(ZygoteTest, ServesOneSessionAfterAnother) {
  const pid_t zygote = ZygotePid();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Text("6*7"), "42\n");
  EXPECT_EQ(ZygotePid(), zygote);
}

TEST_F(ZygoteTest, ASessionHasNoDescriptorOfTheKeepers) {
  // As a zygote would say that a driver has ended.
  const auto results =
      Cells({"import os\nwrote = []\n"
             "for fd in range(5, 1024):\n"
             "  try: wrote.append(os.write(fd, b'x0'))\n"
             "  except OSError: pass\n"
             "wrote",
             "'and on'"});
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0].content(), "[]\n");
  EXPECT_EQ(results[1].content(), "'and on'\n");
}

TEST_F(ZygoteTest, ASignalReachesNothingButItsOwnSession) {
  const pid_t zygote = ZygotePid();
  // Its group is its own, and to itself the first of a namespace is deaf.
  for (const char* whom : {"0", "1", "os.getpid()"}) {
    for (const char* signal : {"9", "15", "19"}) {
      EXPECT_EQ(Text(std::string("import os\nos.kill(") + whom + ", " + signal +
                     "); 'here'"),
                "'here'\n")
          << whom << " " << signal;
    }
  }
  EXPECT_THAT(Text("import os; os.kill(-1, 9)"), HasSubstr("ProcessLookup"));
  // Itself, and nobody else.
  EXPECT_EQ(Text("import os\nseen = []\n"
                 "for pid in range(1, 5000):\n"
                 "  try:\n    os.kill(pid, 0)\n    seen.append(pid)\n"
                 "  except ProcessLookupError: pass\n"
                 "seen, os.getpid(), os.getppid()"),
            "([1], 1, 0)\n");
  EXPECT_EQ(ZygotePid(), zygote);
}

TEST_F(ZygoteTest, FilesEndWithTheirSession) {
  const std::string write =
      "import os\n"
      "for folder in '/tmp', '/dev/shm', '.':\n"
      "  open(folder + '/left', 'w').write('over')\n"
      "os.getcwd()";
  const std::string look =
      "import os; [os.listdir(f) for f in ('/tmp', '/dev/shm', '.')]";
  EXPECT_EQ(Text(write), "'/tmp'\n");
  EXPECT_EQ(Text(look), "[[], [], []]\n");
  for (const char* folder : {"/", "/dev", "/usr", "/usr/lib"}) {
    EXPECT_THAT(Text(std::string("open('") + folder + "/left', 'w')"),
                HasSubstr("Read-only file system"))
        << folder;
  }
}

TEST_F(ZygoteTest, FilesAreBoundedInNumberAndBytes) {
  for (const char* folder : {"/tmp", "/dev/shm"}) {
    const std::string made =
        Text(std::string("made = 0\ntry:\n  while made < 100000:\n    open('") +
             folder +
             "/%d' % made, 'w').close()\n    made += 1\n"
             "except OSError as error: print(error.errno)\n4000 < made < 4100");
    EXPECT_EQ(made, "28\nTrue\n") << folder;
    EXPECT_THAT(Text(std::string("for i in range(3): open('") + folder +
                     "/%d' % i, 'wb').write(b'x' * (10 << 20))"),
                HasSubstr("No space left"));
  }
}

TEST_F(ZygoteTest, RandomNumbersAreTheSeedsAloneAndHashesAreFixed) {
  // However a cell comes by the module: here without its name.
  const std::string cell =
      "import sys\nname = 'ran' + 'dom'\n"
      "getattr(sys.modules[name], name)(), hash('a'), {'a', 'b', 'c', 'd'}";
  const std::string first = Text(cell, 1);
  EXPECT_THAT(first, MatchesRegex("\\(0\\.[0-9]+, -?[0-9]+, .*\\)\n"));
  EXPECT_EQ(Text(cell, 1), first);
  EXPECT_NE(Text(cell, 2), first);
  std::set<std::string> secrets;
  for (int i = 0; i < 4; ++i) {
    secrets.insert(Text("import os, uuid; os.urandom(8), uuid.uuid4()"));
  }
  EXPECT_EQ(secrets.size(), 4u) << "these are the kernel's";
}

TEST_F(ZygoteTest, SessionsOfOneZygotePrintTheSameAddresses) {
  const std::string cell =
      "class A: pass\nprint(object(), A(), id([]), hash('a'))\n"
      "import collections, json\nid(json.loads('[1, 2]'))";
  const std::string first = Text(cell);
  for (int i = 0; i < 12; ++i) {
    // What others do between leaves the zygote as it was.
    if (i % 3 == 0) Text("x = ['a' * i for i in range(10000)]\n1/0");
    if (i % 3 == 1) Text("import os; os._exit(5)");
    EXPECT_EQ(Text(cell), first) << i;
  }
  Start(1000);
  EXPECT_EQ(Text(cell), first) << "of another zygote";
}

// Looks for `marker`, whose halves it is given, in all memory that it can read
// near what Python and the C library allocate.
std::string Scan(const std::string& half, const std::string& rest) {
  return "import ctypes, os\n"
         "libc = ctypes.CDLL(None)\nlibc.sbrk.restype = ctypes.c_void_p\n"
         "read, write = os.pipe()\n"
         "marker = bytes(reversed(b'" +
         std::string(rest.rbegin(), rest.rend()) +
         std::string(half.rbegin(), half.rend()) +
         "'))\n"
         "def pages(begin, end):\n"
         "  for at in range(begin & ~4095, end, 4096):\n"
         "    if libc.write(write, ctypes.c_void_p(at), 4096) == 4096:\n"
         "      os.read(read, 4096)\n      yield ctypes.string_at(at, 4096)\n"
         "def found():\n"
         "  top, near = libc.sbrk(0), id(object())\n"
         "  return sum(marker in page\n"
         "    for begin, end in ((top - (16 << 20), top),\n"
         "                       (near - (32 << 20), near + (32 << 20)))\n"
         "    for page in pages(begin, end))\n";
}

TEST_F(ZygoteTest, MemoryOfASessionIsInNoLaterOne) {
  const std::string keep =
      "kept = ['Rosen' + 'kohl%d' % i for i in range(20000)]\n"
      "text = 'Rosen' + 'kohl'\nx = text.encode() * 100";
  const std::string scan = Scan("Rosen", "kohl");
  // It does find what is there: pages full of it, not the scan's own marker.
  const auto own = Cells({scan + keep, "found() > 100"});
  ASSERT_EQ(own.size(), 2u);
  EXPECT_EQ(own[1].content(), "True\n");
  Text(keep);
  const auto later = Cells({scan, "found() < 100"});
  ASSERT_EQ(later.size(), 2u);
  EXPECT_EQ(later[1].content(), "True\n");
}

TEST_F(ZygoteTest, AnEnvironmentAndArgumentsTellNothing) {
  EXPECT_EQ(Text("import os; sorted(os.environ)"),
            "['HOME', 'LC_CTYPE', 'PWD', 'PYTHONDONTWRITEBYTECODE', "
            "'PYTHONHASHSEED']\n");
  EXPECT_EQ(Text("import os; os.path.exists('/proc')"), "False\n");
  Text("import os; os.environ['LEFT'] = 'over'; os.putenv('LEFT', 'over')");
  EXPECT_EQ(Text("import os; os.environ.get('LEFT')"), "");
}

TEST_F(ZygoteTest, ASessionHasNoCapability) {
  EXPECT_EQ(
      Text("import ctypes\nlibc = ctypes.CDLL(None)\n"
           "head = (ctypes.c_uint32 * 2)(0x20080522, 0)\n"
           "sets = (ctypes.c_uint32 * 6)(*[9] * 6)\n"
           "libc.capget(head, sets), list(sets), libc.prctl(47, 1, 21, 0, 0)"),
      "(0, [0, 0, 0, 0, 0, 0], 0)\n");
}

TEST_F(ZygoteTest, NamesOfSocketsEndWithTheirSession) {
  const std::string bind =
      "import socket\ns = socket.socket(socket.AF_UNIX)\n"
      "s.bind('\\0mine'); 'bound'";
  EXPECT_EQ(Text(bind), "'bound'\n");
  EXPECT_EQ(Text(bind), "'bound'\n");
}

TEST_F(ZygoteTest, IsStartedAnewAfterItsSessions) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer finds no memory behind a sandbox's limit";
#endif
  Start(/*sessions_max=*/3);
  std::set<pid_t> zygotes;
  // The pool's first session is one of them.
  for (int i = 0; i < 8; ++i) {
    PythonSession session(pool_.get(), 1, PythonSessionLimits());
    EXPECT_EQ(session.Run("6*7")->content(), "42\n");
    zygotes.insert(ZygotePid());
  }
  EXPECT_EQ(zygotes.size(), 3u);
}

TEST_F(ZygoteTest, OneThatCameToHarmCostsNobodyAnything) {
  for (const char* name : {"temper-zygote", "temper-driver"}) {
    const pid_t zygote = ZygotePid();
    AwaitDriver();
    ASSERT_EQ(Pids(name).size(), 1u) << name;
    kill(Pids(name)[0], SIGKILL);
    AwaitNoZygote();
    EXPECT_EQ(Text("6*7"), "42\n") << name;
    EXPECT_NE(ZygotePid(), zygote) << name;
  }
  // While a session of it waits for the model.
  PythonSession session(pool_.get(), 1, PythonSessionLimits());
  EXPECT_EQ(session.Run("x = 6*7")->content(), "");
  session.EndStep();
  kill(ZygotePid(), SIGKILL);
  AwaitNoZygote();
  EXPECT_EQ(session.Run("x")->content(), "42\n");
}

// Is seen by its name, and then takes a second.
constexpr char kAtWork[] =
    "import ctypes, time\n"
    "ctypes.CDLL(None).prctl(15, b'at-work', 0, 0, 0)\ntime.sleep(1)\n";

// By the zygote, both of bubblewrap's, or the keeper. What ran is run again.
TEST_F(ZygoteTest, ASessionThatDiesOfAnothersHarmIsNotCharged) {
  for (const int above : {0, 1, 2, 3}) {
    PythonSession session(pool_.get(), 1, PythonSessionLimits());
    EXPECT_EQ(session.Run("x = 6*7")->content(), "");
    AwaitNobodyAtWork();
    std::thread harm([&] { HarmWhoIsAtWork(above); });
    const auto result = session.Run(kAtWork + std::string("x"));
    harm.join();
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->content(), "42\n") << above;
  }
  FreshRuns runs(pool_.get(), 1, FreshRunsLimits());
  AwaitNobodyAtWork();
  std::thread harm([&] { HarmWhoIsAtWork(0); });
  const auto run = runs.Call("", kAtWork + std::string("x = 6"), "x");
  harm.join();
  EXPECT_TRUE(absl::IsUnavailable(run.status())) << run.status();
}

size_t OpenDescriptors() {
  DIR* const directory = opendir("/proc/self/fd");
  size_t count = 0;
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count;
}

TEST_F(ZygoteTest, WhateverSessionsDoTheyLeaveNothing) {
  Text("1");
  const size_t descriptors = OpenDescriptors();
  const char* const kCells[] = {
      "1",
      "1/0",
      "import os; os._exit(3)",
      "import os; os.abort()",
      "import os\nfor i in range(10):\n  if os.fork() == 0: os.setsid()\n",
      "import os\nif os.fork() == 0:\n  while True: pass\nos._exit(0)",
      "x = bytearray(100 << 20)",
      "print('x' * (1 << 20))",
      "import os; os.closerange(0, 64)",
      "import os\nfor i in range(100): open('/tmp/%d' % i, 'w').write('x')",
      "import ctypes; ctypes.string_at(0)"};
  for (int i = 0; i < 5; ++i) {
    for (const char* cell : kCells) Text(cell);
  }
  EXPECT_EQ(Text("1"), "1\n");
  AwaitDriver();
  std::vector<std::string> names;
  for (const auto& process : ProcessesBelow(supervisor_->helper_pid())) {
    names.push_back(process.name);
  }
  EXPECT_THAT(names,
              testing::UnorderedElementsAre("temper-sandboxe", "bwrap", "bwrap",
                                            "temper-zygote", "temper-driver"));
  EXPECT_EQ(OpenDescriptors(), descriptors);
}

}  // namespace
}  // namespace temper
