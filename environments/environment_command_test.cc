#include "environments/environment_command.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#include "absl/strings/str_join.h"
#include "environments/cgroup.h"
#include "environments/uid_claim.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

// Runs `script` by sh, behind the walls.
Registration Shell(const std::string& script) {
  Registration registration;
  registration.set_name("words");
  registration.set_directory(testing::TempDir() + "/words");
  EXPECT_TRUE(MakeDirectories(registration.directory()).ok());
  for (const char* word : {"sh", "-c", script.c_str()}) {
    registration.add_command(word);
  }
  return registration;
}

// How it ended, once it has.
absl::Status Ended(EnvironmentCommand* command) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (std::chrono::steady_clock::now() < until) {
    const absl::Status status = command->Check();
    if (!status.ok()) return status;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return absl::OkStatus();
}

// What `script` says last, before it exits.
std::string Said(const std::string& script,
                 const EnvironmentCommandLimits& limits = {}) {
  const auto command = EnvironmentCommand::Start(Shell(script + "; exit 1"),
                                                 /*output=*/-1, limits);
  EXPECT_TRUE(command.ok()) << command.status();
  if (!command.ok()) return "";
  const std::string told(Ended(command->get()).message());
  const std::string mark = "; its last line: ";
  const size_t at = told.find(mark);
  return at == std::string::npos ? told : told.substr(at + mark.size());
}

std::string SocketDir(const EnvironmentCommand& command) {
  return ParentOf(command.address().substr(std::string("unix:").size()));
}

TEST(EnvironmentCommandTest, HowItEndedIsToldWithItsLastLine) {
  const auto command = EnvironmentCommand::Start(
      Shell("echo first; echo no data >&2; exit 7"), /*output=*/-1);
  ASSERT_TRUE(command.ok()) << command.status();
  const absl::Status ended = Ended(command->get());
  EXPECT_TRUE(absl::IsUnavailable(ended)) << ended;
  EXPECT_THAT(std::string(ended.message()),
              HasSubstr("environment words: `sh"));
  EXPECT_THAT(std::string(ended.message()),
              HasSubstr("` ended, exit 7; its last line: no data"));
}

TEST(EnvironmentCommandTest, WhatToInstallIsSaid) {
  EXPECT_THAT(Said("echo \"ModuleNotFoundError: No module named 'grpc'\""),
              HasSubstr("apt-get install python3-grpcio"));
}

TEST(EnvironmentCommandTest, WritesNowhereButBesideItsSocket) {
  EXPECT_EQ(Said("touch /run/temper/x && echo done"), "done");
  for (const char* file :
       {"x", "/usr/x", "/x", "/tmp/x", "/run/x", "/dev/x", "/dev/shm/x"}) {
    EXPECT_THAT(Said(std::string("touch ") + file), HasSubstr("cannot touch"))
        << file;
  }
}

TEST(EnvironmentCommandTest, SeesNothingOfTheMachineButUsr) {
  const std::filesystem::path words = testing::TempDir() + "/words";
  // Everything mounted, and what lies between: directories on the way to these.
  EXPECT_EQ(
      Said("cut -d' ' -f5 /proc/self/mountinfo | grep -v '^/dev/' | "
           "grep -v '^/proc/' | sort | xargs"),
      absl::StrJoin(
          std::set<std::string>{"/", "/dev", "/proc", "/run/temper", "/usr",
                                words.lexically_normal().string()},
          " "));
  EXPECT_EQ(Said("find / -xdev ! -type d | sort | xargs"),
            "/bin /lib /lib64 /sbin");
  // Nobody else's processes, and no network but an empty one of its own.
  EXPECT_LE(std::stoi(Said("ls -d /proc/[0-9]* | wc -l")), 6);
  EXPECT_EQ(Said("grep -c : /proc/net/dev"), "1");
  ASSERT_EQ(setenv("TEMPER_SECRET", "1", 1), 0);
  EXPECT_EQ(Said("env | grep -c TEMPER; cat /proc/*/environ | grep -ac TEMPER"),
            "0");
}

