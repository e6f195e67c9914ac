// cgroup v1 where this machine has it; v2 by its table and on directories that
// look like it.

#include "environments/cgroup.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

std::string Read(const std::string& path) {
  std::ifstream in(path);
  std::string word;
  in >> word;
  return word;
}

// A directory with these files, empty.
std::string Directory(const std::string& name,
                      const std::vector<std::string>& files) {
  const std::string path = std::string(getenv("TEST_TMPDIR")) + "/" + name;
  EXPECT_EQ(mkdir(path.c_str(), 0755), 0) << path;
  for (const std::string& file : files) {
    std::ofstream(path + "/" + file).flush();
  }
  return path;
}

TEST(CgroupTest, V2HoldsMemoryAndNoSwap) {
  const std::string path =
      Directory("v2", {"pids.max", "memory.max", "memory.swap.max"});
  const auto limits = CgroupLimits({CgroupMode::kV2, {"/parent"}}, 7, 1 << 20);
  ASSERT_TRUE(WriteCgroupLimits(limits, {path}).ok());
  EXPECT_EQ(Read(path + "/pids.max"), "7");
  EXPECT_EQ(Read(path + "/memory.max"), "1048576");
  EXPECT_EQ(Read(path + "/memory.swap.max"), "0");
}

TEST(CgroupTest, V1LimitsMemoryBeforeMemoryAndSwap) {
  const std::string pids = Directory("v1pids", {"pids.max"});
  const std::string memory = Directory(
      "v1memory", {"memory.limit_in_bytes", "memory.memsw.limit_in_bytes"});
  const auto limits =
      CgroupLimits({CgroupMode::kV1, {"/pids", "/memory"}}, 7000, 1 << 20);
  ASSERT_EQ(limits.size(), 3u);
  EXPECT_STREQ(limits[1].file, "memory.limit_in_bytes");
  EXPECT_STREQ(limits[2].file, "memory.memsw.limit_in_bytes");
  ASSERT_TRUE(WriteCgroupLimits(limits, {pids, memory}).ok());
  EXPECT_EQ(Read(pids + "/pids.max"), "7000");
  EXPECT_EQ(Read(memory + "/memory.limit_in_bytes"), "1048576");
  EXPECT_EQ(Read(memory + "/memory.memsw.limit_in_bytes"), "1048576");
}

TEST(CgroupTest, AKernelWithoutSwapAccountingIsServedAndOneWithoutMemoryNot) {
  const std::string path = Directory("noswap", {"pids.max", "memory.max"});
  const auto limits = CgroupLimits({CgroupMode::kV2, {"/parent"}}, 7, 1 << 20);
  EXPECT_TRUE(WriteCgroupLimits(limits, {path}).ok());
  const std::string bare = Directory("bare", {"pids.max"});
  EXPECT_THAT(
      std::string(WriteCgroupLimits(limits, {bare}).message()),
      HasSubstr(std::string("memory.max: 1048576: ") + strerror(ENOENT)));
}

TEST(CgroupTest, WithoutAMemoryHierarchyOnlyProcessesAreHeld) {
  const CgroupHierarchy hierarchy = {CgroupMode::kV1, {"/pids"}};
  EXPECT_EQ(CgroupLimits(hierarchy, 7, 1 << 20).size(), 1u);
  EXPECT_EQ(hierarchy.Describe(), "cgroup v1 (pids)");
  EXPECT_TRUE(CgroupLimits({}, 7, 1 << 20).empty());
}

void Say(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}

TEST(CgroupTest, WhatALimitRefusedIsReadOfEitherVersion) {
  const std::string v2 = Directory("events2", {});
  Say(v2 + "/pids.events", "max 3\n");
  Say(v2 + "/memory.events", "low 0\nmax 9\noom 2\noom_kill 1\n");
  CgroupEvents events = ReadCgroupEvents({CgroupMode::kV2, {"/parent"}}, {v2});
  EXPECT_EQ(events.forks_refused, 3);
  EXPECT_EQ(events.memory_kills, 1);
  const std::string pids = Directory("events1", {});
  const std::string memory = Directory("events1memory", {});
  Say(pids + "/pids.events", "max 4\n");
  Say(memory + "/memory.oom_control",
      "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
  events =
      ReadCgroupEvents({CgroupMode::kV1, {"/pids", "/memory"}}, {pids, memory});
  EXPECT_EQ(events.forks_refused, 4);
  EXPECT_EQ(events.memory_kills, 2);
  // Where the kernel does not say, or no cgroup is.
  events = ReadCgroupEvents({CgroupMode::kV1, {"/pids"}}, {memory});
  EXPECT_EQ(events.forks_refused + events.memory_kills, 0);
  EXPECT_EQ(ReadCgroupEvents({}, {}).memory_kills, 0);
}

// What the kernel's own file system does beside (files that come with a group,
// and go with it) plain ones cannot.
TEST(CgroupTest, V2IsLookedForWhereItIsAndLeavesNothingWhereItIsNot) {
  const std::string root =
      Directory("root2", {"cgroup.controllers", "cgroup.subtree_control"});
  EXPECT_EQ(DetectCgroups(root).mode, CgroupMode::kNone)
      << "a group without its limits is none";
  // +pids, +memory and +cpu, each by itself: a plain file keeps the longest.
  EXPECT_EQ(Read(root + "/cgroup.subtree_control"), "+cpuory");
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    names.push_back(entry.path().filename());
  }
  EXPECT_THAT(names, testing::UnorderedElementsAre("cgroup.controllers",
                                                   "cgroup.subtree_control"));
  const std::string none = Directory("root0", {});
  EXPECT_EQ(DetectCgroups(none).Describe(), "no cgroup (rlimits only)");
}

