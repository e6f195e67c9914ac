// Programs other than Python in their three layers of files: what each layer
// allows, and which limit a program ran into.

#include "environments/program.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "absl/strings/match.h"
#include "environments/cpp_compiler.h"
#include "environments/fresh_runs.h"
#include "environments/sandbox_supervisor.h"
#include "environments/sandbox_test_main.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

SandboxPool* sandboxes = nullptr;  // set in main

FreshRun Execute(const Program& program,
                 const FreshRunsLimits& limits = FreshRunsLimits()) {
  FreshRuns runs(sandboxes, 1, limits);
  const auto run = runs.Compile(program);
  EXPECT_TRUE(run.ok()) << run.status();
  return run.ok() ? *run : FreshRun();
}

Program Shell(const std::string& script,
              const std::vector<SnapshotEntry>& snapshot = {}) {
  Program program;
  program.argv = {"/bin/sh", "-c", script};
  program.snapshot = snapshot;
  return program;
}

// What a script prints.
std::string Printed(const std::string& script,
                    const std::vector<SnapshotEntry>& snapshot = {}) {
  const FreshRun run = Execute(Shell(script, snapshot));
  EXPECT_EQ(run.outcome, OUTCOME_OK) << run.error;
  EXPECT_EQ(run.exit_code, 0) << script << ": " << run.stderr_text;
  return run.printed;
}

ProgramLimit LimitOf(const std::string& script) {
  return Execute(Shell(script)).limit;
}

