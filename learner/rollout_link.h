// The learner's side of its rollout workers: what is wanted of them (task
// queue, leases), what they send (door, trajectory buffer), what they sample
// with (weight publication), and the service that all of it travels by.
//
//   Open -> Publish (the first weights) -> Serve -> Publish, AwaitWorkers, ...
//
// The loop's thread calls; streams come and go on the service's own threads,
// which use the thread-safe parts only.

#ifndef LEARNER_ROLLOUT_LINK_H_
#define LEARNER_ROLLOUT_LINK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/clock.h"
#include "kernels/model/config.h"
#include "kernels/model/published_weights.h"
#include "kernels/tensor/tensor.h"
#include "learner/intake/learner_service.h"
#include "learner/intake/lease_broker.h"
#include "learner/intake/task_queue.h"
#include "learner/intake/trajectory_buffer.h"
#include "learner/intake/trajectory_door.h"
#include "learner/intake/weight_publisher.h"
#include "learner/learner_wait.h"
#include "learner/store/run_records.h"
#include "learner/train/learner_state.h"
#include "learner/worker_records.h"
#include "proto/config.pb.h"

namespace temper {

class RolloutLink {
 public:
  // Reads <run_dir>/tasks.jsonl into run.db and the queue, and binds the weight
  // sockets. `records` outlives the link.
  static absl::StatusOr<std::unique_ptr<RolloutLink>> Open(
      const std::string& run_dir, const RunConfig& config,
      const ModelConfig& model, RunRecords* records);
  // Ends every stream that is still there.
  ~RolloutLink() = default;

  // Publishes the weights as counters.weight_version, made by counters.step
  // steps, records that, and leases nothing more to workers without them.
  // AlreadyExists for a version that was published with other bytes.
  absl::Status Publish(const LearnerCounters& counters,
                       const PublishedWeights& weights);

  // Lets workers in; their address is in <run_dir>/learner.address from then
  // on. `device` is what the learner computes on. After the first Publish.
  absl::Status Serve(Device device);

  // Waits until every connected worker has the published weights. Workers that
  // are not ready by `deadline_ms` are recorded as an event and get no leases
  // until they are; the others go on. False: the run is to stop.
  bool AwaitWorkers(const WaitContext& context, int64_t deadline_ms);

  // From the beginning of the last Publish until every worker had it, or was
  // given up on; known once AwaitWorkers was through.
  double sync_seconds() const { return sync_seconds_; }

  // Asks every worker to finish and waits until they have left, for
  // `deadline_ms` at most; the destructor ends the streams still there.
  void Shutdown(const WaitContext& context, const std::string& reason,
                int64_t deadline_ms);

  TaskQueue* queue() { return queue_.get(); }
  TrajectoryBuffer* buffer() { return buffer_.get(); }

 private:
  RolloutLink(std::string run_dir, const RunConfig& config, RunRecords* records)
      : run_dir_(std::move(run_dir)), config_(config), records_(records) {}
  absl::Status OpenQueue();
  absl::Status OpenBuffer(const ModelConfig& model);

  const std::string run_dir_;
  const RunConfig config_;
  RunRecords* const records_;
  std::unique_ptr<TaskQueue> queue_;
  std::unique_ptr<TrajectoryBuffer> buffer_;
  std::unique_ptr<WorkerRecords> worker_records_;
  std::unique_ptr<LeaseBroker> broker_;
  std::unique_ptr<WeightPublisher> publisher_;
  Clock* const clock_ = SystemClock();
  uint64_t version_ = 0;
  int64_t published_us_ = 0;
  bool synced_ = false;
  double sync_seconds_ = 0;
  std::unique_ptr<LearnerService> service_;  // the first to go
};

}  // namespace temper

#endif  // LEARNER_ROLLOUT_LINK_H_
