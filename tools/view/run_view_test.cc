#include "tools/view/run_view.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "learner/store/run_db_fixture.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

class RunViewTest : public RunDbFixture {};

TEST_F(RunViewTest, RunIsBeingWrittenWhileItsWriterLives) {
  const std::string path = directory_ + "/run.db";
  EXPECT_TRUE(IsBeingWritten(path));
  ledger_.reset();
  db_.reset();
  EXPECT_FALSE(IsBeingWritten(path));
}

TEST_F(RunViewTest, RunIsFoundByDirectoryFileOrName) {
  const std::string parent = ParentOf(directory_);
  const std::string name = directory_.substr(parent.size() + 1);
  const std::string path = directory_ + "/run.db";
  EXPECT_EQ(*FindRunDb(directory_, "x"), path);
  EXPECT_EQ(*FindRunDb(path, "x"), path);
  EXPECT_EQ(*FindRunDb(name, parent), path);
  EXPECT_THAT(std::string(FindRunDb("none", parent).status().message()),
              HasSubstr("none/run.db"));
  const absl::Status absolute = FindRunDb("/no/run", parent).status();
  EXPECT_EQ(absolute.message(),
            "no run at /no/run/run.db; name a run directory, or a run below "
            "--runs-dir");
}

TEST_F(RunViewTest, AnotherFileIsNoRun) {
  const std::string other = directory_ + "/notes.txt";
  const std::string false_db = directory_ + "/false_run.db";
  ASSERT_TRUE(WriteFileDurably(other, "notes").ok());
  ASSERT_TRUE(WriteFileDurably(false_db, std::string(4096, 'x')).ok());
  const absl::Status named = FindRunDb(other, "x").status();
  EXPECT_EQ(named.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(named.message()),
              HasSubstr("notes.txt is no run.db; name a run directory"));
  const absl::Status opened = OpenRunDb(false_db).status();
  EXPECT_EQ(opened.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(opened.message()),
              HasSubstr("; name a run directory"));
}

}  // namespace
}  // namespace temper
