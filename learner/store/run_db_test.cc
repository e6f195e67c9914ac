#include "learner/store/run_db.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <map>

#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "learner/store/run_db_fixture.h"
#include "learner/store/run_db_schema.h"
#include "proto/task.pb.h"
#include "proto/trajectory.pb.h"
#include "proto/wire/outcome.h"

namespace temper {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string FreshPath() {
  static int next = 0;
  return std::string(getenv("TEST_TMPDIR")) + "/run" + std::to_string(next++) +
         ".db";
}

const RunInfo kInfo{"trial", 7,       "seed: 7", "abc",
                    "box",   "tasks", "bf16",    "cuda"};

std::unique_ptr<RunDb> OpenStarted(const std::string& path, Clock* clock) {
  auto db = RunDb::OpenWriter(path, clock);
  EXPECT_TRUE(db.ok()) << db.status();
  EXPECT_TRUE((*db)->StartRun(kInfo).ok());
  return *std::move(db);
}

void Execute(RunDb* db, const char* sql, const SqlRow& values) {
  auto txn = *db->sqlite()->Begin();
  ASSERT_TRUE(txn->Run(sql, values).ok());
  ASSERT_TRUE(txn->Commit().ok());
}

TEST(RunDbTest, ARunIsStartedOnceAndReadBackByAReader) {
  FakeClock clock;
  const std::string path = FreshPath();
  auto db = OpenStarted(path, &clock);
  EXPECT_EQ(db->StartRun(kInfo).code(), absl::StatusCode::kAlreadyExists);
  auto reader = *RunDb::OpenReader(path);
  const RunInfo info = *reader->ReadRun();
  EXPECT_EQ(info.name, "trial");
  EXPECT_EQ(info.seed, 7u);
  EXPECT_EQ(info.config, "seed: 7");
  EXPECT_EQ(info.numerics, "bf16");
  EXPECT_EQ(info.device, "cuda");
  EXPECT_EQ(*reader->CurrentAttempt(), 1);
}

TEST(RunDbTest, ASecondWriterIsRefusedWhileTheFirstLives) {
  FakeClock clock;
  const std::string path = FreshPath();
  {
    auto db = OpenStarted(path, &clock);
    EXPECT_EQ(RunDb::OpenWriter(path, &clock).status().code(),
              absl::StatusCode::kFailedPrecondition);
  }
  EXPECT_TRUE(RunDb::OpenWriter(path, &clock).ok());
}

TEST(RunDbTest, AKilledWriterGivesTheLockBackAndItsCommitsStay) {
  const std::string path = FreshPath();
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    auto db = OpenStarted(path, SystemClock());
    if (!db->RecordEvent("learner", EventKind::kResumed, "before the kill")
             .ok())
      _exit(1);
    if (write(ready[1], "x", 1) != 1) _exit(1);
    pause();
    _exit(0);
  }
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
  {
    auto reader = RunDb::OpenReader(path);
    ASSERT_TRUE(reader.ok()) << reader.status();
    auto txn = *(*reader)->sqlite()->Begin();
    EXPECT_EQ(*txn->QueryInt("SELECT count(*) FROM event", {}, -1), 1);
  }
  auto db = RunDb::OpenWriter(path, SystemClock());
  ASSERT_TRUE(db.ok()) << db.status();
  auto txn = *(*db)->sqlite()->Begin();
  EXPECT_EQ(*txn->QueryInt("SELECT count(*) FROM event", {}, -1), 1);
}

TEST(RunDbTest, AVersionTooNewOrTooOldIsRefusedAndLeftAsItIs) {
  FakeClock clock;
  for (const int version : {kRunDbVersion + 1, kRunDbVersionMin - 1, 0}) {
    const std::string path = FreshPath();
    const std::string number = std::to_string(version);
    ASSERT_TRUE(OpenStarted(path, &clock)
                    ->sqlite()
                    ->Execute("PRAGMA user_version=" + number)
                    .ok());
    const std::string before = *ReadFile(path, 1 << 28);
    const absl::Status refused[] = {RunDb::OpenReader(path).status(),
                                    RunDb::OpenWriter(path, &clock).status()};
    for (const absl::Status& status : refused) {
      EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr(path + " has schema version " + number),
                        HasSubstr(version > kRunDbVersion ? "take the newer"
                                                          : "take the older")));
    }
    EXPECT_EQ(*ReadFile(path, 1 << 28), before);
  }
}

// (value, name) of a view, and of the enum that it must tell.
using Names = std::map<int64_t, std::string>;
Names NamesIn(RunDb* db, const char* sql) {
  Names names;
  auto txn = *db->sqlite()->Begin();
  const auto rows = *txn->Query(sql);
  for (const SqlRow& row : rows) {
    names[row[0].AsInt()] = row[1].AsString();
  }
  return names;
}
Names NamesOf(const google::protobuf::EnumDescriptor& type,
              const std::string& prefix) {
  Names names;
  for (int i = 0; i < type.value_count(); ++i) {
    names[type.value(i)->number()] =
        type.value(i)->name().substr(prefix.size());
  }
  return names;
}

