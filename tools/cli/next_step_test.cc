#include "tools/cli/next_step.h"

#include <sys/resource.h>

#include <cerrno>
#include <cstdlib>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "learner/store/sqlite.h"
#include "tools/cli/cli.h"

namespace temper {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Without a descriptor left for as long as it lives.
class NoDescriptors {
 public:
  NoDescriptors() {
    getrlimit(RLIMIT_NOFILE, &before_);
    rlimit none = before_;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none);
  }
  ~NoDescriptors() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_;
};

// Every message here is of something that the user named and that is there.
class NextStepTest : public testing::Test {
 protected:
  NextStepTest() : path_(std::string(getenv("TEST_TMPDIR")) + "/config") {
    EXPECT_TRUE(WriteFileDurably(path_, "seed: 1").ok());
  }

  static void ExpectNotBlamed(const absl::Status& status) {
    const absl::Status told = IfUnusable(status, "name another");
    EXPECT_EQ(told, status);
    EXPECT_EQ(ReportError("train", told), kExitFailed) << told;
  }

  const std::string path_;
};

TEST_F(NextStepTest, ALackOfDescriptorsIsNotBlamedOnTheFile) {
  absl::Status read, opened;
  {
    const NoDescriptors none;
    read = ReadFile(path_, 100).status();
    opened = Sqlite::Open(path_, Sqlite::Mode::kReader).status();
  }
  ExpectNotBlamed(read);
  EXPECT_THAT(read.ToString(), HasSubstr("ulimit -n"));
  ExpectNotBlamed(opened);
  EXPECT_THAT(opened.ToString(), HasSubstr("ulimit -n"));
}

TEST_F(NextStepTest, ADiskThatFailsIsNotBlamedOnTheFile) {
  ExpectNotBlamed(FileError("read", path_, EIO));
}

TEST_F(NextStepTest, WhatIsWrongWithThePathIs) {
  for (const absl::Status& status :
       {ReadFile(path_ + "/below_a_file", 100).status(),
        ReadFile(path_, /*limit_bytes=*/3).status(),
        ReadFile(std::string(5000, 'x'), 100).status(),
        ListDirectory(path_).status(),
        ReadFile(getenv("TEST_TMPDIR"), 100).status()}) {
    const absl::Status told = IfUnusable(status, "name another");
    EXPECT_THAT(std::string(told.message()), HasSubstr("; name another"));
    EXPECT_EQ(ReportError("train", told), kExitMisused) << told;
  }
  EXPECT_THAT(
      Sqlite::Open(path_ + "no", Sqlite::Mode::kReader).status().ToString(),
      Not(HasSubstr("ulimit")));
}

}  // namespace
}  // namespace temper
