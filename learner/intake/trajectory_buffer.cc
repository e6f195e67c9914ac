#include "learner/intake/trajectory_buffer.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {

absl::StatusOr<std::unique_ptr<TrajectoryBuffer>> TrajectoryBuffer::Create(
    TrajectoryDoor door, RunDb* db, Ledger* ledger, TaskQueue* queue,
    const TrajectoryBufferOptions& options) {
  std::unique_ptr<TrajectoryBuffer> buffer(
      new TrajectoryBuffer(std::move(door), ledger, queue, options));
  ASSIGN_OR_RETURN(const auto versions, db->LineageWeightVersions());
  MutexLock lock(&buffer->mutex_);
  for (const WeightVersionInfo& version : versions) {
    buffer->version_steps_[version.version] = version.step;
    buffer->current_step_ = std::max(buffer->current_step_, version.step);
  }
  RETURN_IF_ERROR(buffer->Refill());
  return buffer;
}

absl::Status TrajectoryBuffer::Refill() {
  ASSIGN_OR_RETURN(const auto keys, ledger_->ReceivedTrainSamples());
  for (const SampleKey& key : keys) {
    // Through the door again: limits and the lineage may be others than when it
    // was acked, and segments may be damaged.
    ASSIGN_OR_RETURN(const Trajectory trajectory, ledger_->Load(key));
    ASSIGN_OR_RETURN(Episode episode, Admit(trajectory));
    RETURN_IF_ERROR(Keep(std::move(episode)));
  }
  return absl::OkStatus();
}

absl::StatusOr<Episode> TrajectoryBuffer::Admit(
    const Trajectory& trajectory) const {
  return door_.Admit(trajectory,
                     [this](uint64_t version) ABSL_NO_THREAD_SAFETY_ANALYSIS {
                       return version_steps_.count(version) != 0;
                     });
}

absl::Status TrajectoryBuffer::Keep(Episode episode) {
  Group& group = groups_[episode.group];
  if (group.size == 0) {
    ASSIGN_OR_RETURN(group.size, ledger_->GroupSize(episode.group));
  }
  const uint64_t id = episode.group;
  const uint32_t sample = episode.sample;
  // The ledger answers kCommitted once a sample: two would be a bug of ours.
  CHECK(group.episodes.emplace(sample, std::move(episode)).second)
      << "the ledger committed sample " << sample << " twice";
  ++samples_;
  const Task* const task = queue_->TaskOf(id);
  // A group that comes whole shows that the environment works: what failed
  // before it is no series.
  if (task != nullptr && group.episodes.size() == group.size) {
    failed_groups_.erase(task->environment());
  }
  return absl::OkStatus();
}

std::string TrajectoryBuffer::TaskMismatch(const Trajectory& trajectory) const {
  const uint64_t group = trajectory.key().group();
  // TRAIN and EVAL groups are numbered apart.
  const Purpose purpose = group < kEvalGroupBase ? PURPOSE_TRAIN : PURPOSE_EVAL;
  if (trajectory.purpose() != purpose) {
    return absl::StrCat("the trajectory's purpose is ",
                        Purpose_Name(trajectory.purpose()), ", that of group ",
                        group, " is ", Purpose_Name(purpose));
  }
  const Task* const task = queue_->TaskOf(group);
  if (task == nullptr) return "";  // the ledger knows what became of it
  const auto differ = [&](const char* what, const std::string& got,
                          const std::string& issued) {
    return absl::StrCat("the trajectory's ", what, " is \"", got,
                        "\", that of group ", group, " is \"", issued, "\"");
  };
  if (trajectory.task_id() != task->id()) {
    return differ("task_id", trajectory.task_id(), task->id());
  }
  if (trajectory.environment() != task->environment()) {
    return differ("environment", trajectory.environment(), task->environment());
  }
  if (trajectory.domain() != task->domain()) {
    return differ("domain", trajectory.domain(), task->domain());
  }
  return "";
}

