#include "learner/store/sqlite.h"

#include <sys/resource.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "gtest/gtest.h"
#include "kernels/base/file.h"

namespace temper {
namespace {

std::string FreshPath() {
  static int next = 0;
  return std::string(getenv("TEST_TMPDIR")) + "/db" + std::to_string(next++);
}

std::unique_ptr<Sqlite> OpenWithTable(const std::string& path) {
  auto db = Sqlite::Open(path, Sqlite::Mode::kWriter);
  EXPECT_TRUE(db.ok()) << db.status();
  EXPECT_TRUE((*db)->Execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)").ok());
  return *std::move(db);
}

TEST(SqliteTest, EveryKindOfValueComesBackAsItWent) {
  auto db = OpenWithTable(FreshPath());
  auto txn = *db->Begin();
  const std::string bytes("\0\xff\1", 3);
  ASSERT_TRUE(txn->Run("INSERT INTO t VALUES (1, ?), (2, ?), (3, ?), (4, ?), "
                       "(5, ?)",
                       {SqlValue(), -7, 0.1, "text", SqlValue::Blob(bytes)})
                  .ok());
  auto rows = *txn->Query("SELECT b, typeof(b) FROM t ORDER BY a");
  ASSERT_EQ(rows.size(), 5u);
  EXPECT_TRUE(rows[0][0].is_null());
  EXPECT_EQ(rows[1][0].AsInt(), -7);
  EXPECT_EQ(rows[2][0].AsDouble(), 0.1);
  EXPECT_EQ(rows[3][0].AsString(), "text");
  EXPECT_EQ(rows[4][0].AsString(), bytes);
  EXPECT_EQ(rows[4][1].AsString(), "blob");
}

TEST(SqliteTest, WhatIsNotCommittedIsRolledBack) {
  auto db = OpenWithTable(FreshPath());
  {
    auto txn = *db->Begin();
    ASSERT_TRUE(txn->Run("INSERT INTO t VALUES (1, 1)").ok());
  }
  auto txn = *db->Begin();
  EXPECT_EQ(*txn->QueryInt("SELECT count(*) FROM t", {}, -1), 0);
}

TEST(SqliteTest, AReaderSeesCommittedRowsWhileTheWriterLives) {
  const std::string path = FreshPath();
  auto db = OpenWithTable(path);
  {
    auto txn = *db->Begin();
    ASSERT_TRUE(txn->Run("INSERT INTO t VALUES (1, 1)").ok());
    ASSERT_TRUE(txn->Commit().ok());
  }
  auto reader = *Sqlite::Open(path, Sqlite::Mode::kReader);
  auto read = *reader->Begin();
  EXPECT_EQ(*read->QueryInt("SELECT count(*) FROM t", {}, -1), 1);
  EXPECT_FALSE(read->Run("INSERT INTO t VALUES (2, 2)").ok());
}

TEST(SqliteTest, AFullFileIsResourceExhaustedAndTheDatabaseStaysUsable) {
  auto db = OpenWithTable(FreshPath());
  ASSERT_TRUE(db->Execute("PRAGMA max_page_count=20").ok());
  {
    auto txn = *db->Begin();
    const absl::Status status =
        txn->Run("INSERT INTO t VALUES (1, zeroblob(1000000))");
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  }
  ASSERT_TRUE(db->Execute("PRAGMA max_page_count=2000").ok());
  auto txn = *db->Begin();
  EXPECT_TRUE(txn->Run("INSERT INTO t VALUES (1, 1)").ok());
  EXPECT_TRUE(txn->Commit().ok());
}

// As of a disk that fails, the system's own words.
TEST(SqliteTest, AFailedWriteNamesFileAndCauseOnce) {
  const std::string path = FreshPath();
  auto db = OpenWithTable(path);
  // So that it writes before its end: of a COMMIT sqlite does not keep errno.
  ASSERT_TRUE(db->Execute("PRAGMA cache_size=1").ok());
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  rlimit small = before;
  small.rlim_cur = 1 << 16;
  signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status failed =
      db->Execute("INSERT INTO t VALUES (1, zeroblob(1000000))");
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(failed.message(), "INSERT INTO t VALUES (1, zeroblob(1000000)) " +
                                  path + ": " + strerror(EFBIG));
}

TEST(SqliteTest, AConstraintIsFailedPreconditionAndGarbageIsDataLoss) {
  auto db = OpenWithTable(FreshPath());
  auto txn = *db->Begin();
  ASSERT_TRUE(txn->Run("INSERT INTO t VALUES (1, 1)").ok());
  EXPECT_EQ(txn->Run("INSERT INTO t VALUES (1, 1)").code(),
            absl::StatusCode::kFailedPrecondition);

  const std::string path = FreshPath();
  ASSERT_TRUE(WriteFileDurably(path, std::string(8192, 'x')).ok());
  EXPECT_EQ(Sqlite::Open(path, Sqlite::Mode::kWriter).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST(SqliteTest, AReaderOfNoFileIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(
      Sqlite::Open(FreshPath(), Sqlite::Mode::kReader).status()));
}

}  // namespace
}  // namespace temper
