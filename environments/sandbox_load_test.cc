// What one session costs another, and what many leave behind: nothing.
//
//   sandbox_load_test RUNS

#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "environments/cgroup.h"
#include "environments/python_session.h"
#include "environments/sandbox_processes_fixture.h"
#include "environments/sandbox_remains_fixture.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {

int runs_total = 0;

namespace {

using std::chrono::milliseconds;

constexpr uint32_t kSlots = 4;
constexpr char kKeeperName[] = "temper-sandboxe";  // as long as names may be

// Ends in their own outcomes, or not at all: a time limit is part of the mix.
constexpr const char* kHostile[] = {
    // As many that compute as there may be.
    "import os\ntry:\n  while os.fork(): pass\nexcept OSError: pass\n"
    "while True: pass",
    // Threads, likewise.
    "import threading\ndef spin():\n  while True: pass\ntry:\n"
    "  while True: threading.Thread(target=spin).start()\n"
    "except RuntimeError: pass\nspin()",
    "x = []\nwhile True: x.append(bytearray(16 << 20))",
    "while True: print('x' * 100000)",
    "import os\nf = open('/tmp/full', 'wb')\nwhile True: f.write(bytes(1 << "
    "20))",
    "import os\ni = 0\nwhile True:\n  open('/tmp/%d' % i, 'w').close()\n  i += "
    "1",
    "import os, signal\nos.kill(-1, signal.SIGKILL)",
    "import os\nfor pid in range(2, 40000):\n  try: os.kill(pid, 9)\n"
    "  except OSError: pass",
    "import os\nf = []\nwhile True: f.append(os.open('/dev/null', 0))",
    "import os\nwhile True:\n  for root, dirs, files in os.walk('/proc'): pass",
    "import os\nos.abort()",
    "import ctypes\nctypes.string_at(0)",
    "def f(): f()\nimport sys\nsys.setrecursionlimit(10 ** 9)\nf()",
};
constexpr const char* kHonest[] = {
    "sum(i * i for i in range(8000000))",
    "x = bytearray(64 << 20)\nx[::4096] = b'y' * len(x[::4096])\nx.count(b'y')",
    "open('/tmp/a', 'w').write('z' * 100000)\nlen(open('/tmp/a').read())",
    "import os\nos.listdir('/tmp')",
    "import random\nrandom.random()",
    ("import subprocess\nsubprocess.run(['/usr/bin/echo', 'a'], "
     "capture_output=True).stdout"),
    "len(open('/dev/null').read())",
    "1/0",
};

class SandboxLoadTest : public testing::Test {
 protected:
  void SetUp() override {
    SandboxSupervisorOptions options;
    options.slots_max = kSlots;
    auto supervisor = SandboxSupervisor::Start(options);
    ASSERT_TRUE(supervisor.ok()) << supervisor.status();
    supervisor_ = *std::move(supervisor);
    pool_ = *SandboxPool::Create(supervisor_.get());
  }

  bool SharesCpu() const {
    return absl::StrContains(supervisor_->description(), ", cpu)");
  }

  // What the honest cells print and end in, as the cells of one session.
  std::string Honest(milliseconds cell_max) {
    PythonSessionLimits limits;
    limits.cell_max = cell_max;
    limits.session_max = 4 * cell_max;
    PythonSession session(pool_.get(), /*seed=*/3, limits);
    std::string all;
    for (const char* cell : kHonest) {
      const auto result = session.Run(cell);
      EXPECT_TRUE(result.ok()) << result.status();
      if (!result.ok()) break;
      absl::StrAppend(&all, result->outcome(), ": ", result->content(), "\n");
    }
    return all;
  }