void TrajectoryBuffer::NoteFailure(uint64_t group, const std::string& reason) {
  const Task* const task = queue_->TaskOf(group);
  if (task == nullptr) return;
  if (failed_tasks_.insert(task->id()).second && options_.task_failed) {
    options_.task_failed(*task, reason);
  }
  // The first cause is the one to tell.
  if (!broken_.ok()) return;
  const int failed = ++failed_groups_[task->environment()];
  if (failed < kFailedGroupsMax) return;
  broken_ = absl::FailedPreconditionError(absl::StrCat(
      "environment \"", task->environment(), "\": ", failed,
      " groups in a row were dropped and none came whole; the last: ", reason,
      ". Look at logs/env-host.log and logs/worker-*.log"));
}

void TrajectoryBuffer::Changed() {
  // A count and not a flag: a waiter that looked just before the change sees
  // that it has moved.
  ++activity_;
  changed_.NotifyAll();
}

absl::StatusOr<Receipt> TrajectoryBuffer::Receive(const TrajectoryKey& key,
                                                  const std::string& bytes) {
  // Megabytes to parse: before the lock that every stream's thread waits for.
  const absl::StatusOr<Trajectory> trajectory = door_.Parse(key, bytes);
  MutexLock lock(&mutex_);
  if (!trajectory.ok()) {
    return Recorded(Reject(key, std::string(trajectory.status().message())));
  }
  if (samples_ >= options_.capacity_samples) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the buffer holds ", samples_,
                     " samples, its limit; "
                     "train or drop some first"));
  }
  return Recorded(Record(*trajectory));
}

absl::StatusOr<Receipt> TrajectoryBuffer::Recorded(
    absl::StatusOr<Receipt> receipt) {
  // Kept for the loop: the worker would send the same again and again, and
  // nobody would learn that the disk is full.
  if (!receipt.ok() && broken_.ok()) {
    broken_ = absl::Status(receipt.status().code(),
                           absl::StrCat("a trajectory cannot be recorded: ",
                                        receipt.status().message()));
    Changed();
  }
  return receipt;
}

absl::StatusOr<Receipt> TrajectoryBuffer::Record(const Trajectory& trajectory) {
  const TrajectoryKey& key = trajectory.key();
  absl::StatusOr<Episode> episode = Admit(trajectory);
  const bool unsound =
      !episode.ok() && !absl::IsFailedPrecondition(episode.status());
  if (unsound) return Reject(key, std::string(episode.status().message()));
  if (std::string other = TaskMismatch(trajectory); !other.empty()) {
    return Reject(key, other);
  }
  ASSIGN_OR_RETURN(
      const Receipt receipt,
      episode.ok() ? Commit(trajectory, *std::move(episode))
                   : RefuseVersion({key.group(), key.sample()},
                                   std::string(episode.status().message())));
  Changed();
  return receipt;
}

absl::StatusOr<Receipt> TrajectoryBuffer::Commit(const Trajectory& trajectory,
                                                 Episode episode) {
  const SampleKey key{episode.group, episode.sample};
  ASSIGN_OR_RETURN(const CommitResult result, ledger_->Commit(trajectory));
  // The ledger first: on its error the sample is still out under its lease, and
  // the queue still says so.
  switch (result) {
    case CommitResult::kCommitted:
      ++counts_.received;
      queue_->Settle(key.group, key.sample);
      RETURN_IF_ERROR(Keep(std::move(episode)));
      return Receipt();
    case CommitResult::kDuplicate:
      return Receipt{Receipt::Result::kDuplicate, ""};
    case CommitResult::kUnknown:
      return Receipt{Receipt::Result::kRejected,
                     absl::StrCat("group ", key.group, " sample ", key.sample,
                                  " was never issued")};
    case CommitResult::kRetry:
      ++counts_.failed;
      queue_->Retry(key.group, key.sample);
      return Receipt();
    case CommitResult::kExhausted:
      ++counts_.failed;
      if (trajectory.task_refused()) {
        // Nothing of the task can do better: another takes its place.
        queue_->GiveUpTask(key.group);
        RETURN_IF_ERROR(DropFailed(key.group, trajectory.error()));
      } else {
        RETURN_IF_ERROR(DropExhausted(key, trajectory.error()));
      }
      return Receipt();
  }
  return absl::InternalError("no result of Ledger::Commit");
}