fs::path NewDirectory(const std::string& name) {
  const fs::path path = fs::path(getenv("TEST_TMPDIR")) / name;
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

void Write(const fs::path& path, const std::string& text) {
  std::ofstream(path) << text;
}

std::string TextOf(const fs::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

// What is below `directory`.
std::vector<SnapshotEntry> Snapshot(const fs::path& directory) {
  std::map<std::string, SnapshotEntry> entries;  // by path: parents first
  for (const auto& at : fs::recursive_directory_iterator(directory)) {
    SnapshotEntry entry;
    entry.path = at.path().lexically_relative(directory).string();
    if (at.is_symlink()) {
      entry.kind = SnapshotEntry::Kind::kLink;
      entry.contents = fs::read_symlink(at.path()).string();
    } else if (at.is_directory()) {
      entry.kind = SnapshotEntry::Kind::kDirectory;
    } else {
      if (access(at.path().c_str(), X_OK) == 0) {
        entry.kind = SnapshotEntry::Kind::kExecutable;
      }
      entry.contents = TextOf(at.path());
    }
    entries[entry.path] = entry;
  }
  std::vector<SnapshotEntry> snapshot;
  for (const auto& [path, entry] : entries) snapshot.push_back(entry);
  return snapshot;
}

// Every name below `directory`, with contents and modes.
std::map<std::string, std::string> Contents(const fs::path& directory) {
  std::map<std::string, std::string> contents;
  for (const auto& at : fs::recursive_directory_iterator(directory)) {
    std::string& text = contents[at.path().string()];
    struct stat info = {};
    lstat(at.path().c_str(), &info);
    text = std::to_string(info.st_mode) + " ";
    if (at.is_symlink()) {
      text += fs::read_symlink(at.path()).string();
    } else if (at.is_regular_file()) {
      text += TextOf(at.path());
    }
  }
  return contents;
}

TEST(ProgramTest, TheBaseHasProgramsAndCannotBeWritten) {
  EXPECT_EQ(Printed("sort <<END\nb\na\nEND\n"), "a\nb\n");
  EXPECT_EQ(Printed("for place in / /usr /usr/bin /usr/lib /bin /etc /dev; do\n"
                    "  touch $place/mine 2>/dev/null && echo wrote $place\n"
                    "done; rm -f /usr/bin/git /bin/sh 2>/dev/null\n"
                    "echo x 2>/dev/null >/usr/bin/sort\n"
                    "sort <<END\nx\nEND\n"),
            "x\n");
  EXPECT_EQ(Printed("ls /; ls /etc; ls -d /root /home /proc 2>/dev/null; :"),
            "bin\ndev\netc\nlib\nlib64\ntmp\nusr\nalternatives\n");
}

TEST(ProgramTest, ASetUserIdIsWithoutEffect) {
  EXPECT_THAT(Printed("id -u; mount -t tmpfs x /tmp 2>&1; "
                      "su -c id 2>&1; grep -c . /etc/shadow 2>&1; :"),
              testing::AllOf(testing::StartsWith("1000\n"),
                             testing::Not(HasSubstr("uid=0"))));
}

TEST(ProgramTest, ASnapshotIsSeenAndMayBeChangedThere) {
  const fs::path made = NewDirectory("snapshot");
  fs::create_directories(made / "a" / "empty");
  Write(made / "a" / "text", "one\n");
  Write(made / "run", "#!/bin/sh\necho ran in $PWD\n");
  chmod((made / "run").c_str(), 0755);
  fs::create_symlink("a/text", made / "link");
  fs::create_symlink("/etc/passwd", made / "out");  // of the sandbox, if any
  const auto before = Contents(made);
  const auto snapshot = Snapshot(made);
  EXPECT_EQ(Printed("ls -R; cat link; ./run; cat out 2>/dev/null || "
                    "test -x a/text || echo plain",
                    snapshot),
            ".:\na\nlink\nout\nrun\n\n./a:\nempty\ntext\n\n./a/empty:\none\n"
            "ran in /tmp\nplain\n");
  EXPECT_EQ(Printed("echo two >> a/text; rm -r run a/empty; mv a b; "
                    "cat b/text; ls",
                    snapshot),
            "one\ntwo\nb\nlink\nout\n");
  EXPECT_EQ(Contents(made), before);
  EXPECT_EQ(Printed("cat a/text; ls", snapshot), "one\na\nlink\nout\nrun\n");
}

TEST(ProgramTest, ASnapshotThatDoesNotFitIsTheTasksFault) {
  SandboxLimits limits;
  limits.file_bytes_max = 8192;
  limits.files_max = 6;
  Program program =
      Shell("", {{.path = "a", .contents = std::string(4097, 'x')}});
  EXPECT_TRUE(CheckFits(program, limits).ok());
  program.snapshot.push_back({.path = "b"});
  program.snapshot.push_back({.path = "c"});
  EXPECT_TRUE(CheckFits(program, limits).ok());
  program.snapshot.push_back({.path = "d"});
  EXPECT_THAT(std::string(CheckFits(program, limits).message()),
              HasSubstr("8192 bytes, in whole pages, and 7 files; a scratch "
                        "holds 8192 and 6"));
  program.snapshot.pop_back();
  program.stdin_text = "x";
  EXPECT_FALSE(CheckFits(program, limits).ok());
  FreshRuns runs(sandboxes, 1, FreshRunsLimits());
  const auto run = runs.Execute(
      Shell("", {{.path = "large", .contents = std::string(17 << 20, 'x')}}));
  EXPECT_EQ(run.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ProgramTest, BytesAndFilesOfTheScratchAreBounded) {
  EXPECT_EQ(LimitOf("for i in 1 2 3 4 5 6 7 8 9; do "
                    "head -c 4000000 /dev/urandom > $i; done"),
            ProgramLimit::kBytes);
  EXPECT_EQ(LimitOf("mkdir a && cd a && i=0; while : > $i; do "
                    "i=$((i + 1)); done 2>/dev/null"),
            ProgramLimit::kFiles);
  EXPECT_EQ(LimitOf("head -c 4000000 /dev/urandom > 1; mkdir 2; :"),
            ProgramLimit::kNone);
  // One file that holds all of it is ended, or refused, likewise.
  EXPECT_EQ(LimitOf("yes > 1"), ProgramLimit::kBytes);
  EXPECT_EQ(Printed("ls -a"), ".\n..\n");  // of the next one
}

TEST(ProgramTest, OutputIsCutAndBoundedWhileItIsMade) {
  FreshRunsLimits limits;
  limits.output_bytes_max = 1000;
  FreshRun run = Execute(Shell("yes"), limits);
  EXPECT_EQ(run.limit, ProgramLimit::kOutput);
  EXPECT_EQ(run.exit_code, 128 + SIGXFSZ) << "at file_bytes_max";
  EXPECT_EQ(run.printed.size(), 1000u);
  run = Execute(Shell("printf %1000s x"), limits);
  EXPECT_EQ(run.limit, ProgramLimit::kNone);
  EXPECT_EQ(run.printed.size(), 1000u);
  EXPECT_EQ(Execute(Shell("yes >&2")).limit, ProgramLimit::kBytes);
}

TEST(ProgramTest, TimeIsBoundedWhateverRuns) {
  FreshRunsLimits limits;
  limits.compile_max = std::chrono::milliseconds(700);
  for (const char* script :
       {"while :; do :; done", "sleep 1000 & wait",
        "trap '' TERM INT HUP; while :; do sleep 9; done"}) {
    const FreshRun run = Execute(Shell(script), limits);
    EXPECT_EQ(run.outcome, OUTCOME_TIMEOUT) << script;
    EXPECT_EQ(run.limit, ProgramLimit::kTime) << script;
  }
}

TEST(ProgramTest, MemoryOfAllItsProcessesIsBounded) {
  if (!sandboxes->supervisor().holds_memory()) {
    GTEST_SKIP() << "without a memory cgroup each process is held alone";
  }
  // Four of 200 MB each, of 512 MiB.
  const std::string take =
      "python3 -S -c 'import time; x = b\"x\" * 200000000; time.sleep(3)'";
  const FreshRun run = Execute(
      Shell(take + " & " + take + " & " + take + " & " + take + "; wait"));
  EXPECT_EQ(run.limit, ProgramLimit::kMemory) << run.stderr_text;
  // Nor is it the next one's fault.
  EXPECT_EQ(LimitOf("true"), ProgramLimit::kNone);
  EXPECT_THAT(Execute(Shell("python3 -S -c 'b\"x\" * (1 << 30)'")).stderr_text,
              HasSubstr("MemoryError"));
}

TEST(ProgramTest, ProcessesAreBounded) {
  const FreshRun run = Execute(
      Shell("i=0; while [ $i -lt 100 ]; do sleep 100 & i=$((i + 1)); done"));
  EXPECT_EQ(run.outcome, OUTCOME_OK) << run.error;
  EXPECT_NE(run.exit_code, 0);
  EXPECT_THAT(run.stderr_text, HasSubstr("fork"));
  if (absl::StrContains(sandboxes->supervisor().description(), "pids")) {
    EXPECT_EQ(run.limit, ProgramLimit::kProcesses);
  }
  EXPECT_EQ(LimitOf("sleep 0 & wait"), ProgramLimit::kNone);
}

// Nor does the next run find anything of it.
TEST(ProgramTest, WhateverAProgramDoesIsItsOwnFailure) {
  FreshRunsLimits limits;
  limits.run_max = std::chrono::milliseconds(700);
  for (const char* script :
       {"b() { b | b & }; b; wait", "kill -9 -1; kill -9 1; kill -9 0",
        "rm -rf / 2>&1; rm -rf /tmp/*; exit 1",
        "exec 0<&- 1>&- 2>&-; while :; do :; done",
        "setsid sleep 1000 & setsid sleep 1000 & exit 3",
        "head -c 1000000000 /dev/urandom | tail | wc -c",
        "mkdir -p a/b/c; chmod 0 a; ln -s / root; mkfifo p; exit 9",
        "while :; do ln -s x $(date +%N) 2>&1; done"}) {
    FreshRuns runs(sandboxes, 1, limits);
    const auto run = runs.Execute(Shell(script));
    ASSERT_TRUE(run.ok()) << run.status() << " of " << script;
    const auto next = runs.Execute(Shell("ls -A; echo next"));
    ASSERT_TRUE(next.ok()) << next.status() << " after " << script;
    EXPECT_EQ(next->printed, "next\n") << script;
    EXPECT_EQ(next->limit, ProgramLimit::kNone) << script;
  }
}

TEST(ProgramTest, ACompilerAndWhatItMakesRunInOneScratch) {
  if (const auto can = CanCompileCpp(); !can.ok()) {
    GTEST_SKIP() << can;
  }
  const std::vector<SnapshotEntry> sources = {
      {.kind = SnapshotEntry::Kind::kDirectory, .path = "src"},
      {.path = "src/main.cc",
       .contents = "#include \"six.h\"\n#include <cstdio>\n"
                   "int main() { printf(\"%d\\n\", six() * 7); }\n"},
      {.path = "src/six.h", .contents = "inline int six() { return 6; }\n"}};
  EXPECT_EQ(Printed("g++ -o main src/main.cc && ./main", sources), "42\n");
  EXPECT_THAT(Execute(Shell("c++ -o main src/six.cc", sources)).stderr_text,
              HasSubstr("src/six.cc"));
}

TEST(ProgramTest, GitCommitsInASnapshotAndNotInItsOrigin) {
  if (access("/usr/bin/git", X_OK) != 0) GTEST_SKIP() << "no git here";
  if (!sandboxes->supervisor().holds_memory()) {
    GTEST_SKIP() << "without a memory cgroup git has too few processes";
  }
  const std::string git =
      "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a "
      "GIT_COMMITTER_EMAIL=a@b; git config --global init.defaultBranch main; ";
  const std::vector<SnapshotEntry> file = {
      {.path = "text", .contents = "one\n"}};
  EXPECT_THAT(Printed(git + "git init && git add text && git commit -m first "
                            "&& git log --format=%s && git status --short",
                      file),
              HasSubstr("\nfirst\n"));
  // One that was made outside: its empty directories are part of it.
  const fs::path made = NewDirectory("repository");
  Write(made / "text", "one\n");
  const std::string outside = "cd " + made.string() +
                              " && export HOME=$PWD && " + git +
                              "git init -q && git add text && "
                              "git commit -q -m first && rm .gitconfig";
  ASSERT_EQ(system(outside.c_str()), 0);
  const auto before = Contents(made);
  EXPECT_EQ(Printed(git + "echo two >> text && git commit -q -am second && "
                          "git log --format=%s && git fsck 2>&1 && "
                          "git status --short",
                    Snapshot(made)),
            "second\nfirst\n?? .gitconfig\n");
  EXPECT_EQ(Contents(made), before);
}

}  // namespace
}  // namespace temper

int main(int argc, char** argv) {
  return temper::RunTestsWithSandboxes(argc, argv, &temper::sandboxes);
}
