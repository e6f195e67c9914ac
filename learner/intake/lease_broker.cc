#include "learner/intake/lease_broker.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"

namespace temper {

uint32_t LeaseBroker::Worker::held() const {
  size_t samples = 0;
  for (const auto& [lease, held] : leases) samples += held.undelivered.size();
  return static_cast<uint32_t>(samples);
}

absl::Status LeaseBroker::AddWorker(const std::string& worker,
                                    uint32_t capacity_samples) {
  MutexLock lock(&mutex_);
  if (workers_.count(worker) > 0) {
    return absl::AlreadyExistsError(absl::StrCat(
        "a worker named \"", worker, "\" is connected; choose another name"));
  }
  if (workers_.size() >= static_cast<size_t>(kWorkersMax)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("worker \"", worker, "\" would be number ",
                     workers_.size() + 1, "; a learner serves ", kWorkersMax));
  }
  workers_[worker].capacity = capacity_samples;
  return absl::OkStatus();
}

int LeaseBroker::RemoveWorker(const std::string& worker) {
  MutexLock lock(&mutex_);
  const auto it = workers_.find(worker);
  if (it == workers_.end()) return 0;
  const int returned = static_cast<int>(it->second.held());
  // Not what it delivered: the queue has that as settled, or as available.
  for (const auto& [lease, held] : it->second.leases) {
    queue_->Release(lease);
  }
  workers_.erase(it);
  return returned;
}

void LeaseBroker::RequireVersion(uint64_t version) {
  MutexLock lock(&mutex_);
  required_version_ = version;
  // With no worker there is nobody to wait for, and the wait took no time: so
  // it counts from here.
  required_us_ = clock_->MonotonicMicros();
}

void LeaseBroker::ConfirmVersion(const std::string& worker, uint64_t version) {
  MutexLock lock(&mutex_);
  const auto it = workers_.find(worker);
  // Heartbeats say it again and again.
  if (it == workers_.end() || it->second.version == version) return;
  it->second.version = version;
  it->second.confirmed_us = clock_->MonotonicMicros();
}

std::optional<int64_t> LeaseBroker::AllConfirmedUs() const {
  MutexLock lock(&mutex_);
  int64_t last_us = required_us_;
  for (const auto& [name, worker] : workers_) {
    // Not `<`: a worker that is ahead has weights of an attempt that a resume
    // undid.
    if (worker.version != required_version_) return std::nullopt;
    last_us = std::max(last_us, worker.confirmed_us);
  }
  return last_us;
}

absl::StatusOr<std::optional<Lease>> LeaseBroker::Take(
    const std::string& worker) {
  MutexLock lock(&mutex_);
  const auto it = workers_.find(worker);
  // In synchronous mode no token of a step is sampled from other weights than
  // its own (DESIGN.md section 10).
  if (it == workers_.end() || it->second.version != required_version_) {
    return std::nullopt;
  }
  const uint32_t held = it->second.held(), capacity = it->second.capacity;
  // An idle worker takes a group above its capacity and plays it in parts: else
  // a group larger than any worker would be leased to none.
  if (held > 0 && held >= capacity) return std::nullopt;
  ASSIGN_OR_RETURN(std::optional<QueueLease> next,
                   queue_->Acquire(held == 0 ? UINT32_MAX : capacity - held));
  if (!next.has_value()) return std::nullopt;
  Held& taken = it->second.leases[next->lease];
  taken.group = next->group;
  Lease lease;
  lease.set_lease(next->lease);
  lease.set_group(next->group);
  lease.set_purpose(next->purpose);
  *lease.mutable_task() = std::move(next->task);
  for (const uint32_t sample : next->samples) {
    lease.add_samples(sample);
    taken.undelivered.insert(sample);
  }
  lease.set_weight_version(required_version_);
  *lease.mutable_sampling() = sampling_;
  lease.set_seed(seed_);
  return lease;
}

void LeaseBroker::Delivered(const std::string& worker,
                            const TrajectoryKey& key) {
  MutexLock lock(&mutex_);
  const auto found = workers_.find(worker);
  if (found == workers_.end()) return;
  auto& leases = found->second.leases;
  for (auto it = leases.begin(); it != leases.end();) {
    auto& [lease, held] = *it;
    if (held.group == key.group() && held.undelivered.erase(key.sample()) > 0 &&
        lease != key.lease() &&
        queue_->LeaseOf(key.group(), key.sample()) == lease) {
      queue_->Retry(key.group(), key.sample());
    }
    // Empty ones would be walked for ever.
    it = held.undelivered.empty() ? leases.erase(it) : std::next(it);
  }
}

int LeaseBroker::workers() const {
  MutexLock lock(&mutex_);
  return static_cast<int>(workers_.size());
}

std::vector<std::string> LeaseBroker::Describe() const {
  MutexLock lock(&mutex_);
  std::vector<std::string> lines;
  for (const auto& [name, worker] : workers_) {
    lines.push_back(absl::StrCat(name, " v", worker.version, " holds ",
                                 worker.held(), " samples"));
  }
  return lines;
}

}  // namespace temper
