// What outlives a learner in its run directory: run.db with the ledger, and the
// checkpoints. Opening says from where the learner goes on.
//
//   run.db, segments/       learner/store/run_db.h, learner/store/ledger.h
//   logs/events.log         followed into run.db, learner/store/event_log.h
//   checkpoints/step_N/     learner/store/checkpoint.h
//
// One process at a time (the holder of run.db's writer lock). Event is
// thread-safe, as db() and ledger() are; the rest is the loop's.

#ifndef LEARNER_STORE_RUN_RECORDS_H_
#define LEARNER_STORE_RUN_RECORDS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/clock.h"
#include "learner/store/checkpoint.h"
#include "learner/store/event_kind.h"
#include "learner/store/event_log.h"
#include "learner/store/ledger.h"
#include "learner/store/run_db.h"
#include "learner/train/learner_state.h"

namespace temper {

// SHA-256 of the tasks.jsonl in `run_dir`, hexadecimal. Errors as ReadFile's.
absl::StatusOr<std::string> TasksSha256(const std::string& run_dir);

// InvalidArgument, naming the file, if the run `was` begun with other tasks
// than those of SHA-256 `now`. Its groups would be of other tasks than their
// ids say. OK where `was` does not know its own.
absl::Status CheckSameTasks(const RunInfo& was, const std::string& now,
                            const std::string& run_dir);

// InvalidArgument if the run `was` computed in other numerics, or on another
// kind of device, than `now` would. OK where `was` does not know its numerics.
absl::Status CheckSameArithmetic(const RunInfo& was, const RunInfo& now,
                                 const std::string& run_dir);

class RunRecords {
 public:
  // Begins the run. AlreadyExists if the directory has one. `clock` outlives
  // the records.
  static absl::StatusOr<std::unique_ptr<RunRecords>> Start(
      const std::string& run_dir, const RunInfo& info, Clock* clock);
  // Goes on from the newest checkpoint that verifies and is of the surviving
  // lineage, under a new attempt of `info`: rolls ledger and steps back to it,
  // records what was skipped. A run that died before it recorded any checkpoint
  // or step goes on from step 0 without one; one that died before it began,
  // begins. NotFound if it had checkpoints and none can be loaded;
  // InvalidArgument, nothing changed, by CheckSameTasks and
  // CheckSameArithmetic.
  static absl::StatusOr<std::unique_ptr<RunRecords>> Resume(
      const std::string& run_dir, const RunInfo& info, Clock* clock);

  // Where the learner goes on; all zero but the attempt where there is no
  // checkpoint.
  const LearnerCounters& counters() const { return counters_; }
  // The directory to load from; none: from the configured model.
  const std::optional<std::string>& checkpoint() const { return checkpoint_; }

  RunDb* db() { return db_.get(); }
  Ledger* ledger() { return ledger_.get(); }

  // The process that the learner's own events and waits are of.
  static constexpr char kLearner[] = "learner";

  // Logs and records what happened to `process`; a failure to record it is
  // logged, no error.
  void Event(const std::string& process, EventKind kind,
             const std::string& detail);

  // The same of a task that got no reward (RunDb::RecordTaskFailure).
  void TaskFailed(const std::string& task_id, const std::string& environment,
                  const std::string& reason);

  // Saves a checkpoint of `step` and records it; nothing to do if the newest is
  // of that step. On failure the checkpoints are as they were.
  absl::Status SaveCheckpoint(int64_t step,
                              const CheckpointStore::Writer& write);

 private:
  RunRecords() = default;
  static absl::StatusOr<std::unique_ptr<RunRecords>> Open(
      const std::string& run_dir, Clock* clock);
  absl::Status OpenLedger();
  absl::Status GoOn();
  absl::StatusOr<bool> IsUntouched();
  void FollowEvents();

  std::string run_dir_;
  std::unique_ptr<RunDb> db_;
  std::unique_ptr<EventFollower> events_;
  std::unique_ptr<Ledger> ledger_;
  std::unique_ptr<CheckpointStore> checkpoints_;
  LearnerCounters counters_;
  std::optional<std::string> checkpoint_;
  int64_t saved_step_ = -1;
};

}  // namespace temper

#endif  // LEARNER_STORE_RUN_RECORDS_H_
