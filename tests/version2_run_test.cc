// What was run before this schema goes on with it: a run directory of schema
// version 2 (version2_run/README.md) is read as it is, and resumed.

#include <filesystem>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "learner/store/run_db.h"
#include "learner/store/run_db_schema.h"
#include "tests/trial_run.h"

namespace temper {
namespace {

namespace fs = std::filesystem;

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kDeadlineMs = 120'000;
constexpr char kKept[] = "tests/version2_run";
constexpr char kMadeUnder[] = "/tmp/version2";

// A copy of the kept run at RunDir(name), whose configuration names its place.
void CopyRun(const std::string& name) {
  const std::string dir = RunDir(name);
  fs::create_directories(dir);
  for (const auto& entry :
       fs::recursive_directory_iterator(absl::StrCat(kKept, "/run"))) {
    const std::string to = absl::StrCat(
        dir, entry.path().string().substr(std::string(kKept).size() + 4));
    if (entry.is_directory()) {
      fs::create_directories(to);
    } else {  // runfiles are links to files that nobody may write
      const absl::Status written =
          WriteFileDurably(to, ReadAll(entry.path().string()));
      ASSERT_TRUE(written.ok()) << written;
    }
  }
  const std::string config = absl::StrReplaceAll(
      ReadAll(dir + "/config.textproto"),
      {{absl::StrCat(kMadeUnder, "/model"),
        fs::absolute(absl::StrCat(kKept, "/model")).string()},
       {kMadeUnder, TrialPath("runs")}});
  ASSERT_TRUE(WriteFileDurably(dir + "/config.textproto", config).ok());
}

std::string Output(const std::vector<std::string>& args) {
  TemperProcess process(kTemper, args, TrialPath("verb"));
  EXPECT_EQ(process.Wait(kDeadlineMs).value_or(-1), 0) << process.err();
  return process.out();
}

// name -> SQL of everything in a run.db.
std::map<std::string, std::string> Schema(const std::string& path) {
  std::map<std::string, std::string> schema;
  const auto db = RunDb::OpenReader(path);
  EXPECT_TRUE(db.ok()) << db.status();
  const auto transaction = *(*db)->sqlite()->Begin();
  const auto rows =
      transaction->Query("SELECT type || ' ' || name, sql FROM sqlite_schema");
  for (const SqlRow& row : *rows) schema[row[0].AsString()] = row[1].AsString();
  return schema;
}

TEST(Version2RunTest, InspectAndStatusReadItAndLeaveItAsItIs) {
  CopyRun("read");
  const std::string dir = RunDir("read");
  EXPECT_EQ(QueryNumber("read", "PRAGMA user_version"), 2);
  EXPECT_THAT(Output({"inspect", "steps", dir}),
              AllOf(HasSubstr("step   2/2"), HasSubstr("held-out pass@1")));
  EXPECT_THAT(Output({"inspect", "group", dir, "1"}), HasSubstr("task sum-"));
  EXPECT_THAT(Output({"inspect", "trajectory", dir, "3"}),
              HasSubstr("TRUNCATED"));
  EXPECT_THAT(Output({"inspect", "runs", "--runs-dir", TrialPath("runs")}),
              HasSubstr("read"));
  EXPECT_THAT(Output({"status", dir}),
              AllOf(HasSubstr("run run, seed 1, attempt 1, finished"),
                    HasSubstr("8 trained; of evaluations: 4 received")));
  EXPECT_TRUE(ReadAll(dir + "/run.db") ==
              ReadAll(absl::StrCat(kKept, "/run/run.db")));
}

TEST(Version2RunTest, AWriterBringsItToTheSchemaOfAFreshFile) {
  CopyRun("migrated");
  const std::string path = RunDir("migrated") + "/run.db";
  const std::string fresh = TrialPath("fresh.db");
  ASSERT_TRUE(RunDb::OpenWriter(fresh, SystemClock()).ok());
  EXPECT_NE(Schema(path), Schema(fresh));
  for (int i = 0; i < 2; ++i) {  // the second time there is nothing to do
    const auto db = RunDb::OpenWriter(path, SystemClock());
    ASSERT_TRUE(db.ok()) << db.status();
    EXPECT_EQ((*db)->version(), kRunDbVersion);
  }
  EXPECT_EQ(Schema(path), Schema(fresh));
  EXPECT_EQ(QueryNumber("migrated", "PRAGMA user_version"), kRunDbVersion);
  EXPECT_EQ(QueryNumber("migrated",
                        "SELECT count(*) FROM lineage_episode WHERE "
                        "purpose_name = 'TRAIN' AND "
                        "outcome_name = 'TRUNCATED'"),
            8);
}

TEST(Version2RunTest, TheReadmesQueryAnswersByName) {
  CopyRun("queried");
  const std::string path = RunDir("queried") + "/run.db";
  ASSERT_TRUE(RunDb::OpenWriter(path, SystemClock()).ok());
  const std::string readme = ReadAll("README.md");
  const size_t begin = readme.find("run.db \"SELECT ");
  ASSERT_NE(begin, std::string::npos);
  const size_t quote = begin + std::string("run.db ").size();
  const std::string sql =
      readme.substr(quote + 1, readme.find('"', quote + 1) - quote - 1);
  const auto rows = Query("queried", sql.c_str());
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_EQ(rows->size(), 2u);
  EXPECT_EQ((*rows)[0][1].AsString(), "EVAL");
  EXPECT_EQ((*rows)[1][2].AsString(), "TRUNCATED");
}

TEST(Version2RunTest, AnUpgradeThatCannotBeWholeIsNotDoneAtAll) {
  CopyRun("refused");
  const std::string path = RunDir("refused") + "/run.db";
  {
    const auto sqlite = Sqlite::Open(path, Sqlite::Mode::kWriter);
    ASSERT_TRUE(sqlite.ok());
    ASSERT_TRUE((*sqlite)
                    ->Execute("CREATE TABLE named_tool_call(of_a_user INTEGER)")
                    .ok());
  }
  const auto before = Schema(path);
  EXPECT_FALSE(RunDb::OpenWriter(path, SystemClock()).ok());
  EXPECT_EQ(Schema(path), before);
  EXPECT_EQ(QueryNumber("refused", "PRAGMA user_version"), 2);
}

TEST(Version2RunTest, AResumeGoesOnWithItUnderTheNewSchema) {
  CopyRun("resumed");
  TemperProcess train(
      kTemper, {"train", "--resume", RunDir("resumed"), "--set", "steps=3"},
      TrialPath("resumed"));
  ASSERT_EQ(train.Wait(kDeadlineMs).value_or(-1), 0) << train.err();
  EXPECT_EQ(QueryNumber("resumed", "PRAGMA user_version"), kRunDbVersion);
  EXPECT_EQ(LastStep("resumed"), 3);
  EXPECT_EQ(QueryNumber("resumed",
                        "SELECT base_step FROM attempt "
                        "ORDER BY attempt DESC LIMIT 1"),
            2);
  EXPECT_EQ(QueryNumber("resumed", "SELECT count(*) FROM lineage_trained"), 12);
  const absl::Status audit = AuditRun("resumed");
  EXPECT_TRUE(audit.ok()) << audit;
}

}  // namespace
}  // namespace temper
