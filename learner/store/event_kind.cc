#include "learner/store/event_kind.h"

namespace temper {

// Names are for ever: readers, and the runs there are, go by them.
const char* NameOf(EventKind kind) {
  switch (kind) {
    case EventKind::kWorkerJoined:
      return "worker_joined";
    case EventKind::kWorkerLeft:
      return "worker_left";
    case EventKind::kTrajectoryRejected:
      return "trajectory_rejected";
    case EventKind::kTaskFailed:
      return "task_failed";
    case EventKind::kWeightsLate:
      return "weights_late";
    case EventKind::kMetricNotFinite:
      return "metric_not_finite";
    case EventKind::kCheckpointSkipped:
      return "checkpoint_skipped";
    case EventKind::kResumed:
      return "resumed";
  }
  return "";
}

}  // namespace temper