TEST(EnvironmentCommandTest, HasNoCapabilityAndAsRootAUidOfItsOwn) {
  EXPECT_EQ(Said("grep -E 'CapEff|CapPrm' /proc/self/status | tr -d '\\n'"),
            "CapPrm:\\t0000000000000000CapEff:\\t0000000000000000");
  const std::string uid = Said("id -u");
  if (geteuid() != 0) {
    EXPECT_EQ(uid, std::to_string(geteuid()));
    return;
  }
  EXPECT_GE(std::stoul(uid), kCommandUidFirst);
  EXPECT_LE(std::stoul(uid), kCommandUidLast);
  // Two at a time have two.
  const auto other = EnvironmentCommand::Start(Shell("sleep 60"), -1);
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_NE(Said("id -u"), uid);
}

// Also by ways that no network namespace holds: AF_VSOCK is 40. That of netlink
// (16) every kernel has, whatever is refused.
TEST(EnvironmentCommandTest, ItHasNoSocketsButThoseOfItsNamespaces) {
  EXPECT_EQ(
      Said("python3 -c \"\n"
           "import socket\n"
           "def error(family):\n"
           "  try: socket.socket(family, socket.SOCK_DGRAM)\n"
           "  except OSError as fault: return fault.errno\n"
           "  return 0\n"
           "print(*map(error, [1, 2, 10, 0, 5, 9, 11, 16, 17, 38, 40]))\""),
      "0 0 0 97 97 97 97 97 97 97 97");
}

TEST(EnvironmentCommandTest, OneThatFillsItsDirectoryIsEnded) {
  const auto command = EnvironmentCommand::Start(
      Shell("for i in 1 2 3 4 5 6 7 8 9; do touch /run/temper/$i; done; "
            "sleep 60"),
      /*output=*/-1);
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_THAT(std::string(Ended(command->get()).message()),
              HasSubstr("was ended: it made 9 files beside its socket"));
}

TEST(EnvironmentCommandTest, OneThatMakesADirectoryIsEnded) {
  const auto command = EnvironmentCommand::Start(
      Shell("mkdir /run/temper/deep && touch /run/temper/deep/x; sleep 60"),
      /*output=*/-1);
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_THAT(
      std::string(Ended(command->get()).message()),
      HasSubstr("was ended: it made a directory beside its socket, deep"));
}

TEST(EnvironmentCommandTest, AFileThatGrowsTooLargeEndsIt) {
  EXPECT_THAT(Said("head -c 100000000 /dev/zero > /run/temper/x; "
                   "stat -c %s /run/temper/x"),
              HasSubstr("67108864"));
}

// Groups of commands that this process made.
std::set<std::string> Groups() {
  std::set<std::string> groups;
  const std::string mine = "_" + std::to_string(getpid()) + "_command";
  const CgroupHierarchy cgroups = DetectCgroups();
  for (const std::string& parent : cgroups.parents) {
    const auto names = ListDirectory(parent);
    EXPECT_TRUE(names.ok()) << names.status();
    if (!names.ok()) continue;
    for (const std::string& name : *names) {
      if (name.find(mine) == std::string::npos) continue;
      groups.insert(parent + "/" + name);
    }
  }
  return groups;
}

TEST(EnvironmentCommandTest, ItsMemoryIsBounded) {
  EnvironmentCommandLimits limits;
  limits.memory_bytes_max = 128 << 20;
  const std::string python = "/usr/bin/python3 -c '";
  EXPECT_EQ(Said(python + "x = b\"x\" * (16 << 20); print(\"has\")'", limits),
            "has");
  // Whichever way it is refused.
  EXPECT_NE(Said(python + "x = b\"x\" * (512 << 20); print(\"has\")'", limits),
            "has");
  if (!DetectCgroups().holds_memory()) return;
  // Of all its processes together; and why it ended is said.
  EXPECT_EQ(Said(python + "import os, time\n"
                          "for i in range(3):\n"
                          "  if os.fork() == 0:\n"
                          "    x = b\"x\" * (60 << 20)\n"
                          "    time.sleep(9)\n"
                          "    os._exit(0)\n"
                          "print(os.waitstatus_to_exitcode(os.wait()[1]))'",
                 limits),
            "-9");
  const auto command = EnvironmentCommand::Start(
      Shell("exec " + python + "x = b\"x\" * (512 << 20)'"), -1, limits);
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_THAT(std::string(Ended(command->get()).message()),
              HasSubstr(", at its limit of 128 MiB of memory"));
}

