#include "learner/store/run_db.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "learner/store/run_db_schema.h"

namespace temper {
namespace {

constexpr char kCurrentAttempt[] = "SELECT max(attempt) FROM attempt";

// The version of a file that this program can read; 0 of one without tables.
absl::StatusOr<int> ReadVersion(Sqlite* sqlite, const std::string& path) {
  ASSIGN_OR_RETURN(auto transaction, sqlite->Begin());
  ASSIGN_OR_RETURN(
      const int64_t tables,
      transaction->QueryInt("SELECT count(*) FROM sqlite_schema", {}, 0));
  // A writer that died before its first transaction leaves such a file.
  if (tables == 0) return 0;
  ASSIGN_OR_RETURN(const int64_t application,
                   transaction->QueryInt("PRAGMA application_id", {}, 0));
  ASSIGN_OR_RETURN(const int64_t version,
                   transaction->QueryInt("PRAGMA user_version", {}, 0));
  if (application != kRunDbApplicationId) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is no run.db (application_id ", application, ")"));
  }
  if (version < kRunDbVersionMin || version > kRunDbVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, " has schema version ", version, "; this program knows ",
        kRunDbVersionMin, " to ", kRunDbVersion, ": take ",
        version > kRunDbVersion ? "the newer" : "the older",
        " program that wrote it (its table attempt names the revision)"));
  }
  return static_cast<int>(version);
}

// To kRunDbVersion, in one transaction. After an error the connection is only
// good for closing, which rolls back.
absl::Status Migrate(Sqlite* sqlite, int version) {
  // One transaction, version number included: a death leaves the old file or
  // the new one, and the old program can still read the old one.
  std::string sql = "BEGIN IMMEDIATE;";
  for (const RunDbMigration& migration : kRunDbMigrations) {
    if (migration.to > version) absl::StrAppend(&sql, migration.sql);
  }
  absl::StrAppend(&sql, "PRAGMA application_id=", kRunDbApplicationId,
                  ";PRAGMA user_version=", kRunDbVersion, ";COMMIT");
  return sqlite->Execute(sql);
}