TEST(CgroupTest, AGroupOfV2IsEnteredCountedAndKilledByItsFiles) {
  const std::string path = Directory(
      "group2",
      {"cgroup.procs", "cgroup.kill", "pids.current", "memory.current"});
  const Cgroup group({CgroupMode::kV2, {"/parent"}}, {path});
  ASSERT_TRUE(group.Add(4711));
  EXPECT_EQ(Read(path + "/cgroup.procs"), "4711");
  EXPECT_THAT(group.Processes(), testing::ElementsAre(4711));
  group.Kill();
  EXPECT_EQ(Read(path + "/cgroup.kill"), "1") << "one by one a fork slips by";
  Say(path + "/pids.current", "3\n");
  Say(path + "/memory.current", "8192\n");
  EXPECT_EQ(group.CountTasks(), 3);
  EXPECT_EQ(group.HeldBytes(), 8192);
  ASSERT_EQ(remove((path + "/cgroup.procs").c_str()), 0);
  EXPECT_FALSE(group.Add(4711));
}

TEST(CgroupTest, GroupsOfAMakerThatWasKilledAreRemovedAndNoOthers) {
  const CgroupHierarchy hierarchy = DetectCgroups();
  if (!hierarchy.holds_processes()) {
    GTEST_SKIP() << "no cgroup can be made here";
  }
  Cgroup ours(hierarchy);
  ASSERT_TRUE(ours.Create("78", 5, 64 << 20).ok());
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t maker = fork();
  if (maker == 0) {
    Cgroup left(hierarchy);
    if (!left.Create("78", 5, 64 << 20).ok()) _exit(1);
    // A process that outlives its maker.
    if (fork() == 0) {
      if (left.Enter() && write(ready[1], "y", 1) == 1) pause();
      _exit(1);
    }
    close(ready[1]);
    pause();
  }
  close(ready[1]);
  char answer = 0;
  EXPECT_EQ(read(ready[0], &answer, 1), 1);
  close(ready[0]);
  kill(maker, SIGKILL);
  waitpid(maker, nullptr, 0);
  EXPECT_TRUE(RemoveGroupsOf(hierarchy, maker, std::chrono::seconds(10)));
  const std::string mine = std::to_string(getpid());
  for (const std::string& path : ours.paths()) {
    std::string other = path;
    other.replace(other.rfind("_" + mine + "_") + 1, mine.size(),
                  std::to_string(maker));
    EXPECT_EQ(access(path.c_str(), F_OK), 0) << path;
    EXPECT_NE(access(other.c_str(), F_OK), 0) << other;
  }
  ours.Remove();
}

TEST(CgroupTest, GroupsOfThisMachineHoldWhatIsSaid) {
  const CgroupHierarchy hierarchy = DetectCgroups();
  if (!hierarchy.holds_processes()) {
    GTEST_SKIP() << "no cgroup can be made here";
  }
  Cgroup group(hierarchy);
  ASSERT_TRUE(group.Create("77", 5, 64 << 20).ok());
  const std::vector<std::string> paths = group.paths();
  for (const CgroupLimit& limit : CgroupLimits(hierarchy, 5, 64 << 20)) {
    if (!limit.required && !hierarchy.holds_swap) continue;
    EXPECT_EQ(Read(paths[limit.parent] + "/" + limit.file),
              std::to_string(limit.value))
        << limit.file;
  }
  group.Remove();
  for (const std::string& path : paths) {
    struct stat gone;
    EXPECT_NE(stat(path.c_str(), &gone), 0) << path;
  }
}

}  // namespace
}  // namespace temper
