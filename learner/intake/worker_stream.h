// One worker's stream of Learner.Connect, at the learner's end. The gRPC thread
// reads; a second one runs WriteLoop: heartbeats, what was sent, and the leases
// that the broker has for the worker.
//
// Neither waits for the worker without limit: a read on which nothing comes and
// a write that is not taken are cut off by the watchdog, and with them the
// stream.
//
// Thread-safe but for what is said to be the gRPC thread's.

#ifndef LEARNER_INTAKE_WORKER_STREAM_H_
#define LEARNER_INTAKE_WORKER_STREAM_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "grpcpp/grpcpp.h"
#include "kernels/base/mutex.h"
#include "learner/intake/call_watchdog.h"
#include "learner/intake/lease_broker.h"
#include "proto/learner.grpc.pb.h"

namespace temper {

class WorkerStream {
 public:
  using Stream = grpc::ServerReaderWriter<LearnerMessage, WorkerMessage>;

  // All pointers outlive the object.
  WorkerStream(LeaseBroker* broker, CallWatchdog* watchdog,
               int64_t heartbeat_interval_ms, grpc::ServerContext* context,
               Stream* stream)
      : broker_(broker),
        watchdog_(watchdog),
        heartbeat_interval_ms_(heartbeat_interval_ms),
        context_(context),
        stream_(stream) {}
  WorkerStream(const WorkerStream&) = delete;
  WorkerStream& operator=(const WorkerStream&) = delete;

  // The worker's next message; false once the stream has ended. The gRPC
  // thread's.
  bool Read(WorkerMessage* message) { return ReadUnder(watchdog_, message); }
  // The same, of its first, within another watchdog's deadline.
  bool ReadHello(CallWatchdog* watchdog, WorkerMessage* message) {
    return ReadUnder(watchdog, message);
  }

  // Queues a message. A worker that lets kOutboxMax pile up is cut off.
  void Send(LearnerMessage message);

  // Lets the worker begin so many trajectories more. The gRPC thread's.
  void Grant(uint32_t trajectories);
  // The worker begins one: InvalidArgument if it was granted none.
  absl::Status SpendCredit();

  // Writes until EndWriting or until the stream ends; leases are `worker`'s.
  void WriteLoop(const std::string& worker);
  void EndWriting() { ending_.store(true); }

  // Ends the stream; the first reason is the one that is kept.
  void Cancel(const std::string& reason);
  // Why the stream ended: the reason of a cut or a Cancel, else that it did.
  std::string EndReason() const;

  // Held while a trajectory is answered, and while a lease is taken: the ack of
  // a try goes out before the lease of the next.
  Mutex* lease_order() ABSL_LOCK_RETURNED(lease_order_) {
    return &lease_order_;
  }

  static constexpr size_t kOutboxMax = 4096;

 private:
  bool ReadUnder(CallWatchdog* watchdog, WorkerMessage* message);
  bool Write(const LearnerMessage& message);
  bool WriteOne(const std::string& worker);
  bool TakeLease(const std::string& worker);
  bool PopOutbox(LearnerMessage* message);

  LeaseBroker* const broker_;
  CallWatchdog* const watchdog_;
  const int64_t heartbeat_interval_ms_;
  grpc::ServerContext* const context_;
  Stream* const stream_;
  uint64_t credits_ = 0;  // the gRPC thread's
  std::atomic<bool> ending_{false};
  Mutex lease_order_;
  mutable Mutex mutex_;
  std::deque<LearnerMessage> outbox_ ABSL_GUARDED_BY(mutex_);
  std::string end_reason_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace temper

#endif  // LEARNER_INTAKE_WORKER_STREAM_H_
