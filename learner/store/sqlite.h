// SQLite behind Status: one connection, statements prepared once, and all work
// inside a Transaction, which holds the connection's lock for its whole life.
//
// Thread-safe: threads take turns by transaction. A thread that begins a
// second transaction while it holds one deadlocks; no function that holds one
// calls out.
//
// Errors: ResourceExhausted for a full disk or file limit; DataLoss for a
// corrupt file or a failing disk; Unavailable where another process kept the
// file locked past kBusyTimeoutMs; FailedPrecondition where a constraint of
// the schema refuses; Internal else. After an error inside a transaction the
// only sensible thing is to let it roll back.

#ifndef LEARNER_STORE_SQLITE_H_
#define LEARNER_STORE_SQLITE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/mutex.h"
#include "sqlite3.h"

namespace temper {

// A value of a column or parameter: NULL, integer, real, text or blob.
class SqlValue {
 public:
  SqlValue();
  template <typename Integer>
  requires std::is_integral_v<Integer> SqlValue(
      Integer value)  // NOLINT: reads as the value
      : SqlValue(Kind::kInteger, static_cast<int64_t>(value), 0, {}) {}
  SqlValue(double value);      // NOLINT
  SqlValue(std::string text);  // NOLINT
  SqlValue(const char* text);  // NOLINT
  template <typename T>
  SqlValue(const std::optional<T>& value)  // NOLINT: NULL where empty
      : SqlValue(value.has_value() ? SqlValue(*value) : SqlValue()) {}
  static SqlValue Blob(std::string bytes);
  // Not inline: a statement has up to two dozen of these.
  SqlValue(const SqlValue&);
  SqlValue(SqlValue&&) noexcept;
  ~SqlValue();

  bool is_null() const { return kind_ == Kind::kNull; }
  // 0, 0.0 and "" where the value is of another kind.
  int64_t AsInt() const { return integer_; }
  uint64_t AsUint() const { return static_cast<uint64_t>(integer_); }
  double AsDouble() const;
  const std::string& AsString() const { return bytes_; }  // text or blob

 private:
  friend class Transaction;
  enum class Kind : uint8_t { kNull, kInteger, kReal, kText, kBlob };
  SqlValue(Kind kind, int64_t integer, double real, std::string bytes);

  Kind kind_;
  int64_t integer_;
  double real_;
  std::string bytes_;
};

using SqlRow = std::vector<SqlValue>;

class Sqlite;

// Rolls back unless committed. Must not outlive its Sqlite.
class Transaction {
 public:
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  // Runs one statement with its ? parameters; rows it yields are dropped.
  absl::Status Run(const char* sql, const SqlRow& parameters = {});
  // All rows of one query; ResourceExhausted above kMaxRows.
  absl::StatusOr<std::vector<SqlRow>> Query(const char* sql,
                                            const SqlRow& parameters = {});
  // The first column of the only row; `fallback` where there is none or NULL.
  absl::StatusOr<int64_t> QueryInt(const char* sql, const SqlRow& parameters,
                                   int64_t fallback);
  int64_t last_insert_id() const;
  // Rows the last Run changed.
  int64_t changes() const;
  // Durable when it returns OK.
  absl::Status Commit();

  static constexpr size_t kMaxRows = 1 << 22;

 private:
  friend class Sqlite;
  explicit Transaction(Sqlite* db) : db_(db) {}
  absl::StatusOr<sqlite3_stmt*> Bind(const char* sql, const SqlRow& parameters);

  Sqlite* const db_;
  bool open_ = false;
};

class Sqlite {
 public:
  enum class Mode { kWriter, kReader };

  // kWriter creates the file if missing, in WAL mode with synchronous=FULL.
  // kReader needs a file and never changes it.
  static absl::StatusOr<std::unique_ptr<Sqlite>> Open(const std::string& path,
                                                      Mode mode);
  ~Sqlite();
  Sqlite(const Sqlite&) = delete;
  Sqlite& operator=(const Sqlite&) = delete;

  // Waits for the thread that has one. A writer's is IMMEDIATE.
  absl::StatusOr<std::unique_ptr<Transaction>> Begin();

  // Statements without parameters, outside any transaction: schema, pragmas.
  absl::Status Execute(const std::string& sql);

  static constexpr int kBusyTimeoutMs = 10'000;

 private:
  friend class Transaction;
  Sqlite(sqlite3* handle, std::string path, Mode mode)
      : handle_(handle), path_(std::move(path)), mode_(mode) {}
  absl::Status Error(int code, const char* what) const;
  absl::Status ExecuteLocked(const char* sql);

  sqlite3* const handle_;
  const std::string path_;
  const Mode mode_;
  Mutex mutex_;
  // Prepared once; held by the transaction's lock.
  std::unordered_map<std::string, sqlite3_stmt*> statements_;
};

}  // namespace temper

#endif  // LEARNER_STORE_SQLITE_H_