absl::Status CheckPages(Sqlite* sqlite, const std::string& path) {
  ASSIGN_OR_RETURN(auto transaction, sqlite->Begin());
  ASSIGN_OR_RETURN(const auto rows,
                   transaction->Query("PRAGMA quick_check(1)"));
  if (rows.size() != 1 || rows[0][0].AsString() != "ok") {
    return absl::DataLossError(absl::StrCat(
        path, " is damaged: ",
        rows.empty() ? std::string("no answer") : rows[0][0].AsString(),
        "; restore it, or start a new run from a checkpoint's model"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunDbLock>> RunDbLock::Take(
    const std::string& path) {
  // SQLite's own lock lasts a transaction. This one lasts a learner's life: two
  // learners that took turns would both train.
  auto lock = FileLock::Take(path + ".writer");
  if (absl::IsFailedPrecondition(lock.status())) {
    return absl::FailedPreconditionError(
        absl::StrCat(path,
                     " is being written by another process; a run has "
                     "one learner: stop it first"));
  }
  RETURN_IF_ERROR(lock.status());
  return std::unique_ptr<RunDbLock>(new RunDbLock(*std::move(lock)));
}

absl::StatusOr<int64_t> CurrentAttempt(Transaction* transaction) {
  return transaction->QueryInt(kCurrentAttempt, {}, 0);
}

absl::Status WriteMetrics(Transaction* transaction, int64_t attempt,
                          int64_t step,
                          const std::vector<MetricValue>& metrics) {
  for (const MetricValue& metric : metrics) {
    if (metric.value.has_value() && !std::isfinite(*metric.value)) {
      return absl::InvalidArgumentError(
          absl::StrCat("metric ", metric.name, " at step ", step, " is ",
                       *metric.value, ", not a finite number"));
    }
    RETURN_IF_ERROR(
        transaction->Run("INSERT OR REPLACE INTO metric VALUES (?, ?, ?, ?)",
                         {attempt, step, metric.name, metric.value}));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<RunDb>> RunDb::OpenWriter(
    const std::string& path, Clock* clock) {
  ASSIGN_OR_RETURN(auto lock, RunDbLock::Take(path));
  ASSIGN_OR_RETURN(auto sqlite, Sqlite::Open(path, Sqlite::Mode::kWriter));
  std::unique_ptr<RunDb> db(
      new RunDb(std::move(lock), std::move(sqlite), clock));
  ASSIGN_OR_RETURN(db->version_, ReadVersion(db->sqlite(), path));
  // Before anything is written: a migration of a damaged file would spread the
  // damage. A reader does not ask, so that a damaged run can still be looked
  // at.
  RETURN_IF_ERROR(CheckPages(db->sqlite(), path));
  if (db->version_ < kRunDbVersion) {
    RETURN_IF_ERROR(Migrate(db->sqlite(), db->version_));
    db->version_ = kRunDbVersion;
  }
  return db;
}

absl::StatusOr<std::unique_ptr<RunDb>> RunDb::OpenReader(
    const std::string& path) {
  ASSIGN_OR_RETURN(auto sqlite, Sqlite::Open(path, Sqlite::Mode::kReader));
  std::unique_ptr<RunDb> db(
      new RunDb(/*lock=*/nullptr, std::move(sqlite), SystemClock()));
  ASSIGN_OR_RETURN(db->version_, ReadVersion(db->sqlite(), path));
  if (db->version_ == 0) {
    return absl::InvalidArgumentError(absl::StrCat(path, " holds no run"));
  }
  return db;
}

absl::Status RunDb::StartRun(const RunInfo& info) {
  ASSIGN_OR_RETURN(auto transaction, sqlite_->Begin());
  ASSIGN_OR_RETURN(const int64_t runs,
                   transaction->QueryInt("SELECT count(*) FROM run", {}, 0));
  // A name used twice would add to the other run's groups.
  if (runs != 0) {
    return absl::AlreadyExistsError(
        "run.db already holds a run; resume it, or choose another name");
  }
  RETURN_IF_ERROR(transaction->Run(
      "INSERT INTO run(id, name, seed, created_us, tasks_sha256, numerics, "
      "device) VALUES (1, ?, ?, ?, ?, ?, ?)",
      {info.name, static_cast<int64_t>(info.seed), clock_->UnixMicros(),
       info.tasks_sha256, info.numerics, info.device}));
  RETURN_IF_ERROR(transaction->Run(
      "INSERT INTO attempt VALUES (1, 0, ?, ?, ?, ?)",
      {clock_->UnixMicros(), info.config, info.revision, info.machine}));
  return transaction->Commit();
}

absl::Status RunDb::RecordAttempt(const RunInfo& info) {
  ASSIGN_OR_RETURN(auto transaction, sqlite_->Begin());
  RETURN_IF_ERROR(transaction->Run(
      "UPDATE attempt SET config = ?, revision = ?, machine = ? "
      "WHERE attempt = (SELECT max(attempt) FROM attempt)",
      {info.config, info.revision, info.machine}));
  RETURN_IF_ERROR(transaction->Run(
      // Once known it stays: it is what later resumes are compared with.
      "UPDATE run SET tasks_sha256 = ? WHERE tasks_sha256 = ''",
      {info.tasks_sha256}));
  RETURN_IF_ERROR(transaction->Run(
      "UPDATE run SET numerics = ? WHERE numerics = ''", {info.numerics}));
  return transaction->Commit();
}

absl::StatusOr<RunInfo> RunDb::ReadRun() {
  ASSIGN_OR_RETURN(auto transaction, sqlite_->Begin());
  const std::string query =
      absl::StrCat("SELECT name, seed, config, revision, machine, ",
                   // A reader has the file as an older program left it.
                   version_ >= 3 ? "tasks_sha256" : "''",
                   version_ >= 4 ? ", numerics, device" : ", '', 'cpu'",
                   " FROM run, attempt ORDER BY attempt DESC LIMIT 1");
  ASSIGN_OR_RETURN(const auto rows, transaction->Query(query.c_str()));
  if (rows.empty()) return absl::NotFoundError("run.db holds no run yet");
  const SqlRow& row = rows[0];
  return RunInfo{row[0].AsString(), row[1].AsUint(),   row[2].AsString(),
                 row[3].AsString(), row[4].AsString(), row[5].AsString(),
                 row[6].AsString(), row[7].AsString()};
}

absl::StatusOr<int64_t> RunDb::CurrentAttempt() {
  ASSIGN_OR_RETURN(auto transaction, sqlite_->Begin());
  return temper::CurrentAttempt(transaction.get());
}

absl::StatusOr<bool> RunDb::InLineage(int64_t attempt, int64_t step) {
  // The base model's, which no resume undoes.
  if (step == 0) return true;
  ASSIGN_OR_RETURN(auto transaction, sqlite_->Begin());
  ASSIGN_OR_RETURN(
      const int64_t found,
      transaction->QueryInt(
          "SELECT count(*) FROM lineage_step WHERE attempt = ? AND step = ?",
          {attempt, step}, 0));
  return found == 1;
}

absl::Status RunDb::RecordMetrics(int64_t step,
                                  const std::vector<MetricValue>& metrics) {
  ASSIGN_OR_RETURN(auto transaction, sqlite_->Begin());
  ASSIGN_OR_RETURN(const int64_t attempt,
                   temper::CurrentAttempt(transaction.get()));
  // The lineage's may be of an earlier attempt: INSERT OR REPLACE alone would
  // leave it beside the new one, and readers would see two.
  for (const MetricValue& metric : metrics) {
    RETURN_IF_ERROR(transaction->Run(
        "DELETE FROM metric WHERE step = ?1 AND name = ?2 AND attempt IN "
        "(SELECT attempt FROM lineage_metric WHERE step = ?1 AND name = ?2)",
        {step, metric.name}));
  }
  RETURN_IF_ERROR(WriteMetrics(transaction.get(), attempt, step, metrics));
  return transaction->Commit();
}

absl::StatusOr<bool> RunDb::HasMetric(int64_t step, const std::string& name) {
  ASSIGN_OR_RETURN(auto transaction, sqlite_->Begin());
  ASSIGN_OR_RETURN(
      const int64_t found,
      transaction->QueryInt(
          "SELECT count(*) FROM lineage_metric WHERE step = ? AND name = ?",
          {step, name}, 0));
  return found > 0;
}

absl::Status RunDb::RecordEvent(const std::string& process, EventKind kind,
                                const std::string& detail) {
  ASSIGN_OR_RETURN(auto transaction, sqlite_->Begin());
  ASSIGN_OR_RETURN(const int64_t attempt,
                   temper::CurrentAttempt(transaction.get()));
  RETURN_IF_ERROR(transaction->Run(
      "INSERT INTO event(at_us, attempt, process, kind, detail) "
      "VALUES (?, ?, ?, ?, ?)",
      {clock_->UnixMicros(), attempt, process, NameOf(kind), detail}));
  return transaction->Commit();
}

absl::Status RunDb::RecordTaskFailure(const std::string& task_id,
                                      const std::string& environment,
                                      const std::string& reason) {
  ASSIGN_OR_RETURN(auto transaction, sqlite_->Begin());
  ASSIGN_OR_RETURN(const int64_t attempt,
                   temper::CurrentAttempt(transaction.get()));
  const int64_t now = clock_->UnixMicros();
  RETURN_IF_ERROR(transaction->Run(
      "INSERT OR IGNORE INTO task_failure(attempt, task_id, environment, "
      "reason, at_us) VALUES (?, ?, ?, ?, ?)",
      {attempt, task_id, environment, reason, now}));
  // Told already: an event each time would fill the table, for a task that
  // fails may come round every epoch.
  if (transaction->changes() == 0) return absl::OkStatus();
  RETURN_IF_ERROR(transaction->Run(
      "INSERT INTO event(at_us, attempt, process, kind, detail) "
      "VALUES (?, ?, 'learner', ?, ?)",
      {now, attempt, NameOf(EventKind::kTaskFailed),
       absl::StrCat("task ", task_id, " of ", environment, ": ", reason)}));
  return transaction->Commit();
}

absl::Status RunDb::RecordWaits(const std::string& process,
                                const std::vector<WaitRecord>& waits) {
  ASSIGN_OR_RETURN(auto transaction, sqlite_->Begin());
  // Replaced as a whole: a wait that has ended is one that is no longer said.
  RETURN_IF_ERROR(
      transaction->Run("DELETE FROM wait WHERE process = ?", {process}));
  for (const WaitRecord& wait : waits) {
    RETURN_IF_ERROR(
        transaction->Run("INSERT OR REPLACE INTO wait VALUES (?, ?, ?, ?, ?)",
                         {process, wait.name, wait.elapsed_ms, wait.deadline_ms,
                          clock_->UnixMicros()}));
  }
  return transaction->Commit();
}

absl::Status RunDb::RecordTasks(const std::vector<TaskInfo>& tasks) {
  ASSIGN_OR_RETURN(auto transaction, sqlite_->Begin());
  for (const TaskInfo& task : tasks) {
    RETURN_IF_ERROR(
        transaction->Run("INSERT OR REPLACE INTO task VALUES (?, ?, ?, ?)",
                         {task.id, task.environment, task.domain, task.split}));
  }
  return transaction->Commit();
}

absl::Status RunDb::RecordCheckpoint(int64_t step, const std::string& path) {
  ASSIGN_OR_RETURN(auto transaction, sqlite_->Begin());
  ASSIGN_OR_RETURN(const int64_t attempt,
                   temper::CurrentAttempt(transaction.get()));
  RETURN_IF_ERROR(
      transaction->Run("INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?, ?)",
                       {attempt, step, path, clock_->UnixMicros()}));
  return transaction->Commit();
}

absl::StatusOr<uint64_t> RunDb::NextWeightVersion() {
  ASSIGN_OR_RETURN(auto transaction, sqlite_->Begin());
  ASSIGN_OR_RETURN(
      const int64_t highest,
      // Of all attempts, not of the lineage's: a worker may still hold a
      // version that a resume undid.
      transaction->QueryInt("SELECT max(version) FROM weight_version", {}, 0));
  return static_cast<uint64_t>(highest) + 1;
}

absl::Status RunDb::RecordWeightVersion(const WeightVersionInfo& info) {
  ASSIGN_OR_RETURN(auto transaction, sqlite_->Begin());
  ASSIGN_OR_RETURN(
      const auto rows,
      transaction->Query("SELECT sha256 FROM weight_version WHERE version = ?",
                         {info.version}));
  if (!rows.empty()) {
    // A resumed learner publishes its checkpoint's version again. With other
    // bytes under the same number a worker that has the old ones would sample
    // from weights that the record does not name.
    if (rows[0][0].AsString() == info.sha256) return absl::OkStatus();
    return absl::AlreadyExistsError(
        absl::StrCat("weight version ", info.version,
                     " was published with other bytes; a number is never used "
                     "again: take NextWeightVersion"));
  }
  ASSIGN_OR_RETURN(const int64_t attempt,
                   temper::CurrentAttempt(transaction.get()));
  RETURN_IF_ERROR(transaction->Run(
      "INSERT INTO weight_version VALUES (?, ?, ?, ?, ?, ?)",
      {info.version, attempt, info.step, SqlValue::Blob(info.sha256),
       info.total_bytes, clock_->UnixMicros()}));
  return transaction->Commit();
}

absl::StatusOr<std::vector<WeightVersionInfo>> RunDb::LineageWeightVersions() {
  ASSIGN_OR_RETURN(auto transaction, sqlite_->Begin());
  ASSIGN_OR_RETURN(
      const auto rows,
      transaction->Query("SELECT version, attempt, step, sha256, total_bytes "
                         "FROM lineage_weight_version ORDER BY version"));
  std::vector<WeightVersionInfo> versions;
  for (const SqlRow& row : rows) {
    versions.push_back({row[0].AsUint(), row[1].AsInt(), row[2].AsInt(),
                        row[3].AsString(), row[4].AsUint()});
  }
  return versions;
}

}  // namespace temper
