// What may happen in a run, as run.db's table event tells it: of the learner
// and its workers. What the parent process saw of its children comes by another
// way and has its own kinds (learner/store/event_log.h).

#ifndef LEARNER_STORE_EVENT_KIND_H_
#define LEARNER_STORE_EVENT_KIND_H_

namespace temper {

enum class EventKind {
  kWorkerJoined,
  kWorkerLeft,
  kTrajectoryRejected,
  kTaskFailed,
  kWeightsLate,
  kMetricNotFinite,
  kCheckpointSkipped,
  kResumed,
};

// As it stands in the column `kind`: "worker_joined", ...
const char* NameOf(EventKind kind);

}  // namespace temper

#endif  // LEARNER_STORE_EVENT_KIND_H_
