#include "learner/lease_broker.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace temper {

int LeaseBroker::Worker::SamplesHeld() const {
  size_t samples = 0;
  for (const auto& [number, held] : leases) samples += held.unfinished.size();
  return static_cast<int>(samples);
}

void LeaseBroker::Offer(std::vector<Lease> leases) {
  MutexLock lock(&mutex_);
  for (Lease& lease : leases) {
    lease.set_lease(next_lease_++);
    waiting_.push_back(std::move(lease));
  }
}

void LeaseBroker::Withdraw(uint64_t group) {
  MutexLock lock(&mutex_);
  std::erase_if(waiting_,
                [&](const Lease& lease) { return lease.group() == group; });
  for (auto& [name, worker] : workers_) {
    std::erase_if(worker.leases, [&](const auto& entry) {
      return entry.second.lease.group() == group;
    });
  }
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
  int returned = 0;
  // Backwards, so that the oldest lease ends in front.
  for (auto held = it->second.leases.rbegin();
       held != it->second.leases.rend(); ++held) {
    if (held->second.unfinished.empty()) continue;
    Lease lease = held->second.lease;
    lease.clear_samples();
    for (const uint32_t sample : held->second.unfinished) {
      lease.add_samples(sample);
      ++returned;
    }
    lease.set_lease(next_lease_++);
    waiting_.push_front(std::move(lease));
  }
  workers_.erase(it);
  return returned;
}

std::optional<Lease> LeaseBroker::Take(const std::string& worker) {
  MutexLock lock(&mutex_);
  const auto it = workers_.find(worker);
  if (it == workers_.end() || waiting_.empty()) return std::nullopt;
  Lease& next = waiting_.front();
  if (it->second.version < next.weight_version()) return std::nullopt;
  const int held = it->second.SamplesHeld();
  if (held > 0 && held + next.samples_size() >
                      static_cast<int>(it->second.capacity)) {
    return std::nullopt;
  }
  Lease lease = std::move(next);
  waiting_.pop_front();
  Held& entry = it->second.leases[lease.lease()];
  entry.lease = lease;
  entry.unfinished.insert(lease.samples().begin(), lease.samples().end());
  return lease;
}

void LeaseBroker::Finish(uint64_t group, uint32_t sample) {
  MutexLock lock(&mutex_);
  for (auto& [name, worker] : workers_) {
    for (auto it = worker.leases.begin(); it != worker.leases.end();) {
      if (it->second.lease.group() == group) {
        it->second.unfinished.erase(sample);
      }
      it = it->second.unfinished.empty() ? worker.leases.erase(it)
                                         : std::next(it);
    }
  }
  // A late copy may finish what already waits for another worker.
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    if (it->group() == group) {
      auto* samples = it->mutable_samples();
      samples->erase(std::remove(samples->begin(), samples->end(), sample),
                     samples->end());
    }
    it = it->samples().empty() ? waiting_.erase(it) : std::next(it);
  }
}

void LeaseBroker::SetVersion(const std::string& worker, uint64_t version) {
  MutexLock lock(&mutex_);
  const auto it = workers_.find(worker);
  if (it != workers_.end()) {
    it->second.version = std::max(it->second.version, version);
  }
}

bool LeaseBroker::AllAt(uint64_t version) const {
  MutexLock lock(&mutex_);
  return std::all_of(workers_.begin(), workers_.end(), [&](const auto& entry) {
    return entry.second.version >= version;
  });
}

int LeaseBroker::workers() const {
  MutexLock lock(&mutex_);
  return static_cast<int>(workers_.size());
}

int LeaseBroker::waiting_samples() const {
  MutexLock lock(&mutex_);
  int samples = 0;
  for (const Lease& lease : waiting_) samples += lease.samples_size();
  return samples;
}

int LeaseBroker::held_samples() const {
  MutexLock lock(&mutex_);
  int samples = 0;
  for (const auto& [name, worker] : workers_) samples += worker.SamplesHeld();
  return samples;
}

std::vector<std::string> LeaseBroker::Describe() const {
  MutexLock lock(&mutex_);
  std::vector<std::string> lines;
  for (const auto& [name, worker] : workers_) {
    lines.push_back(absl::StrCat(name, " v", worker.version, " holds ",
                                 worker.SamplesHeld(), " samples"));
  }
  return lines;
}

}  // namespace temper
