#include "learner/store/checkpoint.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"

namespace temper {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

std::string FreshDirectory() {
  static int next = 0;
  return std::string(getenv("TEST_TMPDIR")) + "/checkpoints" +
         std::to_string(next++);
}

std::unique_ptr<CheckpointStore> Store(const std::string& directory,
                                       int keep = 2) {
  auto store = CheckpointStore::Create({directory, keep});
  EXPECT_TRUE(store.ok()) << store.status();
  return *std::move(store);
}

// Two files, one in a directory of its own, that say `text`.
CheckpointStore::Writer Says(const std::string& text) {
  return [text](const std::string& directory) {
    absl::Status status = MakeDirectories(directory + "/model");
    status.Update(WriteFileDurably(directory + "/model/weights", text));
    status.Update(WriteFileDurably(directory + "/state", text + text));
    return status;
  };
}

std::string WeightsOf(const std::string& directory) {
  return *ReadFile(directory + "/model/weights", 1 << 20);
}

void Overwrite(const std::string& path, const std::string& text) {
  ASSERT_TRUE(WriteFileDurably(path, text).ok());
}

TEST(CheckpointTest, TheNewestIsLoadedAndOlderOnesThanKeptAreGone) {
  const std::string directory = FreshDirectory();
  auto store = Store(directory);
  for (int step : {10, 20, 30}) {
    ASSERT_TRUE(store->Save(step, Says(std::to_string(step))).ok());
  }
  auto loaded = *store->LoadNewest();
  EXPECT_EQ(loaded.step, 30);
  EXPECT_EQ(WeightsOf(loaded.directory), "30");
  EXPECT_THAT(loaded.skipped, IsEmpty());
  EXPECT_THAT(*ListDirectory(directory), ElementsAre("step_20", "step_30"));
}

TEST(CheckpointTest, EveryKindOfDamageFallsBackToTheOneBeforeAndSaysSo) {
  for (const char* file : {"model/weights", "state", "MANIFEST"}) {
    for (const char* text : {"30x", "31", ""}) {
      auto store = Store(FreshDirectory());
      ASSERT_TRUE(store->Save(20, Says("20")).ok());
      const std::string newest = *store->Save(30, Says("30"));
      Overwrite(newest + "/" + file, text);
      auto loaded = *store->LoadNewest();
      EXPECT_EQ(WeightsOf(loaded.directory), "20") << file;
      ASSERT_THAT(loaded.skipped, SizeIs(1));
      EXPECT_THAT(loaded.skipped[0], HasSubstr("step_30"));
    }
  }
  auto store = Store(FreshDirectory());
  ASSERT_TRUE(store->Save(20, Says("20")).ok());
  const std::string newest = *store->Save(30, Says("30"));
  ASSERT_TRUE(RemoveAll(newest + "/state").ok());
  EXPECT_EQ(store->LoadNewest()->step, 20);
}

TEST(CheckpointTest, ADamagedOneIsLeftAndItsStepSavedBesideIt) {
  const std::string directory = FreshDirectory();
  auto store = Store(directory);
  ASSERT_TRUE(store->Save(20, Says("20")).ok());
  const std::string damaged = *store->Save(30, Says("30"));
  Overwrite(damaged + "/state", "bad");
  const std::string again = *store->Save(30, Says("again"));
  EXPECT_EQ(again, directory + "/step_30.2");
  auto loaded = *store->LoadNewest();
  EXPECT_EQ(loaded.directory, again);
  EXPECT_EQ(*ReadFile(damaged + "/state", 100), "bad");
}

TEST(CheckpointTest, ADamagedOneTakesNoGoodOnesPlace) {
  const std::string directory = FreshDirectory();
  auto store = Store(directory);
  ASSERT_TRUE(store->Save(10, Says("10")).ok());
  const std::string damaged = *store->Save(20, Says("20"));
  Overwrite(damaged + "/model/weights", "2O");
  const std::string newest = *store->Save(30, Says("30"));
  EXPECT_THAT(*ListDirectory(directory),
              ElementsAre("step_10", "step_20", "step_30"));
  Overwrite(newest + "/state", "bad");
  EXPECT_EQ(store->LoadNewest()->step, 10);
  ASSERT_TRUE(store->Save(40, Says("40")).ok());
  EXPECT_EQ(store->LoadNewest()->step, 40);
  ASSERT_TRUE(store->Save(50, Says("50")).ok());
  EXPECT_THAT(*ListDirectory(directory), ElementsAre("step_40", "step_50"));
}

TEST(CheckpointTest, ALowerStepSavedLaterIsTheNewest) {
  auto store = Store(FreshDirectory());
  ASSERT_TRUE(store->Save(40, Says("dead attempt")).ok());
  ASSERT_TRUE(store->Save(30, Says("30")).ok());
  EXPECT_EQ(store->LoadNewest()->step, 30);
}

TEST(CheckpointTest, NewestIsTheOneThatWouldBeLoaded) {
  const std::string directory = FreshDirectory();
  EXPECT_EQ(*CheckpointStore::Newest(directory), "");
  auto store = Store(directory);
  EXPECT_EQ(*CheckpointStore::Newest(directory), "");
  ASSERT_TRUE(store->Save(40, Says("dead attempt")).ok());
  const std::string newest = *store->Save(30, Says("30"));
  EXPECT_EQ(*CheckpointStore::Newest(directory), newest);
  Overwrite(newest + "/MANIFEST", "");
  EXPECT_EQ(*CheckpointStore::Newest(directory), directory + "/step_40");
}

TEST(CheckpointTest, WhatTheCallerDoesNotAcceptIsSkippedWithItsReason) {
  auto store = Store(FreshDirectory());
  ASSERT_TRUE(store->Save(20, Says("20")).ok());
  ASSERT_TRUE(store->Save(30, Says("30")).ok());
  auto loaded =
      *store->LoadNewest([](int64_t step, const std::string&) -> absl::Status {
        if (step == 20) return absl::OkStatus();
        return absl::FailedPreconditionError("not in the lineage");
      });
  EXPECT_EQ(loaded.step, 20);
  ASSERT_THAT(loaded.skipped, SizeIs(1));
  EXPECT_THAT(loaded.skipped[0], HasSubstr("not in the lineage"));
}

// A machine that fails for a while is no reason to go on from an older one:
// what the newer steps made would be lost.
TEST(CheckpointTest, AReadErrorOfTheMachineIsReturnedNotSkipped) {
  auto store = Store(FreshDirectory());
  ASSERT_TRUE(store->Save(20, Says("20")).ok());
  const std::string newest = *store->Save(30, Says("30"));
  for (const absl::Status& error :
       {absl::UnavailableError("locked"), absl::InternalError("I/O error"),
        absl::ResourceExhaustedError("no memory"),
        absl::PermissionDeniedError("denied")}) {
    const absl::Status status =
        store->LoadNewest([&](int64_t, const std::string&) { return error; })
            .status();
    EXPECT_EQ(status.code(), error.code());
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr(newest), HasSubstr(error.message())));
  }
  // To read at its beginning is an I/O error.
  ASSERT_TRUE(RemoveAll(newest + "/state").ok());
  ASSERT_EQ(symlink("/proc/self/mem", (newest + "/state").c_str()), 0);
  EXPECT_EQ(store->LoadNewest().status().code(), absl::StatusCode::kInternal);
}

