// What the learner's service tells of its workers: to whom they are known, who
// takes in what they send.

#ifndef LEARNER_INTAKE_WORKER_OBSERVER_H_
#define LEARNER_INTAKE_WORKER_OBSERVER_H_

#include <string>

#include "absl/status/statusor.h"
#include "proto/learner.pb.h"
#include "proto/trajectory.pb.h"

namespace temper {

// Called from any stream's thread, also from several at once; of one worker in
// this order: OnJoined, any of the others, OnLeft.
class WorkerObserver {
 public:
  virtual ~WorkerObserver() = default;

  // The bytes that came for the sample of `key`: commit, then answer. An error
  // is the learner's own failure (a full disk): nothing is acked and the
  // stream ends.
  virtual absl::StatusOr<TrajectoryAck> OnTrajectory(
      const TrajectoryKey& key, const std::string& bytes) = 0;

  // `computes`: "fp32 on cpu".
  virtual void OnJoined(const std::string& worker,
                        const std::string& computes) = 0;
  // Its stream has ended, `why`; the `samples` that it held are available
  // again.
  virtual void OnLeft(const std::string& worker, const std::string& why,
                      int samples) = 0;
  virtual void OnHeartbeat(const std::string& worker,
                           const Heartbeat& heartbeat) = 0;
};

}  // namespace temper

#endif  // LEARNER_INTAKE_WORKER_OBSERVER_H_