TEST(RunDbTest, EveryEnumHasAViewOfTheNamesThatTheProtoFilesGive) {
  FakeClock clock;
  auto db = OpenStarted(FreshPath(), &clock);
  EXPECT_EQ(NamesIn(db.get(), "SELECT value, name FROM outcome_names"),
            NamesOf(*Outcome_descriptor(), "OUTCOME_"));
  EXPECT_EQ(NamesIn(db.get(), "SELECT value, name FROM purpose_names"),
            NamesOf(*Purpose_descriptor(), "PURPOSE_"));
  EXPECT_EQ(NamesIn(db.get(), "SELECT value, name FROM environment_call_names"),
            NamesOf(*EnvironmentCallKind_descriptor(), "ENVIRONMENT_CALL_"));
  for (const auto& [value, name] : NamesOf(*Outcome_descriptor(), "OUTCOME_")) {
    EXPECT_EQ(OutcomeName(static_cast<Outcome>(value)), name);
  }
}

TEST(RunDbTest, EveryTableWithANumberedEnumHasAViewThatAddsItsName) {
  FakeClock clock;
  auto db = OpenStarted(FreshPath(), &clock);
  auto txn = *db->sqlite()->Begin();
  const auto columns = *txn->Query(
      "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c "
      "WHERE m.type = 'table' AND c.type = 'INTEGER' AND "
      "(c.name LIKE '%outcome' OR c.name LIKE '%purpose' OR c.name = 'kind')");
  ASSERT_EQ(columns.size(), 6u);
  for (const SqlRow& row : columns) {
    const std::string sql = "SELECT count(*) FROM pragma_table_info('named_" +
                            row[0].AsString() + "') WHERE name = '" +
                            row[1].AsString() + "_name'";
    EXPECT_EQ(*txn->QueryInt(sql.c_str(), {}, 0), 1) << sql;
  }
}

TEST(RunDbTest, NamesStandBesideTheNumbers) {
  FakeClock clock;
  auto db = OpenStarted(FreshPath(), &clock);
  Execute(db.get(), "INSERT INTO grp VALUES (7, 2, 't', NULL, 1, NULL, 1, 0)",
          {});
  Execute(db.get(),
          "INSERT INTO episode VALUES (1, 7, 0, 1, 1, 2, 't', 'e', '', 0, 6, "
          "0, 0, 0, '', '', NULL, 0, 0, 0, '', '', 0, 0, 0, 0, 0, 0)",
          {});
  Execute(db.get(),
          "INSERT INTO ledger(grp, sample, state, episode, updated_us) "
          "VALUES (7, 0, 'received', 1, 0)",
          {});
  Execute(db.get(),
          "INSERT INTO tool_call VALUES (1, 0, 0, 'n', '{}', '', 5, 0)", {});
  const auto text = [&](const char* sql) {
    auto txn = *db->sqlite()->Begin();
    const auto rows = *txn->Query(sql);
    return rows.size() == 1 ? rows[0][0].AsString() : "not one row";
  };
  for (const char* view : {"named_episode", "lineage_episode"}) {
    const std::string sql =
        std::string(
            "SELECT purpose_name || ' ' || outcome_name || ' ' || "
            "verdict_outcome_name FROM ") +
        view;
    EXPECT_EQ(text(sql.c_str()), "EVAL SANDBOX_ERROR UNSPECIFIED");
  }
  EXPECT_EQ(text("SELECT purpose_name FROM named_grp"), "EVAL");
  EXPECT_EQ(text("SELECT outcome_name FROM named_tool_call"), "TIMEOUT");
}

TEST(RunDbTest, AForeignFileAnEmptyOneAndDamageAreRefused) {
  FakeClock clock;
  const std::string foreign = FreshPath();
  ASSERT_TRUE((*Sqlite::Open(foreign, Sqlite::Mode::kWriter))
                  ->Execute("CREATE TABLE t(a)")
                  .ok());
  EXPECT_TRUE(
      absl::IsInvalidArgument(RunDb::OpenWriter(foreign, &clock).status()));

  const std::string empty = FreshPath();
  ASSERT_TRUE(WriteFileDurably(empty, "").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(RunDb::OpenReader(empty).status()));

  const std::string damaged = FreshPath();
  {
    auto db = OpenStarted(damaged, &clock);
    for (int i = 0; i < 200; ++i) {
      ASSERT_TRUE(
          db->RecordEvent("p", EventKind::kResumed, std::string(500, 'd'))
              .ok());
    }
    ASSERT_TRUE(db->sqlite()->Execute("PRAGMA wal_checkpoint(TRUNCATE)").ok());
  }
  std::string bytes = *ReadFile(damaged, 1 << 28);
  for (size_t at = bytes.size() / 2; at < bytes.size(); ++at) bytes[at] = 'x';
  ASSERT_TRUE(WriteFileDurably(damaged, bytes).ok());
  EXPECT_TRUE(absl::IsDataLoss(RunDb::OpenWriter(damaged, &clock).status()));
}

