// In which lane of the job pool an environment's calls go.
//
// Calls of one lane hold up one another, so what a candidate or a user's
// program can make hang is apart from the rest. Where many environments have
// one server they share a lane, or a worker would ask more of it at a time than
// a lane has threads: a host with sandboxes counts on that (step_limits.h).
//
// A function without state; thread-safe.

#ifndef ROLLOUT_JOB_LANES_H_
#define ROLLOUT_JOB_LANES_H_

#include <map>
#include <string>
#include <vector>

#include "environments/environment.h"

namespace temper {

// By environment: one lane for all that a host serves, one for each registered
// one. Those that the worker itself serves are not in it: theirs is "".
std::map<std::string, std::string> JobLanes(
    const std::vector<const EnvironmentFacts*>& environments);

}  // namespace temper

#endif  // ROLLOUT_JOB_LANES_H_
