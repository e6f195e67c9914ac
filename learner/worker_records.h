// What workers send and what becomes of them, put on record: trajectories into
// the buffer, comings and goings among run.db's events, waits into its table
// wait. The one writer of events about workers.
//
// Thread-safe; the pointers outlive it.

#ifndef LEARNER_WORKER_RECORDS_H_
#define LEARNER_WORKER_RECORDS_H_

#include <string>

#include "absl/status/statusor.h"
#include "learner/intake/trajectory_buffer.h"
#include "learner/intake/worker_observer.h"
#include "learner/store/run_records.h"

namespace temper {

class WorkerRecords final : public WorkerObserver {
 public:
  WorkerRecords(RunRecords* records, TrajectoryBuffer* buffer)
      : records_(records), buffer_(buffer) {}

  // A refusal is an event of the learner's. Errors as TrajectoryBuffer's.
  absl::StatusOr<TrajectoryAck> OnTrajectory(const TrajectoryKey& key,
                                             const std::string& bytes) override;
  void OnJoined(const std::string& worker,
                const std::string& computes) override;
  void OnLeft(const std::string& worker, const std::string& why,
              int samples) override;
  // Waits that cannot be written are logged.
  void OnHeartbeat(const std::string& worker,
                   const Heartbeat& heartbeat) override;

 private:
  RunRecords* const records_;
  TrajectoryBuffer* const buffer_;
};

}  // namespace temper

#endif  // LEARNER_WORKER_RECORDS_H_
