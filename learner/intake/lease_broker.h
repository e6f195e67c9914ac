// Who works on what: the live workers, the weights each has confirmed, the
// leases each holds. The task queue says what is wanted; this hands it out and
// gives it back when a worker goes. No sockets: learner_service.h is its face.
//
// Thread-safe. `queue` must outlive it.

#ifndef LEARNER_INTAKE_LEASE_BROKER_H_
#define LEARNER_INTAKE_LEASE_BROKER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/clock.h"
#include "kernels/base/mutex.h"
#include "learner/intake/task_queue.h"
#include "proto/learner.pb.h"

namespace temper {

class LeaseBroker {
 public:
  // Leases carry `sampling` and `seed`. `clock` outlives the broker.
  LeaseBroker(TaskQueue* queue, const SamplingConfig& sampling, uint64_t seed,
              Clock* clock = SystemClock())
      : queue_(queue), sampling_(sampling), seed_(seed), clock_(clock) {}

  // AlreadyExists if a live worker has this name; ResourceExhausted above
  // kWorkersMax.
  absl::Status AddWorker(const std::string& worker, uint32_t capacity_samples);

  // Forgets the worker; what it held is available again. Returns how many
  // samples that were.
  int RemoveWorker(const std::string& worker);

  // From now on leases are handed only to workers with this very version, not
  // to those with another, later or earlier.
  void RequireVersion(uint64_t version);
  void ConfirmVersion(const std::string& worker, uint64_t version);
  // When the last of the live workers confirmed the required version, on the
  // monotonic clock: when it was required, if there are none. Nothing while one
  // of them has not.
  std::optional<int64_t> AllConfirmedUs() const;

  // The next lease this worker can hold: it has the weights and room (an idle
  // worker has room for any lease). Errors are the ledger's.
  absl::StatusOr<std::optional<Lease>> Take(const std::string& worker);

  // The worker delivered this sample of this lease, and the queue has been told
  // what became of it. The sample also goes from each other lease of the
  // worker's: after a broken stream a worker is leased anew what it still runs
  // or has not heard the ack of, delivers that under the old lease, and has
  // nothing more of it. Where the queue still has it out under such a lease (it
  // is to be retried, and this was one more copy of the failure), it is
  // available again. No lease of the worker's may be taken between the queue's
  // being told and this call (WorkerStream::lease_order).
  void Delivered(const std::string& worker, const TrajectoryKey& key);

  int workers() const;
  // "worker-1 v3 holds 8 samples", one a worker, for status.
  std::vector<std::string> Describe() const;

  static constexpr int kWorkersMax = 256;

 private:
  struct Held {
    uint64_t group = 0;
    std::set<uint32_t> undelivered;
  };
  struct Worker {
    uint32_t capacity = 0;
    uint64_t version = 0;
    int64_t confirmed_us = 0;
    std::map<uint64_t, Held> leases;
    uint32_t held() const;
  };

  TaskQueue* const queue_;
  const SamplingConfig sampling_;
  const uint64_t seed_;
  Clock* const clock_;

  mutable Mutex mutex_;
  std::map<std::string, Worker> workers_ ABSL_GUARDED_BY(mutex_);
  uint64_t required_version_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t required_us_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace temper

#endif  // LEARNER_INTAKE_LEASE_BROKER_H_