TEST(EnvironmentCommandTest, ItsProcessesAreBounded) {
  if (geteuid() != 0 && !DetectCgroups().holds_processes()) {
    GTEST_SKIP() << "a user's processes are not counted without a cgroup";
  }
  EnvironmentCommandLimits limits;
  limits.processes_max = 20;
  EXPECT_THAT(
      Said("i=0; while [ $i -lt 50 ]; do sleep 9 & i=$((i + 1)); done", limits),
      HasSubstr("fork"));
}

TEST(EnvironmentCommandTest, ItHasOneShareOfABusyCpu) {
  const CgroupHierarchy cgroups = DetectCgroups();
  if (!cgroups.shares_cpu) GTEST_SKIP() << "no cpu controller";
  const auto command = EnvironmentCommand::Start(Shell("sleep 600"), -1);
  ASSERT_TRUE(command.ok()) << command.status();
  const std::set<std::string> groups = Groups();
  EXPECT_EQ(groups.size(), cgroups.parents.size());
  for (const std::string& group : groups) {
    std::ifstream in(group + "/cgroup.procs");
    int pid = 0;
    EXPECT_TRUE(in >> pid) << group << " is empty";
  }
  EXPECT_THAT(EnvironmentCommand::DescribeWalls(),
              HasSubstr("one share of a busy CPU; cgroup v"));
}

TEST(EnvironmentCommandTest, NothingOutlivesTheObject) {
  // It holds the other end of a pipe for as long as any process of it lives.
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  auto command =
      EnvironmentCommand::Start(Shell("sleep 600 & sleep 600"), ends[1]);
  ASSERT_TRUE(command.ok()) << command.status();
  close(ends[1]);
  const std::string dir = SocketDir(**command);
  struct stat info;
  EXPECT_EQ(stat(dir.c_str(), &info), 0);
  EXPECT_EQ(Groups().empty(), DetectCgroups().mode == CgroupMode::kNone);
  *command = nullptr;
  EXPECT_THAT(Groups(), testing::IsEmpty());
  char byte;
  EXPECT_EQ(read(ends[0], &byte, 1), 0) << "a process still has it";
  close(ends[0]);
  EXPECT_NE(stat(dir.c_str(), &info), 0);
}

TEST(EnvironmentCommandTest, WhatAKilledMakerLeftIsRemovedByTheNext) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t maker = fork();
  if (maker == 0) {
    const auto command = EnvironmentCommand::Start(Shell("sleep 600"), -1);
    const std::string dir = command.ok() ? SocketDir(**command) : "";
    if (write(ends[1], dir.data(), dir.size()) > 0) pause();
    _exit(1);
  }
  char text[100] = {};
  EXPECT_GT(read(ends[0], text, sizeof(text) - 1), 0);
  kill(maker, SIGKILL);
  waitpid(maker, nullptr, 0);
  for (const int end : ends) close(end);
  const std::string left = text;
  struct stat info;
  ASSERT_EQ(stat(left.c_str(), &info), 0) << left;
  const auto first = EnvironmentCommand::Start(Shell("sleep 600"), -1);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_NE(stat(left.c_str(), &info), 0) << left;
  // And nothing of one that lives.
  const auto second = EnvironmentCommand::Start(Shell("sleep 600"), -1);
  EXPECT_EQ(stat(SocketDir(**first).c_str(), &info), 0);
}

TEST(EnvironmentCommandTest, AMissingDirectoryIsNamed) {
  Registration registration = Shell("true");
  registration.set_directory("/no/such/place");
  const auto command = EnvironmentCommand::Start(registration, -1);
  EXPECT_EQ(command.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(command.status().message()),
              HasSubstr("there is no directory /no/such/place"));
}

}  // namespace
}  // namespace temper
