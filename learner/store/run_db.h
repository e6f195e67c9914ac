// run.db: the one file that tells a run (promise P6). This class opens it and
// writes what is not the ledger's: the run, attempts, metrics, events, waits,
// tasks, weight versions, checkpoints. Ledger (learner/store/ledger.h) writes
// groups, episodes and steps into the same file.
//
// One writer at a time, held by a lock on <path>.writer that a killed process
// gives back; readers at any time, also after a crash. A file of another
// program, of a schema version that this one does not know, or with damaged
// pages is refused.
//
// Thread-safe. Every write is one transaction, durable when it returns OK; on
// failure nothing of it is there.

#ifndef LEARNER_STORE_RUN_DB_H_
#define LEARNER_STORE_RUN_DB_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/clock.h"
#include "kernels/base/file_lock.h"
#include "learner/store/event_kind.h"
#include "learner/store/sqlite.h"

namespace temper {

// The run, and what an attempt of it runs with.
struct RunInfo {
  std::string name;
  uint64_t seed = 0;
  std::string config;    // resolved, proto3 text
  std::string revision;  // of the program
  std::string machine;
  // SHA-256 of the run's tasks.jsonl, hexadecimal; empty: not known, as of a
  // run that was begun before it was kept.
  std::string tasks_sha256 = {};
  // What is computed in and on, as the configuration names them; numerics
  // empty: not known, likewise.
  std::string numerics = {};
  std::string device = "cpu";
};

struct MetricValue {
  std::string name;
  std::optional<double> value;  // none: nothing was measured (NULL)
};

struct WaitRecord {
  std::string name;
  int64_t elapsed_ms = 0;
  int64_t deadline_ms = 0;
};

struct TaskInfo {
  std::string id, environment, domain, split;
};

struct WeightVersionInfo {
  uint64_t version = 0;
  int64_t attempt = 0;
  int64_t step = 0;  // the run's steps behind it
  std::string sha256;
  uint64_t total_bytes = 0;
};

// The right to write a run.db: of one holder at a time, given back by the
// destructor and by a death.
class RunDbLock {
 public:
  // Of the run.db at `path`, which need not be there yet. FailedPrecondition
  // while another has it.
  static absl::StatusOr<std::unique_ptr<RunDbLock>> Take(
      const std::string& path);

 private:
  explicit RunDbLock(std::unique_ptr<FileLock> lock) : lock_(std::move(lock)) {}
  const std::unique_ptr<FileLock> lock_;
};

class RunDb {
 public:
  // The writer's. A file of an older schema version is brought to
  // kRunDbVersion in one transaction. `clock` outlives it. FailedPrecondition
  // while another process writes, and for a version that is too new or too old;
  // DataLoss for damage; InvalidArgument for a foreign file. What is refused is
  // unchanged.
  static absl::StatusOr<std::unique_ptr<RunDb>> OpenWriter(
      const std::string& path, Clock* clock);
  // For status and inspect, of every version from kRunDbVersionMin on; writing
  // through it fails.
  static absl::StatusOr<std::unique_ptr<RunDb>> OpenReader(
      const std::string& path);
  RunDb(const RunDb&) = delete;
  RunDb& operator=(const RunDb&) = delete;

  // Writes the run's row and attempt 1, from step 0. AlreadyExists if the file
  // has a run: then Ledger::Resume goes on with it.
  absl::Status StartRun(const RunInfo& info);
  // What the current attempt runs with: configuration, revision, machine, and
  // the digest of the tasks and the numerics where the run has none yet. Until
  // it is said, an attempt is taken to run with what the one before did.
  absl::Status RecordAttempt(const RunInfo& info);
  // The run, as its current attempt runs it. NotFound before StartRun.
  absl::StatusOr<RunInfo> ReadRun();

  // The attempt that counts now; 0 before StartRun.
  absl::StatusOr<int64_t> CurrentAttempt();
  // Whether (attempt, step) survives; step 0 always does.
  absl::StatusOr<bool> InLineage(int64_t attempt, int64_t step);

  // Adds metrics at (current attempt, step); for evaluations. A value of the
  // same name that the surviving lineage has at this step is replaced,
  // whichever attempt's it is. A step's own metrics go with Ledger::CommitStep.
  absl::Status RecordMetrics(int64_t step,
                             const std::vector<MetricValue>& metrics);
  // Whether the surviving lineage has this metric at `step`.
  absl::StatusOr<bool> HasMetric(int64_t step, const std::string& name);
  absl::Status RecordEvent(const std::string& process, EventKind kind,
                           const std::string& detail);
  // That this attempt got no reward for a task: a row of task_failure, where it
  // has none yet, and for who reads events one of kind task_failed.
  absl::Status RecordTaskFailure(const std::string& task_id,
                                 const std::string& environment,
                                 const std::string& reason);
  // Replaces what `process` waits for; an empty list: it waits for nothing.
  absl::Status RecordWaits(const std::string& process,
                           const std::vector<WaitRecord>& waits);
  absl::Status RecordTasks(const std::vector<TaskInfo>& tasks);
  absl::Status RecordCheckpoint(int64_t step, const std::string& path);

  // One above every version ever recorded, dead attempts' included; the first
  // is 1.
  absl::StatusOr<uint64_t> NextWeightVersion();
  // Records a version as the current attempt's. The same version with the same
  // SHA-256 again is fine (a resumed learner announces its checkpoint's);
  // AlreadyExists with another.
  absl::Status RecordWeightVersion(const WeightVersionInfo& info);
  // The surviving versions, ascending.
  absl::StatusOr<std::vector<WeightVersionInfo>> LineageWeightVersions();

  // The schema's version as opened: what a reader may ask the file for.
  int version() const { return version_; }

  Sqlite* sqlite() { return sqlite_.get(); }
  Clock* clock() { return clock_; }

 private:
  RunDb(std::unique_ptr<RunDbLock> lock, std::unique_ptr<Sqlite> sqlite,
        Clock* clock)
      : lock_(std::move(lock)), sqlite_(std::move(sqlite)), clock_(clock) {}

  const std::unique_ptr<RunDbLock> lock_;  // null: a reader
  std::unique_ptr<Sqlite> sqlite_;         // closed before the lock goes
  Clock* const clock_;
  int version_ = 0;
};

// The highest attempt, within a caller's transaction; 0 if none.
absl::StatusOr<int64_t> CurrentAttempt(Transaction* transaction);

// Writes metric rows within a caller's transaction.
absl::Status WriteMetrics(Transaction* transaction, int64_t attempt,
                          int64_t step,
                          const std::vector<MetricValue>& metrics);

}  // namespace temper

#endif  // LEARNER_STORE_RUN_DB_H_
