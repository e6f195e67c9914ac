#include "learner/intake/task_queue.h"

#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "proto/wire/task_file.h"

namespace temper {
namespace {

// Rows of one transaction, which all other writers wait for.
constexpr int kIssueMax = 1 << 20;

std::vector<uint32_t> AllSamples(uint32_t size) {
  std::vector<uint32_t> samples(size);
  std::iota(samples.begin(), samples.end(), 0u);
  return samples;
}

}  // namespace

TaskQueue::TaskQueue(std::vector<Task> tasks, const TaskQueueOptions& options,
                     Ledger* ledger)
    : tasks_(std::move(tasks)), options_(options), ledger_(ledger) {}

absl::StatusOr<std::unique_ptr<TaskQueue>> TaskQueue::Create(
    std::vector<Task> tasks, const TaskQueueOptions& options, Ledger* ledger) {
  if (options.group_size < 1) {
    return absl::InvalidArgumentError("group_size must be at least 1");
  }
  std::unique_ptr<TaskQueue> queue(
      new TaskQueue(std::move(tasks), options, ledger));
  for (size_t i = 0; i < queue->tasks_.size(); ++i) {
    const Task& task = queue->tasks_[i];
    if (task.split() != "train" && task.split() != "heldout") {
      return absl::InvalidArgumentError(
          absl::StrCat("task ", task.id(), ": split \"", task.split(),
                       "\" is neither train nor heldout"));
    }
    if (!queue->by_id_.emplace(task.id(), i).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("two tasks have the id \"", task.id(), "\""));
    }
  }
  MutexLock lock(&queue->mutex_);
  RETURN_IF_ERROR(queue->OrderTasks());
  // Read once, counted on from here: one queue a ledger, and the ledger would
  // refuse a number twice.
  ASSIGN_OR_RETURN(queue->next_train_group_, ledger->NextGroup(PURPOSE_TRAIN));
  ASSIGN_OR_RETURN(queue->next_eval_group_, ledger->NextGroup(PURPOSE_EVAL));
  ASSIGN_OR_RETURN(queue->next_lease_, ledger->NextLease());
  ASSIGN_OR_RETURN(queue->next_position_, ledger->NextPosition());
  ASSIGN_OR_RETURN(const auto unsettled, ledger->UnsettledTrainGroups());
  for (const PendingGroup& group : unsettled) {
    // A resume with other tasks is refused by their digest; this is for runs
    // begun before there was one.
    if (queue->FindTask(group.group.task_id) == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(
          "group ", group.group.group, " is of task \"", group.group.task_id,
          "\", which the task file no longer has"));
    }
    queue->backlog_.push_back(group);
  }
  return queue;
}

absl::Status TaskQueue::OrderTasks() {
  std::map<std::string, std::vector<size_t>> by_domain;
  const bool weighted = !options_.domain_weights.empty();
  for (size_t i = 0; i < tasks_.size(); ++i) {
    if (tasks_[i].split() != "train") continue;
    by_domain[weighted ? tasks_[i].domain() : ""].push_back(i);
  }
  std::vector<TaskOrder::Part> parts;
  for (auto& [domain, tasks] : by_domain) {
    const auto weight = options_.domain_weights.find(domain);
    if (weighted && weight == options_.domain_weights.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("train task ", tasks_[tasks[0]].id(), " is of domain \"",
                       domain, "\", which has no weight"));
    }
    parts.push_back({weighted ? weight->second : 1, std::move(tasks)});
  }
  for (const auto& [domain, weight] : options_.domain_weights) {
    if (by_domain.count(domain) > 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("domain ", domain, " has the weight ", weight,
                     " and no task of the split train"));
  }
  if (!parts.empty()) order_.emplace(options_.seed, std::move(parts));
  return absl::OkStatus();
}

const std::string& TaskQueue::TaskIdAt(int64_t position) {
  return tasks_[order_->TaskAt(position)].id();
}

absl::StatusOr<std::vector<uint64_t>> TaskQueue::IssueTrain(int count) {
  if (count < 1 || count > kIssueMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot issue ", count, " groups"));
  }
  MutexLock lock(&mutex_);
  if (!order_.has_value()) {
    return absl::InvalidArgumentError(
        "there are no tasks with split \"train\" to issue");
  }
  // Groups of before a resume first, in the order of their numbers: a step then
  // has the groups that it had in the run that was not interrupted (promise
  // P8).
  const size_t old =
      std::min<size_t>(backlog_.size(), static_cast<size_t>(count));
  std::vector<GroupRecord> fresh;
  for (size_t i = old; i < static_cast<size_t>(count); ++i) {
    const int64_t step = static_cast<int64_t>(fresh.size());
    GroupRecord& record = fresh.emplace_back();
    record.group = next_train_group_ + static_cast<uint64_t>(step);
    record.position = next_position_ + step;
    record.task_id = TaskIdAt(*record.position);
    record.size = options_.group_size;
  }
  // In the ledger before anything changes here: on its error the numbers are
  // still free.
  if (!fresh.empty()) RETURN_IF_ERROR(ledger_->IssueGroups(fresh));
  next_train_group_ += fresh.size();
  next_position_ += static_cast<int64_t>(fresh.size());
  std::vector<uint64_t> ids;
  for (size_t i = 0; i < old; ++i) {
    const PendingGroup group = std::move(backlog_.front());
    backlog_.pop_front();
    ids.push_back(group.group.group);
    Open(group.group, group.wanted, 0);
  }
  for (const GroupRecord& record : fresh) {
    ids.push_back(record.group);
    Open(record, AllSamples(record.size), 0);
  }
  return ids;
}

