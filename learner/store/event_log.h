// logs/events.log: what the parent process saw of its children. run.db has one
// writer, the learner; the parent writes here, and the learner follows: what is
// here is in run.db within EventFollower::kPollMs. What comes while there is no
// learner is imported by whoever opens run.db next.
//
// A line is "at_us<TAB>process<TAB>kind<TAB>detail"; a torn line is left out.
// An event is told from others by its time, process and kind, so that reading
// a line again, after a resume too, records nothing twice.

#ifndef LEARNER_STORE_EVENT_LOG_H_
#define LEARNER_STORE_EVENT_LOG_H_

#include <cstdint>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "kernels/base/clock.h"
#include "kernels/base/mutex.h"
#include "learner/store/run_db.h"

namespace temper {

// Appends one event, durable when it returns OK. One process at a time.
absl::Status AppendEvent(const std::string& path, Clock* clock,
                         const std::string& process, const std::string& kind,
                         const std::string& detail);

// Records, as the current attempt's, the events of `path` that `db` does not
// have, from byte *offset on, which then is behind the last whole line. Fine
// where there is no file. On failure nothing is recorded, *offset is as it was.
absl::Status ImportEvents(const std::string& path, RunDb* db, uint64_t* offset);

// Imports what is there and, until it is destroyed, what comes: on a thread of
// its own, as a step may be long. The last look is the destructor's. `db`
// outlives it. A failure is logged and tried again.
class EventFollower {
 public:
  static constexpr int64_t kPollMs = 200;

  EventFollower(const std::string& path, RunDb* db);
  ~EventFollower();
  EventFollower(const EventFollower&) = delete;
  EventFollower& operator=(const EventFollower&) = delete;

 private:
  void Follow();

  const std::string path_;
  RunDb* const db_;
  Mutex mutex_;
  CondVar changed_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace temper

#endif  // LEARNER_STORE_EVENT_LOG_H_
