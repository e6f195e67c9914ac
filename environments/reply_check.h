// Whether what an environment gives is what environment.h says it may be: for
// who plays one that others wrote. A status that is not OK is Internal, the
// environment's own fault, and says what it gave and what is allowed.
//
// Functions without state; thread-safe.

#ifndef ENVIRONMENTS_REPLY_CHECK_H_
#define ENVIRONMENTS_REPLY_CHECK_H_

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "environments/environment.h"

namespace temper {

// Of Validate and Reset: messages that have roles, tools of unique names whose
// function_json is an object of that name; 2 MiB of both together at most.
absl::Status CheckObservation(const Observation& observation);

// Of Step, for `calls` calls.
absl::Status CheckResults(size_t calls, const std::vector<ToolResult>& results);

// Of Grade. Scores are checked where rewards are made of them
// (rewards/reward.h).
absl::Status CheckVerdict(const Verdict& verdict);

}  // namespace temper

#endif  // ENVIRONMENTS_REPLY_CHECK_H_
