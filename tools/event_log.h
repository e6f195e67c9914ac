// logs/events.log: what the parent process saw of its children. run.db has one
// writer, the learner; the parent writes here, and what is here goes into
// run.db when the learner is gone: at the end of `temper train`, or at the
// start of the next one where that was killed.
//
// A line is "at_us<TAB>process<TAB>kind<TAB>detail"; a torn last line is left
// out. Not thread-safe.

#ifndef TOOLS_EVENT_LOG_H_
#define TOOLS_EVENT_LOG_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "kernels/base/clock.h"

namespace temper {

// Appends one event, durable when it returns OK.
absl::Status AppendEvent(const std::string& path, Clock* clock,
                         const std::string& process, const std::string& kind,
                         const std::string& detail);

// Records the events of `path` that `run_db` does not have yet; fine where
// either file is missing. FailedPrecondition while another process writes
// run.db.
absl::Status ImportEvents(const std::string& path, const std::string& run_db,
                          Clock* clock);

}  // namespace temper

#endif  // TOOLS_EVENT_LOG_H_
