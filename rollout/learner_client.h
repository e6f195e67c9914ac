// The worker's end of Learner.Connect: keeps one stream to the learner alive
// and everything that must survive its loss.
//
//   in   leases, weight updates, a stop: handed out in order by Next.
//   out  trajectories as header, chunks, end (proto/wire/trajectory_stream.h).
//        Each is kept until the learner acks it and sent again on every new
//        stream: delivered at least once, the ledger makes it once. One is
//        begun only on a credit, and the learner grants them as it commits: so
//        it bounds what is sent and not committed.
//
// A heartbeat goes out every heartbeat_ms; a stream on which nothing was heard
// for peer_timeout_ms, or no credit came for credit_timeout_ms while a
// trajectory waits for one, is dropped. Lost streams are opened again, at the
// same address and with growing pauses, until give_up_ms without a welcome have
// passed. A learner takes another port whenever it starts: a worker outlives
// lost streams, not its learner. Only loopback addresses are accepted: there is
// no transport security yet.
//
// Thread-safe. One thread of its own drives the stream; the destructor cancels
// the stream and joins it.

#ifndef ROLLOUT_LEARNER_CLIENT_H_
#define ROLLOUT_LEARNER_CLIENT_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/mutex.h"
#include "proto/learner.pb.h"
#include "proto/trajectory.pb.h"
#include "rollout/delivery_queue.h"

namespace temper {

struct LearnerClientOptions {
  std::string address;  // as CheckLoopback (proto/wire/loopback.h) has it
  std::string run;      // empty: whatever the learner serves
  std::string worker;   // unique among live workers
  uint32_t capacity_samples = 64;
  // What the worker computes in and on, as the configuration names them.
  std::string numerics = "fp32";
  std::string device = "cpu";
  int64_t heartbeat_ms = 2000;
  int64_t peer_timeout_ms = 30000;
  int64_t credit_timeout_ms = 120000;
  int64_t backoff_ms_min = 100;
  int64_t backoff_ms_max = 5000;
  int64_t give_up_ms = 120000;
  // Longest time between two SetHeartbeat, until SetHungLimit says another.
  int64_t hung_ms = 120000;
  // Becomes true when the caller wants no welcome any more; may be null.
  const std::atomic<bool>* stop = nullptr;
};

class LearnerClient {
 public:
  // Starts connecting and waits for the first welcome. InvalidArgument: an
  // address that is not loopback, a name missing. Unavailable: no welcome
  // within give_up_ms. Cancelled, within a second, once *stop is true. What the
  // learner refuses for good comes back as it said.
  static absl::StatusOr<std::unique_ptr<LearnerClient>> Connect(
      const LearnerClientOptions& options);
  ~LearnerClient();
  LearnerClient(const LearnerClient&) = delete;
  LearnerClient& operator=(const LearnerClient&) = delete;

  // The first welcome; constant.
  const LearnerWelcome& welcome() const { return welcome_; }

  // The next lease, weight update, stop, or welcome of a later stream; nothing
  // if none came within `timeout_ms`. Samples that were held when their lease
  // came are left out of it: they are under way already. Unavailable when the
  // client has given up, or what the learner refused with.
  absl::StatusOr<std::optional<LearnerMessage>> Next(int64_t timeout_ms);

  // Takes a trajectory to deliver. One above kTrajectoryBytesMax is delivered
  // as OUTCOME_ENVIRONMENT_ERROR that says so, without what was in it: the
  // ledger accounts for the sample. ResourceExhausted if twice capacity_samples
  // are unacked already.
  absl::Status Send(Trajectory trajectory);

  // Whether the worker is to begin this sample of a lease that Next gave it:
  // not once the stream of the lease has ended, for others may have it by now.
  // Held from then on until its trajectory is acked.
  bool Begin(uint64_t lease, uint64_t group, uint32_t sample);

  // Says that `version` is sampled with from now on; said again on new streams.
  void AckWeights(uint64_t version);

  // What the following heartbeats report; the wait "credit" is added to it
  // while a trajectory waits for one. From the first call on the caller is
  // taken for hung if it does not call again within hung_ms: the stream ends
  // for good, so that the learner gives its leases to others, and Next returns
  // DeadlineExceeded.
  void SetHeartbeat(const Heartbeat& heartbeat);
  // Instead of hung_ms, from now on.
  void SetHungLimit(int64_t hung_ms);

  int unacked() const;

  // Waits until nothing is unacked. DeadlineExceeded says how much is.
  absl::Status WaitAcked(int64_t timeout_ms);

 private:
  class Session;

  explicit LearnerClient(const LearnerClientOptions& options);

  void Run();
  // Waits before the next stream; less if the client closes.
  void Pause(int64_t pause_us) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Of a session: all that comes but credits. False: no welcome to go on with.
  bool OnWelcome(LearnerMessage message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnMessage(LearnerMessage message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void HandOut(LearnerMessage message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Of the caller: see SetHeartbeat.
  void FailIfHung(int64_t now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Fail(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant after construction (welcome_: after Connect).
  const LearnerClientOptions options_;
  LearnerWelcome welcome_;

  mutable Mutex mutex_;
  CondVar changed_;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;  // the learner said stop
  absl::Status final_ ABSL_GUARDED_BY(mutex_);    // not OK: no more streams
  int connections_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t last_welcome_us_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<LearnerMessage> inbox_ ABSL_GUARDED_BY(mutex_);
  DeliveryQueue queue_ ABSL_GUARDED_BY(mutex_);
  uint64_t weights_version_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t weights_set_ ABSL_GUARDED_BY(mutex_) = 0;  // calls of AckWeights
  Heartbeat heartbeat_ ABSL_GUARDED_BY(mutex_);
  int64_t reported_us_ ABSL_GUARDED_BY(mutex_) = 0;  // 0: not yet
  int64_t hung_ms_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;
};

}  // namespace temper

#endif  // ROLLOUT_LEARNER_CLIENT_H_
