// Who works on what: leases waiting, leases held by which worker, the weight
// version each worker has confirmed. Pure bookkeeping, no sockets: the service
// (learner_service.h) is its face.
//
// A lease is a whole group, or what is left of one after a worker died. Its
// samples are finished one by one; when a worker goes, what it had not
// finished waits again, in front, under a new lease number.
//
// Thread-safe. Workers and waiting leases are bounded by the caller's step.

#ifndef LEARNER_LEASE_BROKER_H_
#define LEARNER_LEASE_BROKER_H_

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "kernels/base/mutex.h"
#include "proto/learner.pb.h"

namespace temper {

class LeaseBroker {
 public:
  // Queues leases; `lease` numbers are given here.
  void Offer(std::vector<Lease> leases);

  // Takes back every waiting or held lease of `group` (it was dropped).
  void Withdraw(uint64_t group);

  // AlreadyExists if a live worker has this name; ResourceExhausted above
  // `kWorkersMax`.
  absl::Status AddWorker(const std::string& worker, uint32_t capacity_samples);

  // Forgets the worker; what it held waits again. Returns the samples returned.
  int RemoveWorker(const std::string& worker);

  // The next lease this worker can hold: its weights are new enough and it has
  // room (an idle worker has room for any lease).
  std::optional<Lease> Take(const std::string& worker);

  // A sample's trajectory is committed or refused for good. Unknown ones (a
  // duplicate, a returned lease's late copy) are ignored.
  void Finish(uint64_t group, uint32_t sample);

  void SetVersion(const std::string& worker, uint64_t version);

  // Whether every live worker has confirmed at least `version` (true with
  // none).
  bool AllAt(uint64_t version) const;

  int workers() const;
  int waiting_samples() const;
  int held_samples() const;
  // "worker-1 v3 holds 8 samples", one a worker, for status.
  std::vector<std::string> Describe() const;

  static constexpr int kWorkersMax = 256;

 private:
  struct Held {
    Lease lease;
    std::set<uint32_t> unfinished;
  };
  struct Worker {
    uint32_t capacity = 0;
    uint64_t version = 0;
    std::map<uint64_t, Held> leases;  // by lease number
    int SamplesHeld() const;
  };

  mutable Mutex mutex_;
  std::deque<Lease> waiting_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Worker> workers_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_lease_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace temper

#endif  // LEARNER_LEASE_BROKER_H_
