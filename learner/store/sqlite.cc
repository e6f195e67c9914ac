#include "learner/store/sqlite.h"

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {

SqlValue::SqlValue(Kind kind, int64_t integer, double real, std::string bytes)
    : kind_(kind), integer_(integer), real_(real), bytes_(std::move(bytes)) {}
SqlValue::SqlValue() : SqlValue(Kind::kNull, 0, 0, {}) {}
SqlValue::SqlValue(double value) : SqlValue(Kind::kReal, 0, value, {}) {}
SqlValue::SqlValue(std::string text)
    : SqlValue(Kind::kText, 0, 0, std::move(text)) {}
SqlValue::SqlValue(const char* text) : SqlValue(std::string(text)) {}
SqlValue SqlValue::Blob(std::string bytes) {
  return SqlValue(Kind::kBlob, 0, 0, std::move(bytes));
}
SqlValue::SqlValue(const SqlValue&) = default;
SqlValue::SqlValue(SqlValue&&) noexcept = default;
SqlValue::~SqlValue() = default;

double SqlValue::AsDouble() const {
  return kind_ == Kind::kInteger ? static_cast<double>(integer_) : real_;
}

absl::StatusOr<std::unique_ptr<Sqlite>> Sqlite::Open(const std::string& path,
                                                     Mode mode) {
  const int flags =
      SQLITE_OPEN_FULLMUTEX |
      (mode == Mode::kWriter ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
                             : SQLITE_OPEN_READONLY);
  sqlite3* handle = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &handle, flags, nullptr);
  // Even a file that cannot be opened gives a handle, which knows why; only
  // without memory there is none.
  if (handle == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for ", path));
  }
  std::unique_ptr<Sqlite> db(new Sqlite(handle, path, mode));
  if (code != SQLITE_OK) return db->Error(code, "open");
  sqlite3_extended_result_codes(handle, 1);
  sqlite3_busy_timeout(handle, kBusyTimeoutMs);
  if (mode == Mode::kWriter) {
    // WAL: readers go on while the learner writes, and see the last commit.
    // FULL: what was acked survives a loss of power. Foreign keys are off
    // unless asked for, on each connection anew.
    RETURN_IF_ERROR(db->Execute("PRAGMA journal_mode=WAL"));
    RETURN_IF_ERROR(db->Execute("PRAGMA synchronous=FULL"));
    RETURN_IF_ERROR(db->Execute("PRAGMA foreign_keys=ON"));
  }
  return db;
}

Sqlite::~Sqlite() {
  for (auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close_v2(handle_);
}

absl::Status Sqlite::Error(int code, const char* what) const {
  const std::string message =
      absl::StrCat(path_, ": ", sqlite3_errmsg(handle_), " (", what, ")");
  // What the system said, where that is the cause, is not the path's fault.
  const int error = sqlite3_system_errno(handle_);
  switch (code & 0xff) {
    case SQLITE_FULL:
      return absl::ResourceExhaustedError(
          absl::StrCat(message, "; free space on its file system"));
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::DataLossError(message);
    case SQLITE_IOERR:
      return error == 0 ? absl::InternalError(message)
                        : FileError(what, path_, error);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::UnavailableError(message);
    case SQLITE_CONSTRAINT:
      return absl::FailedPreconditionError(message);
    case SQLITE_CANTOPEN:
      if (error == EMFILE || error == ENFILE || error == EIO) {
        return FileError("open", path_, error);
      }
      return absl::NotFoundError(message);
    case SQLITE_PERM:
    case SQLITE_READONLY:
      return absl::PermissionDeniedError(message);
    case SQLITE_NOMEM:
    case SQLITE_TOOBIG:
      return absl::ResourceExhaustedError(message);
    default:
      return absl::InternalError(message);
  }
}

absl::Status Sqlite::ExecuteLocked(const char* sql) {
  const int code = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Error(code, sql);
}

absl::Status Sqlite::Execute(const std::string& sql) {
  MutexLock lock(&mutex_);
  return ExecuteLocked(sql.c_str());
}

// The lock passes to the Transaction, whose destructor gives it back.
absl::StatusOr<std::unique_ptr<Transaction>> Sqlite::Begin()
    ABSL_NO_THREAD_SAFETY_ANALYSIS {
  mutex_.Lock();
  std::unique_ptr<Transaction> transaction(new Transaction(this));
  RETURN_IF_ERROR(
      // IMMEDIATE takes the write lock now, where waiting for it is possible;
      // taken at the first write it fails at once if a reader's snapshot is
      // older.
      ExecuteLocked(mode_ == Mode::kWriter ? "BEGIN IMMEDIATE" : "BEGIN"));
  transaction->open_ = true;
  return transaction;
}

Transaction::~Transaction() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  // SQLite itself rolls back on some errors (a full disk), then ROLLBACK has
  // nothing to do and says so.
  if (open_ && sqlite3_get_autocommit(db_->handle_) == 0) {
    const absl::Status status = db_->ExecuteLocked("ROLLBACK");
    if (!status.ok()) LOG(ERROR) << status.ToString();
  }
  db_->mutex_.Unlock();
}