TEST(RunDbTest, TheLineageLeavesOutStepsAboveALaterAttemptsBase) {
  FakeClock clock;
  auto db = OpenStarted(FreshPath(), &clock);
  for (int step = 1; step <= 5; ++step) {
    Execute(db.get(), "INSERT INTO step VALUES (1, ?, 1, 1, 1, 0, 0)", {step});
  }
  Execute(db.get(), "INSERT INTO attempt VALUES (2, 3, 0, '', '', '')", {});
  EXPECT_EQ(LatestStep(db.get()), 3);
  Execute(db.get(), "INSERT INTO step VALUES (2, 4, 1, 1, 1, 0, 0)", {});
  EXPECT_EQ(LatestStep(db.get()), 4);
  EXPECT_TRUE(*db->InLineage(1, 3));
  EXPECT_FALSE(*db->InLineage(1, 4));
  EXPECT_TRUE(*db->InLineage(2, 4));
  EXPECT_FALSE(*db->InLineage(2, 3));
  Execute(db.get(), "INSERT INTO attempt VALUES (3, 2, 0, '', '', '')", {});
  EXPECT_EQ(LatestStep(db.get()), 2);
  EXPECT_FALSE(*db->InLineage(2, 4));
}

TEST(RunDbTest, AVersionNumberIsNeverUsedForOtherBytes) {
  FakeClock clock;
  auto db = OpenStarted(FreshPath(), &clock);
  EXPECT_EQ(*db->NextWeightVersion(), 1u);
  ASSERT_TRUE(db->RecordWeightVersion({1, 0, 0, "hash one", 10}).ok());
  EXPECT_TRUE(db->RecordWeightVersion({1, 0, 0, "hash one", 10}).ok());
  EXPECT_EQ(db->RecordWeightVersion({1, 0, 0, "hash two", 10}).code(),
            absl::StatusCode::kAlreadyExists);
  ASSERT_TRUE(db->RecordWeightVersion({2, 0, 1, "hash two", 10}).ok());
  Execute(db.get(), "INSERT INTO attempt VALUES (2, 0, 0, '', '', '')", {});
  EXPECT_EQ(*db->NextWeightVersion(), 3u);
  EXPECT_EQ(db->LineageWeightVersions()->size(), 1u);
}

TEST(RunDbTest, AMetricWithoutAValueIsNullAndOneThatIsNotFiniteIsRefused) {
  FakeClock clock;
  auto db = OpenStarted(FreshPath(), &clock);
  ASSERT_TRUE(db->RecordMetrics(0, {{"a", std::nullopt}, {"b", 2.5}}).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(
      db->RecordMetrics(0, {{"c", 1.0}, {"d", 0.0 / 0.0}})));
  auto txn = *db->sqlite()->Begin();
  auto rows = *txn->Query("SELECT name, value FROM metric ORDER BY name");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_TRUE(rows[0][1].is_null());
  EXPECT_EQ(rows[1][1].AsDouble(), 2.5);
}

TEST(RunDbTest, AMetricMeasuredAgainAfterAResumeIsOneRowOfTheLineage) {
  FakeClock clock;
  auto db = OpenStarted(FreshPath(), &clock);
  ASSERT_TRUE(db->RecordMetrics(3, {{"kept", 1.0}, {"again", 1.0}}).ok());
  ASSERT_TRUE(db->RecordMetrics(4, {{"again", 1.0}}).ok());
  Execute(db.get(), "INSERT INTO attempt VALUES (2, 3, 0, '', '', '')", {});
  EXPECT_FALSE(*db->HasMetric(4, "again"));
  ASSERT_TRUE(db->RecordMetrics(3, {{"again", 2.0}}).ok());
  ASSERT_TRUE(db->RecordMetrics(4, {{"again", 2.0}}).ok());
  EXPECT_TRUE(*db->HasMetric(3, "kept"));
  EXPECT_TRUE(*db->HasMetric(4, "again"));
  auto txn = *db->sqlite()->Begin();
  const auto rows = *txn->Query(
      "SELECT step, name, value FROM lineage_metric ORDER BY step, name");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0][2].AsDouble(), 2.0);  // 3 again
  EXPECT_EQ(rows[1][2].AsDouble(), 1.0);  // 3 kept
  EXPECT_EQ(rows[2][2].AsDouble(), 2.0);  // 4 again
  // What the dead attempt measured of step 4 stays to be looked at.
  EXPECT_EQ(*txn->QueryInt("SELECT count(*) FROM metric", {}, 0), 4);
}

TEST(RunDbTest, WaitsAreReplacedPerProcess) {
  FakeClock clock;
  auto db = OpenStarted(FreshPath(), &clock);
  ASSERT_TRUE(db->RecordWaits("w0", {{"lease", 5, 100}, {"flip", 1, 9}}).ok());
  ASSERT_TRUE(db->RecordWaits("w1", {{"lease", 6, 100}}).ok());
  ASSERT_TRUE(db->RecordWaits("w0", {{"ack", 7, 50}}).ok());
  auto txn = *db->sqlite()->Begin();
  auto rows = *txn->Query("SELECT name FROM wait ORDER BY process, name");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0][0].AsString(), "ack");
  EXPECT_EQ(rows[1][0].AsString(), "lease");
}

}  // namespace
}  // namespace temper