absl::StatusOr<Receipt> TrajectoryBuffer::RefuseVersion(
    const SampleKey& key, const std::string& reason) {
  ASSIGN_OR_RETURN(const CommitResult result, ledger_->RecordRefusal(key));
  if (result == CommitResult::kDuplicate) {
    return Receipt{Receipt::Result::kDuplicate, ""};
  }
  if (result == CommitResult::kExhausted) {
    RETURN_IF_ERROR(DropExhausted(key, reason));
  } else {
    queue_->Retry(key.group, key.sample);
  }
  return Receipt{Receipt::Result::kRejected, reason};
}

absl::Status TrajectoryBuffer::DropExhausted(const SampleKey& key,
                                             const std::string& reason) {
  return DropFailed(
      key.group, absl::StrCat("sample ", key.sample,
                              " got no reward in all its retries: ", reason));
}

absl::Status TrajectoryBuffer::DropFailed(uint64_t group,
                                          const std::string& reason) {
  ++counts_.dropped_infrastructure;
  NoteFailure(group, reason);
  return Drop(group, reason);
}

absl::StatusOr<Receipt> TrajectoryBuffer::Reject(const TrajectoryKey& key,
                                                 const std::string& reason) {
  const SampleKey sample{key.group(), key.sample()};
  const Receipt receipt{Receipt::Result::kRejected, reason};
  // A stray copy harms no sample: not of another run's, not of one that came
  // whole or was never asked for. Asked before a replacement is made, which
  // takes a group's number.
  if (key.run() != door_.run()) return receipt;
  ASSIGN_OR_RETURN(const bool issued, ledger_->IsIssued(sample));
  if (!issued) return receipt;
  const auto replacement = queue_->MakeReplacement(sample.group);
  std::vector<GroupRecord> replacements;
  if (replacement.has_value()) replacements.push_back(*replacement);
  RETURN_IF_ERROR(ledger_->RejectSample(sample, reason, replacements));
  ++counts_.dropped_rejected;
  NoteFailure(sample.group, absl::StrCat("a refused trajectory: ", reason));
  Forget(sample.group, replacement);
  Changed();
  return receipt;
}

absl::Status TrajectoryBuffer::Drop(uint64_t group, const std::string& reason) {
  const auto replacement = queue_->MakeReplacement(group);
  std::vector<GroupRecord> replacements;
  if (replacement.has_value()) replacements.push_back(*replacement);
  RETURN_IF_ERROR(ledger_->DropGroup(group, reason, replacements));
  Forget(group, replacement);
  return absl::OkStatus();
}

void TrajectoryBuffer::Forget(uint64_t group,
                              const std::optional<GroupRecord>& replacement) {
  if (const auto found = groups_.find(group); found != groups_.end()) {
    samples_ -= static_cast<int64_t>(found->second.episodes.size());
    groups_.erase(found);
  }
  queue_->Remove(group);
  // Evaluations have no replacement: whoever waits for this one must learn that
  // it will not come.
  if (group >= kEvalGroupBase) dropped_eval_.insert(group);
  if (replacement.has_value()) queue_->OpenIssued(*replacement);
}

void TrajectoryBuffer::NoteVersion(uint64_t version, int64_t step) {
  MutexLock lock(&mutex_);
  version_steps_[version] = step;
  current_step_ = std::max(current_step_, step);
  Changed();
}

int64_t TrajectoryBuffer::AgeOf(const Episode& episode) const {
  // The door let only known versions in; an episode without a sampled token has
  // none, and no age.
  const auto found = version_steps_.find(episode.OldestVersion());
  return found == version_steps_.end() ? 0 : current_step_ - found->second;
}