  std::unique_ptr<SandboxSupervisor> supervisor_;
  std::unique_ptr<SandboxPool> pool_;
};

// Runs one cell of a session of its own, whatever it comes to.
void RunAlone(SandboxPool* pool, const char* cell, milliseconds cell_max) {
  PythonSessionLimits limits;
  limits.cell_max = cell_max;
  PythonSession session(pool, /*seed=*/1, limits);
  const auto result = session.Run(cell);
  EXPECT_TRUE(result.ok()) << result.status() << " of " << cell;
}

TEST_F(SandboxLoadTest, AHostileSessionBesideItChangesNothingOfAnHonestOne) {
  const std::string alone = Honest(milliseconds(60'000));
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(Honest(milliseconds(60'000)), alone);
  const auto took = std::chrono::duration_cast<milliseconds>(
      std::chrono::steady_clock::now() - begin);
  // Of two sessions that compute each has half of the CPU, or a thirtieth where
  // the other has all that its processes get.
  const milliseconds patience = std::max(5 * took, milliseconds(1000));
  for (const char* cell : kHostile) {
    if (!SharesCpu() && absl::StrContains(cell, "while True: pass")) continue;
    std::atomic<bool> over = false;
    std::thread hostile([&] {
      while (!over) RunAlone(pool_.get(), cell, milliseconds(1500));
    });
    std::this_thread::sleep_for(milliseconds(200));  // until it is at work
    EXPECT_EQ(Honest(patience), alone) << "beside " << cell;
    over = true;
    hostile.join();
  }
}

size_t DescriptorsOf(pid_t pid) {
  DIR* const directory = opendir(absl::StrCat("/proc/", pid, "/fd").c_str());
  if (directory == nullptr) return 0;
  size_t count = 0;
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count;
}

std::string MountsOf(pid_t pid) {
  std::ifstream in(absl::StrCat("/proc/", pid, "/mountinfo"));
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// What those that outlive sessions hold: this process, the helper, its keepers
// (whichever they are: one goes with its zygote).
std::vector<std::string> Held(pid_t helper) {
  std::vector<std::string> held;
  const auto add = [&held](const std::string& who, pid_t pid) {
    held.push_back(absl::StrCat(who, ": ", DescriptorsOf(pid),
                                " descriptors, mounts ", MountsOf(pid)));
  };
  add("test", getpid());
  add("helper", helper);
  for (const auto& process : ProcessesBelow(helper)) {
    if (process.name == kKeeperName) add(process.name, process.pid);
  }
  return held;
}

// Whether it is `want` within five seconds: a keeper opens its next driver some
// time after that is there.
std::vector<std::string> HeldOnce(pid_t helper,
                                  const std::vector<std::string>& want) {
  std::vector<std::string> held;
  for (int i = 0; i < 500; ++i) {
    held = Held(helper);
    if (held == want) break;
    usleep(10'000);
  }
  return held;
}

// What is held while all keepers have come to the same.
std::vector<std::string> HeldAtRest(pid_t helper) {
  std::vector<std::string> held;
  for (int i = 0, same = 0; i < 500 && same < 20; ++i) {
    const std::vector<std::string> now = Held(helper);
    const bool alike = now.size() == 2 + kSlots &&
                       std::count(now.begin() + 2, now.end(), now[2]) == kSlots;
    same = alike && now == held ? same + 1 : 0;
    held = now;
    usleep(10'000);
  }
  return held;
}

// The keepers below the helper, which make the groups.
std::set<int> Keepers(pid_t helper) {
  std::set<int> keepers;
  for (const auto& process : ProcessesBelow(helper)) {
    if (process.name == kKeeperName) keepers.insert(process.pid);
  }
  return keepers;
}

// Names of all that lives below the helper, sorted; waits until it is `want`.
std::vector<std::string> NamesBelow(pid_t helper,
                                    const std::vector<std::string>& want) {
  std::vector<std::string> names;
  for (int i = 0; i < 500; ++i) {
    names.clear();
    for (const auto& process : ProcessesBelow(helper)) {
      names.push_back(
          absl::StrCat(process.name, process.state == 'Z' ? " Z" : ""));
    }
    std::sort(names.begin(), names.end());
    if (names == want) break;
    usleep(10'000);
  }
  return names;
}

TEST_F(SandboxLoadTest, ManyMixedRunsLeaveNothing) {
  // Here, for it removes what others left.
  const CgroupHierarchy hierarchy = DetectCgroups();
  const pid_t helper = supervisor_->helper_pid();
  std::mutex mutex;
  std::set<int> keepers;  // all that there ever were
  const auto run_all = [&](int runs) {
    std::atomic<int> next = 0;
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < kSlots; ++i) {
      threads.emplace_back([&] {
        for (int run = next++; run < runs; run = next++) {
          // Three of four are honest, as a model's cells are.
          const char* const cell = run % 4 == 0
                                       ? kHostile[run / 4 % std::size(kHostile)]
                                       : kHonest[run % std::size(kHonest)];
          RunAlone(pool_.get(), cell, milliseconds(300));
          const std::set<int> seen = Keepers(helper);
          std::lock_guard<std::mutex> lock(mutex);
          keepers.insert(seen.begin(), seen.end());
          if ((run + 1) % 1000 == 0) {
            fprintf(stderr, "%d of %d runs\n", run + 1, runs);
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  };
  // Every slot has its keeper then.
  run_all(4 * kSlots);
  std::vector<std::string> names;
  for (uint32_t slot = 0; slot < kSlots; ++slot) {
    for (const char* name : {"bwrap", "bwrap", "temper-driver",
                             "temper-sandboxe", "temper-zygote"}) {
      names.push_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  ASSERT_EQ(NamesBelow(helper, names), names);
  const std::vector<std::string> held = HeldAtRest(helper);
  run_all(runs_total);
  EXPECT_EQ(NamesBelow(helper, names), names);
  EXPECT_EQ(HeldOnce(helper, held), held);
  EXPECT_EQ(GroupsOf(keepers, hierarchy).empty(), hierarchy.parents.empty());
  const auto last = ProcessesBelow(helper);
  pool_.reset();
  supervisor_.reset();
  // By their pids: what lost its parent is below nobody.
  for (const SandboxProcess& process : last) {
    EXPECT_NE(kill(process.pid, 0), 0) << process.name << " lives";
  }
  EXPECT_EQ(GroupsOf(keepers, hierarchy), std::vector<std::string>());
  EXPECT_EQ(FilesOfSandboxes(), std::vector<std::string>());
}

}  // namespace
}  // namespace temper

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  temper::runs_total = argc > 1 ? std::atoi(argv[1]) : 0;
  if (temper::runs_total < 1) {
    fprintf(stderr, "usage: %s RUNS\n", argv[0]);
    return 2;
  }
  return RUN_ALL_TESTS();
}
