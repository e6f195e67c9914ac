// Where trajectories arrive and batches leave: Receive takes one through the
// door into the ledger; whole groups wait here and are handed out by
// (group, sample), never by arrival (promise P8).
//
// A group whose samples got no reward too often, or of which one was refused
// at the door, or that is older than max_staleness, is dropped whole, counted,
// and issued again under a new id. A trajectory's age is the number of steps
// between the version of its oldest sampled token and the learner's.
//
// An environment of which kFailedGroupsMax groups in a row were dropped for
// failures or refusals, none coming whole between, is broken: from then on Take
// and TakeEval return the error that ends the run. So they do once the ledger
// cannot record (a full disk): workers would send the same again for ever.
//
// Bounded by capacity_samples; thread-safe.

#ifndef LEARNER_INTAKE_TRAJECTORY_BUFFER_H_
#define LEARNER_INTAKE_TRAJECTORY_BUFFER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/mutex.h"
#include "learner/intake/episode.h"
#include "learner/intake/task_queue.h"
#include "learner/intake/trajectory_door.h"
#include "learner/store/ledger.h"
#include "learner/store/run_db.h"

namespace temper {

struct TrajectoryBufferOptions {
  int64_t max_staleness = 0;
  int64_t capacity_samples = 1 << 16;  // of groups that may be open at a time
  // Told once of each task of which a group was dropped for failures or a
  // refusal, with the first reason; may be empty. Called with the buffer
  // locked: it must not call back.
  std::function<void(const Task& task, const std::string& reason)> task_failed;
};

// What to tell the worker.
struct Receipt {
  enum class Result { kCommitted, kDuplicate, kRejected };
  Result result = Result::kCommitted;
  std::string reason;  // of kRejected
};

struct TrainBatch {
  std::vector<uint64_t> groups;   // ascending
  std::vector<Episode> episodes;  // by (group, sample)
  std::vector<int64_t> ages;      // [episodes], in steps
};

struct EvalBatch {
  std::vector<Episode> episodes;  // by (group, sample)
  int64_t groups_dropped = 0;     // got no reward in all retries
};

struct BufferCounts {
  int64_t received = 0;
  int64_t failed = 0;  // trajectories without a reward, those tried again too
  int64_t dropped_infrastructure = 0;  // groups
  int64_t dropped_rejected = 0;        // groups
  int64_t dropped_stale = 0;           // groups
};

class TrajectoryBuffer {
 public:
  // Fills itself with what the ledger holds as received. The pointers outlive
  // the buffer.
  static absl::StatusOr<std::unique_ptr<TrajectoryBuffer>> Create(
      TrajectoryDoor door, RunDb* db, Ledger* ledger, TaskQueue* queue,
      const TrajectoryBufferOptions& options);

  // Takes in what came for the sample of `key`. Ack by the receipt. An error is
  // no answer to the trajectory: nothing was recorded, the worker keeps it and
  // sends it again (ResourceExhausted: the buffer is full). Any other ends
  // Take.
  absl::StatusOr<Receipt> Receive(const TrajectoryKey& key,
                                  const std::string& bytes);

  // Weights `version`, made by the `step`-th update, are the learner's now.
  void NoteVersion(uint64_t version, int64_t step);

  // Drops what is stale, then sets the `count` lowest whole groups aside for
  // `step` in the ledger and hands them out; none while there are fewer.
  // FailedPrecondition names an environment that is broken; an error of the
  // ledger is its own.
  absl::StatusOr<std::optional<TrainBatch>> Take(int64_t step, int count);
  // All episodes of these EVAL groups; none until each is whole or dropped.
  // Errors as Take.
  absl::StatusOr<std::optional<EvalBatch>> TakeEval(
      const std::vector<uint64_t>& groups);

  // Waits until Take or TakeEval may have more to give: DeadlineExceeded after
  // `timeout_us`. `seen` is activity() from before the attempt that failed, so
  // nothing that came in between is missed.
  absl::Status WaitForChange(int64_t seen, int64_t timeout_us);
  int64_t activity() const;

  BufferCounts counts() const;

  static constexpr int kFailedGroupsMax = 32;

 private:
  struct Group {
    size_t size = 0;
    std::map<uint32_t, Episode> episodes;
  };

  TrajectoryBuffer(TrajectoryDoor door, Ledger* ledger, TaskQueue* queue,
                   const TrajectoryBufferOptions& options)
      : door_(std::move(door)),
        ledger_(ledger),
        queue_(queue),
        options_(options) {}
  absl::Status Refill() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Receipt> Record(const Trajectory& trajectory)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Admitted, and of its group's task.
  absl::StatusOr<Receipt> Commit(const Trajectory& trajectory, Episode episode)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Refused for good: the group goes, unless nothing of `key` is wanted.
  absl::StatusOr<Receipt> Reject(const TrajectoryKey& key,
                                 const std::string& reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Sound, but of weights that do not count: the sample is wanted again.
  absl::StatusOr<Receipt> RefuseVersion(const SampleKey& key,
                                        const std::string& reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // A sample got no reward in all its retries.
  absl::Status DropExhausted(const SampleKey& key, const std::string& reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Drops a group that failed, and tells of it.
  absl::Status DropFailed(uint64_t group, const std::string& reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Drops the group in ledger, queue and here; its replacement is open.
  absl::Status Drop(uint64_t group, const std::string& reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Why this is no trajectory of its group: of another purpose or, while the
  // group is open, another task (the domain picks beta, the environment whose
  // failure it is). Empty where it is one.
  std::string TaskMismatch(const Trajectory& trajectory) const;
  // Tells of a failed group's task, which is still open, and counts the group
  // against its environment.
  void NoteFailure(uint64_t group, const std::string& reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Passes a receipt on; an error of the ledger is kept for Take.
  absl::StatusOr<Receipt> Recorded(absl::StatusOr<Receipt> receipt)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status DropStale() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget(uint64_t group, const std::optional<GroupRecord>& replacement)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Keep(Episode episode) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Episode> Admit(const Trajectory& trajectory) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t AgeOf(const Episode& episode) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Changed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const TrajectoryDoor door_;
  Ledger* const ledger_;    // self-synchronised
  TaskQueue* const queue_;  // self-synchronised
  const TrajectoryBufferOptions options_;

  mutable Mutex mutex_;
  CondVar changed_;
  int64_t activity_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t samples_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, int64_t> version_steps_ ABSL_GUARDED_BY(mutex_);
  int64_t current_step_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, Group> groups_ ABSL_GUARDED_BY(mutex_);
  std::set<uint64_t> dropped_eval_ ABSL_GUARDED_BY(mutex_);
  BufferCounts counts_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> failed_tasks_ ABSL_GUARDED_BY(mutex_);
  // By environment: groups that failed since one came whole.
  std::map<std::string, int> failed_groups_ ABSL_GUARDED_BY(mutex_);
  absl::Status broken_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace temper

#endif  // LEARNER_INTAKE_TRAJECTORY_BUFFER_H_
