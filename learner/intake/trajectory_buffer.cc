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
    ASSIGN_OR_RETURN(const Trajectory trajectory, ledger_->Load(key));
    ASSIGN_OR_RETURN(
        Episode episode,
        door_.Admit(trajectory,
                    [this](uint64_t version) ABSL_NO_THREAD_SAFETY_ANALYSIS {
                      return VersionKnown(version);
                    }));
    RETURN_IF_ERROR(Keep(std::move(episode)));
  }
  return absl::OkStatus();
}

bool TrajectoryBuffer::VersionKnown(uint64_t version) const {
  return version_steps_.count(version) != 0;
}

absl::Status TrajectoryBuffer::Keep(Episode episode) {
  Group& group = groups_[episode.group];
  if (group.size == 0) {
    ASSIGN_OR_RETURN(group.size, ledger_->GroupSize(episode.group));
  }
  const uint64_t id = episode.group;
  const uint32_t sample = episode.sample;
  CHECK(group.episodes.emplace(sample, std::move(episode)).second)
      << "the ledger committed sample " << sample << " twice";
  ++samples_;
  const Task* const task = queue_->TaskOf(id);
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
  if (!broken_.ok()) return;
  const int failed = ++failed_groups_[task->environment()];
  if (failed < kFailedGroupsMax) return;
  broken_ = absl::FailedPreconditionError(absl::StrCat(
      "environment \"", task->environment(), "\": ", failed,
      " groups in a row were dropped and none came whole; the last: ", reason,
      ". Look at logs/env-host.log and logs/worker-*.log"));
}

void TrajectoryBuffer::Changed() {
  ++activity_;
  changed_.NotifyAll();
}

absl::StatusOr<Receipt> TrajectoryBuffer::Receive(
    const Trajectory& trajectory) {
  MutexLock lock(&mutex_);
  if (samples_ >= options_.capacity_samples) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the buffer holds ", samples_,
                     " samples, its limit; "
                     "train or drop some first"));
  }
  return Recorded(Record(trajectory));
}

absl::StatusOr<Receipt> TrajectoryBuffer::Recorded(
    absl::StatusOr<Receipt> receipt) {
  if (!receipt.ok() && broken_.ok()) {
    broken_ = absl::Status(receipt.status().code(),
                           absl::StrCat("a trajectory cannot be recorded: ",
                                        receipt.status().message()));
    Changed();
  }
  return receipt;
}

absl::StatusOr<Receipt> TrajectoryBuffer::Record(const Trajectory& trajectory) {
  bool versions_known = true;
  auto admitted = door_.Admit(
      trajectory, [&](uint64_t version) ABSL_NO_THREAD_SAFETY_ANALYSIS {
        versions_known = versions_known && VersionKnown(version);
        return true;
      });
  if (!admitted.ok()) {
    return Reject(trajectory, std::string(admitted.status().message()));
  }
  if (std::string other = TaskMismatch(trajectory); !other.empty()) {
    return Reject(trajectory, other);
  }
  Receipt receipt;
  CommitResult result;
  if (versions_known) {
    ASSIGN_OR_RETURN(result, ledger_->Commit(trajectory));
  } else {
    receipt.result = Receipt::Result::kRejected;
    receipt.reason =
        "it was sampled from weights that are not of the surviving lineage";
    ASSIGN_OR_RETURN(
        result, ledger_->RecordRefusal({admitted->group, admitted->sample}));
  }
  switch (result) {
    case CommitResult::kCommitted:
      ++counts_.received;
      queue_->Settle(admitted->group, admitted->sample);
      RETURN_IF_ERROR(Keep(*std::move(admitted)));
      break;
    case CommitResult::kDuplicate:
      receipt.result = Receipt::Result::kDuplicate;
      break;
    case CommitResult::kUnknown:
      receipt.result = Receipt::Result::kRejected;
      receipt.reason = absl::StrCat("group ", admitted->group, " sample ",
                                    admitted->sample, " was never issued");
      break;
    case CommitResult::kRetry:
      queue_->Retry(admitted->group, admitted->sample);
      break;
    case CommitResult::kExhausted: {
      ++counts_.dropped_infrastructure;
      const std::string error =
          receipt.reason.empty() ? trajectory.error() : receipt.reason;
      const bool refused = trajectory.task_refused();
      if (refused) queue_->GiveUpTask(admitted->group);
      const std::string reason =
          refused ? error
                  : absl::StrCat("sample ", admitted->sample,
                                 " got no reward in all its retries: ", error);
      NoteFailure(admitted->group, reason);
      RETURN_IF_ERROR(Drop(admitted->group, reason));
      break;
    }
  }
  Changed();
  return receipt;
}

absl::StatusOr<Receipt> TrajectoryBuffer::Refuse(const TrajectoryKey& key,
                                                 const std::string& reason) {
  MutexLock lock(&mutex_);
  Trajectory trajectory;
  *trajectory.mutable_key() = key;
  return Recorded(Reject(trajectory, reason));
}

absl::StatusOr<Receipt> TrajectoryBuffer::Reject(const Trajectory& trajectory,
                                                 const std::string& reason) {
  const SampleKey key{trajectory.key().group(), trajectory.key().sample()};
  Receipt receipt;
  receipt.result = Receipt::Result::kRejected;
  receipt.reason = reason;
  auto state = ledger_->StateOf(key);
  if (absl::IsNotFound(state.status())) return receipt;
  RETURN_IF_ERROR(state.status());
  if (*state != "issued" || trajectory.key().run() != door_.run()) {
    return receipt;  // a stray copy harms no sample
  }
  const auto replacement = queue_->MakeReplacement(key.group);
  std::vector<GroupRecord> replacements;
  if (replacement.has_value()) replacements.push_back(*replacement);
  RETURN_IF_ERROR(ledger_->RejectSample(key, reason, replacements));
  ++counts_.dropped_rejected;
  NoteFailure(key.group, absl::StrCat("a refused trajectory: ", reason));
  Forget(key.group, replacement);
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
  const auto found = version_steps_.find(episode.OldestVersion());
  return found == version_steps_.end() ? 0 : current_step_ - found->second;
}

absl::Status TrajectoryBuffer::DropStale() {
  std::vector<std::pair<uint64_t, int64_t>> stale;
  for (const auto& [id, group] : groups_) {
    int64_t age = 0;
    for (const auto& [sample, episode] : group.episodes) {
      age = std::max(age, AgeOf(episode));
    }
    if (id < kEvalGroupBase && age > options_.max_staleness) {
      stale.emplace_back(id, age);
    }
  }
  for (const auto& [id, age] : stale) {
    RETURN_IF_ERROR(
        Drop(id, absl::StrCat("stale: ", age, " updates old, max_staleness is ",
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
  RETURN_IF_ERROR(DropStale());
  TrainBatch batch;
  for (const auto& [id, group] : groups_) {
    if (static_cast<int>(batch.groups.size()) == count ||
        id >= kEvalGroupBase) {
      break;
    }
    if (group.episodes.size() == group.size) batch.groups.push_back(id);
  }
  if (static_cast<int>(batch.groups.size()) < count) {
    return std::optional<TrainBatch>();
  }
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