absl::Status TrajectoryBuffer::DropStale() {
  std::vector<std::pair<uint64_t, int64_t>> stale;
  for (const auto& [id, group] : groups_) {
    int64_t age = 0;
    // The oldest of its samples: a baseline over some of a group is another
    // baseline.
    for (const auto& [sample, episode] : group.episodes) {
      age = std::max(age, AgeOf(episode));
    }
    if (id < kEvalGroupBase && age > options_.max_staleness) {
      stale.emplace_back(id, age);
    }
  }
  for (const auto& [id, age] : stale) {
    RETURN_IF_ERROR(
        Drop(id, absl::StrCat("stale: ", age, " steps old, max_staleness is ",
                              options_.max_staleness)));
    ++counts_.dropped_stale;
  }
  if (!stale.empty()) Changed();
  return absl::OkStatus();
}

absl::StatusOr<std::optional<TrainBatch>> TrajectoryBuffer::Take(int64_t step,
                                                                 int count) {
  CHECK(count >= 1);
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(broken_);
  // Before the choice, not after it: a stale group must not take a fresh one's
  // place.
  RETURN_IF_ERROR(DropStale());
  TrainBatch batch;
  for (const auto& [id, group] : groups_) {
    // The map is by number, TRAIN below EVAL: the lowest whole groups, whatever
    // order they came in (promise P8).
    if (static_cast<int>(batch.groups.size()) == count ||
        id >= kEvalGroupBase) {
      break;
    }
    if (group.episodes.size() == group.size) batch.groups.push_back(id);
  }
  if (static_cast<int>(batch.groups.size()) < count) {
    return std::optional<TrainBatch>();
  }
  // First in the ledger: on its error the groups are still here, and nothing is
  // trained that is not reserved.
  RETURN_IF_ERROR(ledger_->Reserve(step, batch.groups));
  for (const uint64_t id : batch.groups) {
    auto node = groups_.extract(id);
    for (auto& [sample, episode] : node.mapped().episodes) {
      batch.ages.push_back(AgeOf(episode));
      batch.episodes.push_back(std::move(episode));
      --samples_;
    }
    queue_->Remove(id);
  }
  Changed();
  return std::optional<TrainBatch>(std::move(batch));
}

absl::StatusOr<std::optional<EvalBatch>> TrajectoryBuffer::TakeEval(
    const std::vector<uint64_t>& groups) {
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(broken_);
  for (const uint64_t id : groups) {
    const auto found = groups_.find(id);
    const bool whole = found != groups_.end() &&
                       found->second.episodes.size() == found->second.size;
    if (!whole && dropped_eval_.count(id) == 0) {
      return std::optional<EvalBatch>();
    }
  }
  EvalBatch batch;
  for (const uint64_t id : groups) {
    if (dropped_eval_.erase(id) != 0) {
      ++batch.groups_dropped;
      continue;
    }
    auto node = groups_.extract(id);
    for (auto& [sample, episode] : node.mapped().episodes) {
      batch.episodes.push_back(std::move(episode));
      --samples_;
    }
    queue_->Remove(id);
  }
  return std::optional<EvalBatch>(std::move(batch));
}

absl::Status TrajectoryBuffer::WaitForChange(int64_t seen, int64_t timeout_us) {
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::microseconds(timeout_us);
  MutexLock lock(&mutex_);
  // In a loop: a condition variable may wake for nothing.
  while (activity_ == seen) {
    const auto left = std::chrono::duration_cast<std::chrono::microseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) {
      return absl::DeadlineExceededError(absl::StrCat(
          "no trajectory arrived in ", timeout_us / 1000, " ms; ", samples_,
          " samples wait in ", groups_.size(), " groups"));
    }
    changed_.WaitFor(&mutex_, left);
  }
  return absl::OkStatus();
}

int64_t TrajectoryBuffer::activity() const {
  MutexLock lock(&mutex_);
  return activity_;
}

BufferCounts TrajectoryBuffer::counts() const {
  MutexLock lock(&mutex_);
  return counts_;
}

}  // namespace temper
