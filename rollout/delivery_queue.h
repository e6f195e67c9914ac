// What this worker has of each sample that it was leased, and the trajectories
// that it has to deliver; without a stream, which learner_client.h has.
//
//   TakeLease -> waiting -> Begin -> held -> Add -> held, unacked -> Ack ->
//   gone
//
// A trajectory is kept until the learner acks it, and sent on every stream
// until then: delivered at least once, the ledger makes it once.
//
// A learner that lost our stream takes what we were leased for lost, and leases
// it anew, to us too. What we then hold, running or not yet acked, is left out
// of the new lease here, and only here: we deliver it under the old lease, and
// the learner takes it off the new one (LeaseBroker::Delivered in learner/).
// What was still waiting lapses with its stream, for others may have it now.
//
// Not thread-safe.

#ifndef ROLLOUT_DELIVERY_QUEUE_H_
#define ROLLOUT_DELIVERY_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "proto/learner.pb.h"
#include "proto/trajectory.pb.h"

namespace temper {

class DeliveryQueue {
 public:
  // At most `unacked_max` trajectories wait for their acks.
  explicit DeliveryQueue(size_t unacked_max) : unacked_max_(unacked_max) {}

  // A new stream: nothing was sent on it, and leases of earlier ones lapse.
  void StartStream();

  // A lease has come on the present stream: leaves out of it what is held; the
  // rest waits.
  void TakeLease(Lease* lease);
  // Whether the sample still waits under this lease; from then on it is held.
  bool Begin(uint64_t lease, uint64_t group, uint32_t sample);

  // An episode has ended; whether it was leased is not asked. ResourceExhausted
  // if unacked_max are unacked already: nothing changed then.
  absl::Status Add(Trajectory trajectory);
  // The oldest that was not sent on this stream, sent from now on; null if
  // there is none. Good until the next call.
  const Trajectory* SendNext();
  bool has_unsent() const;
  // The learner has this sample: nothing of it is held any more.
  void Ack(const TrajectoryKey& key);

  size_t unacked() const { return unacked_.size(); }

 private:
  using Id = std::pair<uint64_t, uint32_t>;  // group, sample
  struct Outgoing {
    Trajectory trajectory;
    bool sent = false;  // on the present stream
  };

  const size_t unacked_max_;
  std::map<Id, uint64_t> waiting_;  // under which lease
  std::set<Id> held_;
  std::list<Outgoing> unacked_;  // oldest first
};

}  // namespace temper

#endif  // ROLLOUT_DELIVERY_QUEUE_H_
