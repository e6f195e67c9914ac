#include "learner/worker_records.h"

#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {

absl::StatusOr<TrajectoryAck> WorkerRecords::OnTrajectory(
    const TrajectoryKey& key, const std::string& bytes) {
  ASSIGN_OR_RETURN(const Receipt receipt, buffer_->Receive(key, bytes));
  TrajectoryAck ack;
  switch (receipt.result) {
    case Receipt::Result::kCommitted:
      ack.set_result(TrajectoryAck::COMMITTED);
      break;
    case Receipt::Result::kDuplicate:
      ack.set_result(TrajectoryAck::DUPLICATE);
      break;
    case Receipt::Result::kRejected:
      ack.set_result(TrajectoryAck::REJECTED);
      ack.set_reason(receipt.reason);
      records_->Event(RunRecords::kLearner, EventKind::kTrajectoryRejected,
                      receipt.reason);
      break;
  }
  return ack;
}

void WorkerRecords::OnJoined(const std::string& worker,
                             const std::string& computes) {
  records_->Event(worker, EventKind::kWorkerJoined, computes);
}

void WorkerRecords::OnLeft(const std::string& worker, const std::string& why,
                           int samples) {
  records_->Event(worker, EventKind::kWorkerLeft,
                  absl::StrCat(why, "; ", samples, " samples return"));
  // It waits for nothing any more, and no heartbeat will say so.
  OnHeartbeat(worker, Heartbeat());
}

void WorkerRecords::OnHeartbeat(const std::string& worker,
                                const Heartbeat& heartbeat) {
  std::vector<WaitRecord> waits;
  for (const WaitState& wait : heartbeat.waits()) {
    waits.push_back({wait.name(), static_cast<int64_t>(wait.elapsed_ms()),
                     static_cast<int64_t>(wait.deadline_ms())});
  }
  if (const absl::Status status = records_->db()->RecordWaits(worker, waits);
      !status.ok()) {
    LOG(WARNING) << "waits of " << worker << ": " << status;
  }
}

}  // namespace temper
