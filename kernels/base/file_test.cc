#include "kernels/base/file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

std::string TestPath(const std::string& name) {
  const std::string directory =
      std::string(getenv("TEST_TMPDIR")) + "/" +
      testing::UnitTest::GetInstance()->current_test_info()->name();
  EXPECT_TRUE(MakeDirectories(directory).ok());
  return directory + "/" + name;
}

TEST(FileTest, ReadsBackWhatWasWrittenDurably) {
  const std::string path = TestPath("a");
  const std::string data("one\0two", 7);
  ASSERT_TRUE(WriteFileDurably(path, data).ok());
  EXPECT_EQ(*ReadFile(path, 7), data);
  auto mapped = MappedFile::Open(path, 7);
  ASSERT_TRUE(mapped.ok());
  EXPECT_EQ((*mapped)->size(), 7u);
  EXPECT_EQ(std::memcmp((*mapped)->data(), data.data(), 7), 0);
}

TEST(FileTest, AFileAboveTheLimitIsRefusedByBothReaders) {
  const std::string path = TestPath("a");
  ASSERT_TRUE(WriteFileDurably(path, std::string(11, 'x')).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(ReadFile(path, 10).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(MappedFile::Open(path, 10).status()));
}

// Nobody writes to it: an open that waits would wait for ever.
TEST(FileTest, AFifoIsRefusedAtOnce) {
  const std::string path = TestPath("a");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  alarm(10);
  EXPECT_TRUE(absl::IsInvalidArgument(ReadFile(path, 1).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(MappedFile::Open(path, 1).status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(ReadPieces(path, 1, [](const char*, size_t) {})));
  alarm(0);
}

TEST(FileTest, RewritingReplacesTheWholeFileAndLeavesNoTemporary) {
  const std::string path = TestPath("a");
  ASSERT_TRUE(WriteFileDurably(path, "a longer first text").ok());
  ASSERT_TRUE(WriteFileDurably(path, "short").ok());
  EXPECT_EQ(*ReadFile(path, 100), "short");
  EXPECT_THAT(*ListDirectory(ParentOf(path)), testing::ElementsAre("a"));
}

TEST(FileTest, AFailedRewriteLeavesNothingBehind) {
  const std::string path = TestPath("a");
  ASSERT_TRUE(MakeDirectories(path + "/occupied").ok());
  EXPECT_FALSE(WriteFileDurably(path, "text").ok());
  EXPECT_THAT(*ListDirectory(ParentOf(path)), testing::ElementsAre("a"));
  EXPECT_THAT(*ListDirectory(path), testing::ElementsAre("occupied"));
}

TEST(FileTest, WhatAKilledWriterLeavesIsKnownByItsName) {
  const std::string dir = ParentOf(TestPath("a"));
  {
    const auto file = *DurableFile::Create(TestPath("a"));
    const auto names = *ListDirectory(dir);
    ASSERT_EQ(names.size(), 1u);
    EXPECT_TRUE(DurableFile::IsRemainder(names[0])) << names[0];
  }
  for (const char* name :
       {"a", ".tmp.", "a.tmp.1", "a.tmp.x.1", "a.tmp.1.x", "a.tmp.1.2.json"}) {
    EXPECT_FALSE(DurableFile::IsRemainder(name)) << name;
  }
}

TEST(FileTest, WhatIsMissingIsNotFoundAndADirectoryIsNoFile) {
  EXPECT_TRUE(absl::IsNotFound(ReadFile(TestPath("none"), 1).status()));
  EXPECT_TRUE(absl::IsNotFound(ListDirectory(TestPath("none")).status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(ReadFile(ParentOf(TestPath("a")), 1).status()));
  EXPECT_TRUE(RemoveAll(TestPath("none")).ok());
}

// Only what this machine or this process is to blame for is Internal or
// ResourceExhausted: whoever asked for the path can do nothing about it there.
TEST(FileTest, TheMachinesFaultsAreNotThePathsAndSayWhatToDo) {
  const auto code = [](int error) { return FileError("a", "b", error).code(); };
  for (const int error :
       {ENOTDIR, EISDIR, ELOOP, ENAMETOOLONG, EINVAL, ENXIO}) {
    EXPECT_EQ(code(error), absl::StatusCode::kInvalidArgument) << error;
  }
  EXPECT_EQ(code(EIO), absl::StatusCode::kInternal);
  EXPECT_EQ(code(ENOMEM), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(code(EMFILE), absl::StatusCode::kResourceExhausted);
  const auto message = [](int error) {
    return std::string(FileError("open", "b", error).message());
  };
  EXPECT_THAT(message(EMFILE), testing::HasSubstr("ulimit -n"));
  EXPECT_THAT(message(ENFILE), testing::HasSubstr("fs.file-max"));
  EXPECT_THAT(message(EIO), testing::HasSubstr("dmesg"));
}

TEST(FileTest, AnEmptyFileIsReadAndMapped) {
  const std::string path = TestPath("empty");
  ASSERT_TRUE(WriteFileDurably(path, "").ok());
  EXPECT_EQ(*ReadFile(path, 0), "");
  EXPECT_EQ((*MappedFile::Open(path, 0))->size(), 0u);
}

}  // namespace
}  // namespace temper
