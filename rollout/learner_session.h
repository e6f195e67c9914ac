// One stream of LearnerClient's, from connecting to its end: its hello, its
// heartbeats, its credits, what of a trajectory is still to be written. All of
// that dies with it; what must survive it is the client's.
//
// The client's thread runs it; gRPC calls the On... methods from its own
// threads. All state is under the client's mutex, and every change of it is
// told by the client's `changed_`.

#ifndef ROLLOUT_LEARNER_SESSION_H_
#define ROLLOUT_LEARNER_SESSION_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "grpcpp/grpcpp.h"
#include "proto/learner.grpc.pb.h"
#include "rollout/learner_client.h"

namespace temper {

class LearnerClient::Session
    : public grpc::ClientBidiReactor<WorkerMessage, LearnerMessage> {
 public:
  // Begins to connect. `client` outlives it.
  explicit Session(LearnerClient* client);

  // How a stream ended, and whether it was ever welcomed.
  struct End {
    absl::Status status;  // never OK
    bool welcomed = false;
  };
  // Until the learner closes it, it breaks, it is late, or the client wants no
  // more. Once.
  End Run();

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

 private:
  // Writes one message after another until the stream is to end.
  void Drive();
  bool IsOver(int64_t now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(client_->mutex_);
  // Asks gRPC for the end, and waits for it.
  void AwaitDone();
  void OnMessage(LearnerMessage message)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(client_->mutex_);
  // The next message to write; false if there is none yet.
  bool NextMessage(int64_t now, WorkerMessage* message)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(client_->mutex_);
  void MakeHello(WorkerHello* hello) const;
  void MakeHeartbeat(int64_t now, Heartbeat* heartbeat)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(client_->mutex_);
  // Stages the next trajectory that was not sent, if there is a credit for it.
  void StageNext(int64_t now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(client_->mutex_);
  bool PeerIsSilent(int64_t now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(client_->mutex_);
  // Whether the next trajectory waits for a credit for longer than allowed.
  bool CreditIsLate(int64_t now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(client_->mutex_);

  LearnerClient* const client_;
  grpc::ClientContext context_;
  std::unique_ptr<Learner::Stub> stub_;
  LearnerMessage incoming_;        // gRPC's while a read is out
  WorkerMessage outgoing_;         // gRPC's while a write is out
  std::atomic<bool> made_{false};  // and the call is about to be started
  std::atomic<bool> finishing_{false};

  bool hello_sent_ ABSL_GUARDED_BY(client_->mutex_) = false;
  bool welcomed_ ABSL_GUARDED_BY(client_->mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(client_->mutex_) = false;   // no more reads
  bool writing_ ABSL_GUARDED_BY(client_->mutex_) = false;  // or no more writes
  bool done_ ABSL_GUARDED_BY(client_->mutex_) = false;
  absl::Status done_status_ ABSL_GUARDED_BY(client_->mutex_);
  int64_t weights_said_ ABSL_GUARDED_BY(client_->mutex_) = 0;
  int64_t heard_us_ ABSL_GUARDED_BY(client_->mutex_);
  int64_t heartbeat_us_ ABSL_GUARDED_BY(client_->mutex_);
  std::deque<WorkerMessage> staged_ ABSL_GUARDED_BY(client_->mutex_);
  uint64_t credits_ ABSL_GUARDED_BY(client_->mutex_) = 0;
  // Since when a trajectory waits for a credit; 0: none does.
  int64_t credit_wait_us_ ABSL_GUARDED_BY(client_->mutex_) = 0;
};

}  // namespace temper

#endif  // ROLLOUT_LEARNER_SESSION_H_