absl::Status Transaction::Commit() {
  CHECK(open_) << "committed twice";
  RETURN_IF_ERROR(db_->ExecuteLocked("COMMIT"));
  open_ = false;
  return absl::OkStatus();
}

absl::StatusOr<sqlite3_stmt*> Transaction::Bind(const char* sql,
                                                const SqlRow& parameters) {
  CHECK(open_) << "used after Commit";
  sqlite3_stmt*& statement = db_->statements_[sql];
  if (statement == nullptr) {
    const int code =
        sqlite3_prepare_v2(db_->handle_, sql, -1, &statement, nullptr);
    if (code != SQLITE_OK) return db_->Error(code, sql);
  }
  // A statement left in the middle by an error holds its locks until then.
  sqlite3_reset(statement);
  CHECK_EQ(sqlite3_bind_parameter_count(statement),
           static_cast<int>(parameters.size()))
      << sql;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const SqlValue& parameter = parameters[i];
    const int index = static_cast<int>(i) + 1;
    const std::string& bytes = parameter.bytes_;
    int code = SQLITE_OK;
    switch (parameter.kind_) {
      case SqlValue::Kind::kNull:
        code = sqlite3_bind_null(statement, index);
        break;
      case SqlValue::Kind::kInteger:
        code = sqlite3_bind_int64(statement, index, parameter.integer_);
        break;
      case SqlValue::Kind::kReal:
        code = sqlite3_bind_double(statement, index, parameter.real_);
        break;
      case SqlValue::Kind::kText:
        // TRANSIENT: the parameters may be temporaries, and the statement
        // outlives the call.
        code = sqlite3_bind_text64(statement, index, bytes.data(), bytes.size(),
                                   SQLITE_TRANSIENT, SQLITE_UTF8);
        break;
      case SqlValue::Kind::kBlob:
        code = sqlite3_bind_blob64(statement, index, bytes.data(), bytes.size(),
                                   SQLITE_TRANSIENT);
        break;
    }
    if (code != SQLITE_OK) return db_->Error(code, sql);
  }
  return statement;
}

absl::Status Transaction::Run(const char* sql, const SqlRow& parameters) {
  return Query(sql, parameters).status();
}

absl::StatusOr<std::vector<SqlRow>> Transaction::Query(
    const char* sql, const SqlRow& parameters) {
  ASSIGN_OR_RETURN(sqlite3_stmt* const statement, Bind(sql, parameters));
  std::vector<SqlRow> rows;
  int code;
  while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
    if (rows.size() == kMaxRows) {
      sqlite3_reset(statement);
      return absl::ResourceExhaustedError(
          absl::StrCat("more than ", kMaxRows, " rows: ", sql));
    }
    SqlRow& row = rows.emplace_back();
    for (int i = 0; i < sqlite3_column_count(statement); ++i) {
      const int bytes = sqlite3_column_bytes(statement, i);
      switch (sqlite3_column_type(statement, i)) {
        case SQLITE_INTEGER:
          row.emplace_back(sqlite3_column_int64(statement, i));
          break;
        case SQLITE_FLOAT:
          row.emplace_back(sqlite3_column_double(statement, i));
          break;
        case SQLITE_TEXT:
          row.emplace_back(std::string(
              reinterpret_cast<const char*>(sqlite3_column_text(statement, i)),
              static_cast<size_t>(bytes)));
          break;
        case SQLITE_BLOB: {
          const void* blob = sqlite3_column_blob(statement, i);
          row.push_back(SqlValue::Blob(
              blob == nullptr ? std::string()
                              : std::string(static_cast<const char*>(blob),
                                            static_cast<size_t>(bytes))));
          break;
        }
        default:
          row.emplace_back();
      }
    }
  }
  const absl::Status status =
      code == SQLITE_DONE ? absl::OkStatus() : db_->Error(code, sql);
  sqlite3_reset(statement);
  RETURN_IF_ERROR(status);
  return rows;
}

absl::StatusOr<int64_t> Transaction::QueryInt(const char* sql,
                                              const SqlRow& parameters,
                                              int64_t fallback) {
  ASSIGN_OR_RETURN(const std::vector<SqlRow> rows, Query(sql, parameters));
  // max() over no rows is one row that holds NULL.
  if (rows.empty() || rows[0][0].is_null()) return fallback;
  return rows[0][0].AsInt();
}

int64_t Transaction::last_insert_id() const {
  return sqlite3_last_insert_rowid(db_->handle_);
}

int64_t Transaction::changes() const { return sqlite3_changes(db_->handle_); }

}  // namespace temper
