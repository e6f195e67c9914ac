// Which samples are wanted, and who has them: TRAIN groups in the seed's task
// order (task_order.h), EVAL groups as asked for. Group ids count up and are
// never used again; a group dropped is replaced under a new one.
//
// A group is open from its issue until Remove. A sample of an open group is
// available, out under a lease, or settled.
//
// Thread-safe. On an error nothing changed.

#ifndef LEARNER_INTAKE_TASK_QUEUE_H_
#define LEARNER_INTAKE_TASK_QUEUE_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/mutex.h"
#include "learner/intake/task_order.h"
#include "learner/store/ledger.h"
#include "proto/task.pb.h"

namespace temper {

struct TaskQueueOptions {
  uint64_t seed = 1;
  uint32_t group_size = 8;  // samples of a TRAIN group
  // Shares of the domains in the TRAIN groups. Empty: each task comes as often
  // as any other.
  std::map<std::string, double> domain_weights = {};
};

struct QueueLease {
  uint64_t lease = 0;
  uint64_t group = 0;
  Purpose purpose = PURPOSE_TRAIN;
  Task task;
  std::vector<uint32_t> samples;  // ascending
};

class TaskQueue {
 public:
  // Splits "train" and "heldout" of `tasks`; ids are unique. Weights, where
  // there are any, are those of all domains of the train split. TRAIN groups
  // that the ledger has not settled come first in IssueTrain. `ledger` outlives
  // the queue.
  static absl::StatusOr<std::unique_ptr<TaskQueue>> Create(
      std::vector<Task> tasks, const TaskQueueOptions& options, Ledger* ledger);

  // Opens `count` TRAIN groups: unsettled ones of before a resume first, in
  // the order of their ids (only what they still lack is available), then new
  // ones. Returns their ids, ascending.
  absl::StatusOr<std::vector<uint64_t>> IssueTrain(int count);
  // Opens one EVAL group of `samples` for each task id.
  absl::StatusOr<std::vector<uint64_t>> IssueEval(
      const std::vector<std::string>& task_ids, uint32_t samples);

  // Leases what is available of the lowest open group that has any, all of
  // it or nothing: none if that is more than `samples_max`, or nothing is.
  absl::StatusOr<std::optional<QueueLease>> Acquire(uint32_t samples_max);
  // The worker is gone: what it still held is available again. Unknown leases
  // are ignored.
  void Release(uint64_t lease);
  // The lease this sample is out under, if it is.
  std::optional<uint64_t> LeaseOf(uint64_t group, uint32_t sample) const;
  // The sample is received (under whichever lease).
  void Settle(uint64_t group, uint32_t sample);
  // The sample failed and is available again.
  void Retry(uint64_t group, uint32_t sample);
  // The group is taken or dropped; leases of it lapse.
  void Remove(uint64_t group);

  // The task of an open group can never run: what replaces the group will be of
  // the next task in order.
  void GiveUpTask(uint64_t group);

  // A record to issue in place of an open TRAIN group about to be dropped: the
  // same task, or the next in order once kReplacementsMax in a row were
  // dropped. None for EVAL and unknown groups. Open with OpenIssued; if that
  // never happens its id stays unused.
  std::optional<GroupRecord> MakeReplacement(uint64_t group);
  // Opens a replacement that the ledger now has as issued.
  void OpenIssued(const GroupRecord& group);

  // Those that an evaluation plays (HeldOutTasks of proto/wire/task_file.h).
  std::vector<std::string> HeldOutTaskIds(int64_t of_each_environment) const;
  const Task* FindTask(const std::string& id) const;
  // The task of an open group; null for any other.
  const Task* TaskOf(uint64_t group) const;

  static constexpr int kReplacementsMax = 2;

 private:
  struct OpenGroup {
    GroupRecord record;
    std::set<uint32_t> available;
    std::map<uint32_t, uint64_t> leased;  // sample -> lease
    int replacements = 0;  // groups of the same task dropped before it
  };

  TaskQueue(std::vector<Task> tasks, const TaskQueueOptions& options,
            Ledger* ledger);
  // Sets order_, if there is a train split.
  absl::Status OrderTasks() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  const std::string& TaskIdAt(int64_t position)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  void Open(const GroupRecord& record, const std::vector<uint32_t>& wanted,
            int replacements) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::vector<Task> tasks_;
  const TaskQueueOptions options_;
  Ledger* const ledger_;
  std::unordered_map<std::string, size_t> by_id_;  // constant after Create

  mutable Mutex mutex_;
  uint64_t next_train_group_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t next_eval_group_ ABSL_GUARDED_BY(mutex_) = kEvalGroupBase;
  uint64_t next_lease_ ABSL_GUARDED_BY(mutex_) = 1;
  int64_t next_position_ ABSL_GUARDED_BY(mutex_) = 0;
  // Of indices into tasks_; none without a train split.
  std::optional<TaskOrder> order_ ABSL_GUARDED_BY(mutex_);
  // Unsettled groups of an earlier attempt, ascending.
  std::deque<PendingGroup> backlog_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, OpenGroup> open_ ABSL_GUARDED_BY(mutex_);
  // Replacements made and not yet open: how many came before each.
  std::map<uint64_t, int> replacement_counts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace temper

#endif  // LEARNER_INTAKE_TASK_QUEUE_H_
