// cgroup v1 where this machine has it; v2 by its table and on directories that
// look like it.

#include "environments/cgroup.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

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