absl::StatusOr<std::vector<uint64_t>> TaskQueue::IssueEval(
    const std::vector<std::string>& task_ids, uint32_t samples) {
  if (samples < 1 || task_ids.size() > kIssueMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "cannot evaluate ", task_ids.size(), " tasks of ", samples));
  }
  MutexLock lock(&mutex_);
  std::vector<GroupRecord> groups;
  std::vector<uint64_t> ids;
  for (const std::string& id : task_ids) {
    if (FindTask(id) == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("there is no task \"", id, "\" to evaluate"));
    }
    GroupRecord& record = groups.emplace_back();
    record.group = next_eval_group_ + ids.size();
    record.purpose = PURPOSE_EVAL;
    record.task_id = id;
    record.size = samples;
    ids.push_back(record.group);
  }
  RETURN_IF_ERROR(ledger_->IssueGroups(groups));
  next_eval_group_ += ids.size();
  for (const GroupRecord& record : groups) {
    Open(record, AllSamples(samples), 0);
  }
  return ids;
}

void TaskQueue::Open(const GroupRecord& record,
                     const std::vector<uint32_t>& wanted, int replacements) {
  OpenGroup& group = open_[record.group];
  group.record = record;
  group.available.insert(wanted.begin(), wanted.end());
  group.replacements = replacements;
}

absl::StatusOr<std::optional<QueueLease>> TaskQueue::Acquire(
    uint32_t samples_max) {
  MutexLock lock(&mutex_);
  for (auto& [id, group] : open_) {
    if (group.available.empty()) continue;
    // Break, not continue: a later, smaller group would overtake, and the step
    // could not end before the first is sampled anyway.
    if (group.available.size() > samples_max) break;
    QueueLease lease;
    lease.lease = next_lease_++;
    lease.group = id;
    lease.purpose = group.record.purpose;
    lease.task = *FindTask(group.record.task_id);
    lease.samples.assign(group.available.begin(), group.available.end());
    for (const uint32_t sample : lease.samples) {
      group.leased[sample] = lease.lease;
    }
    group.available.clear();
    return std::optional<QueueLease>(std::move(lease));
  }
  return std::optional<QueueLease>();
}

void TaskQueue::Release(uint64_t lease) {
  MutexLock lock(&mutex_);
  for (auto& [id, group] : open_) {
    // By the lease, not by the worker: a sample that was delivered and leased
    // again is another's by now.
    for (auto it = group.leased.begin(); it != group.leased.end();) {
      if (it->second == lease) {
        group.available.insert(it->first);
        it = group.leased.erase(it);
      } else {
        ++it;
      }
    }
  }
}

std::optional<uint64_t> TaskQueue::LeaseOf(uint64_t group,
                                           uint32_t sample) const {
  MutexLock lock(&mutex_);
  const auto found = open_.find(group);
  if (found == open_.end()) return std::nullopt;
  const auto leased = found->second.leased.find(sample);
  if (leased == found->second.leased.end()) return std::nullopt;
  return leased->second;
}

void TaskQueue::Settle(uint64_t group, uint32_t sample) {
  MutexLock lock(&mutex_);
  const auto found = open_.find(group);
  if (found == open_.end()) return;
  found->second.available.erase(sample);
  found->second.leased.erase(sample);
}

void TaskQueue::Retry(uint64_t group, uint32_t sample) {
  MutexLock lock(&mutex_);
  const auto found = open_.find(group);
  if (found == open_.end()) return;
  // Whichever lease it is out under: the copy that failed may have been an
  // older one's.
  found->second.leased.erase(sample);
  found->second.available.insert(sample);
}

void TaskQueue::Remove(uint64_t group) {
  MutexLock lock(&mutex_);
  open_.erase(group);
}

void TaskQueue::GiveUpTask(uint64_t group) {
  MutexLock lock(&mutex_);
  const auto found = open_.find(group);
  if (found != open_.end()) found->second.replacements = kReplacementsMax;
}

std::optional<GroupRecord> TaskQueue::MakeReplacement(uint64_t group) {
  MutexLock lock(&mutex_);
  const auto found = open_.find(group);
  if (found == open_.end() || found->second.record.purpose != PURPOSE_TRAIN) {
    return std::nullopt;
  }
  const OpenGroup& dropped = found->second;
  GroupRecord record;
  // Taken now, although the ledger may refuse: a number skipped harms nothing,
  // one used twice would.
  record.group = next_train_group_++;
  record.size = options_.group_size;
  record.replaces = group;
  // The same task, so that failures of the machine do not change what is
  // trained; but a task that can only fail must not hold up its step for ever.
  if (dropped.replacements < kReplacementsMax) {
    record.task_id = dropped.record.task_id;
    replacement_counts_[record.group] = dropped.replacements + 1;
  } else {
    record.position = next_position_++;
    record.task_id = TaskIdAt(*record.position);
  }
  return record;
}

void TaskQueue::OpenIssued(const GroupRecord& group) {
  MutexLock lock(&mutex_);
  int replacements = 0;
  if (const auto found = replacement_counts_.find(group.group);
      found != replacement_counts_.end()) {
    replacements = found->second;
    replacement_counts_.erase(found);
  }
  Open(group, AllSamples(group.size), replacements);
}

std::vector<std::string> TaskQueue::HeldOutTaskIds(
    int64_t of_each_environment) const {
  std::vector<std::string> ids;
  for (const Task& task : HeldOutTasks(tasks_, of_each_environment)) {
    ids.push_back(task.id());
  }
  return ids;
}

const Task* TaskQueue::FindTask(const std::string& id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &tasks_[found->second];
}

const Task* TaskQueue::TaskOf(uint64_t group) const {
  MutexLock lock(&mutex_);
  const auto found = open_.find(group);
  return found == open_.end() ? nullptr
                              : FindTask(found->second.record.task_id);
}

}  // namespace temper