TEST(CheckpointTest, AFailedWriterChangesNothing) {
  const std::string directory = FreshDirectory();
  auto store = Store(directory);
  ASSERT_TRUE(store->Save(20, Says("20")).ok());
  const auto failed = store->Save(30, [](const std::string& where) {
    WriteFileDurably(where + "/half", "half").IgnoreError();
    return absl::ResourceExhaustedError("the disk is full");
  });
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(*ListDirectory(directory), ElementsAre("step_20"));
}

TEST(CheckpointTest, NoneAtAllIsNotFoundAndOneIsTooFewToKeep) {
  auto store = Store(FreshDirectory());
  EXPECT_TRUE(absl::IsNotFound(store->LoadNewest().status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      CheckpointStore::Create({FreshDirectory(), 1}).status()));
}

// Saves steps 1, 2, 3, ... and says each step's number once Save returned.
void SaveForEver(const std::string& directory, int fd) {
  auto store = CheckpointStore::Create({directory, 2});
  if (!store.ok()) _exit(2);
  auto loaded = (*store)->LoadNewest();
  int64_t step = loaded.ok() ? loaded->step : 0;
  for (;;) {
    ++step;
    const std::string text(1000, static_cast<char>('a' + step % 26));
    if (!(*store)->Save(step, Says(text)).ok()) _exit(3);
    if (write(fd, &step, sizeof(step)) != sizeof(step)) _exit(4);
  }
}

TEST(CheckpointTest, KilledAnywhereTheLastSavedOneLoadsWhole) {
  const std::string directory = FreshDirectory();
  int64_t saved = 0;
  for (int round = 0; round < 25; ++round) {
    int fds[2];
    ASSERT_EQ(pipe(fds), 0);
    const pid_t child = fork();
    if (child == 0) {
      close(fds[0]);
      SaveForEver(directory, fds[1]);
    }
    close(fds[1]);
    int64_t step = 0;
    for (int i = 0; i <= round % 3; ++i) {
      ASSERT_EQ(read(fds[0], &step, sizeof(step)),
                static_cast<ssize_t>(sizeof(step)));
      saved = step;
    }
    // Somewhere within the next save: a little later in every round.
    usleep(static_cast<useconds_t>(round * 300));
    kill(child, SIGKILL);
    while (read(fds[0], &step, sizeof(step)) == sizeof(step)) saved = step;
    close(fds[0]);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "exit " << WEXITSTATUS(status);
    auto loaded = Store(directory)->LoadNewest();
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_GE(loaded->step, saved);
    EXPECT_THAT(loaded->skipped, IsEmpty());
    EXPECT_EQ(WeightsOf(loaded->directory),
              std::string(1000, static_cast<char>('a' + loaded->step % 26)));
  }
}

}  // namespace
}  // namespace temper
