// Every environment, one line each in registry.cc.
//
// The table is a constant: functions thread-safe, facts never freed.

#ifndef ENVIRONMENTS_REGISTRY_H_
#define ENVIRONMENTS_REGISTRY_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "environments/environment.h"

namespace temper {

// The facts of every registered environment, by name.
std::vector<const EnvironmentFacts*> RegisteredEnvironments();

// The facts of `name`, or null if it is not registered.
const EnvironmentFacts* FindEnvironment(const std::string& name);

// A new episode of `name`, to be Reset. InvalidArgument, listing what there is,
// if it is not registered; FailedPrecondition if it needs a sandbox and
// `context` has none. What `context` points to must outlive the episode.
absl::StatusOr<std::unique_ptr<Environment>> NewEnvironment(
    const std::string& name, const EnvironmentContext& context);

// Environment::Validate of the environment that `task` names, with nothing that
// an episode needs. InvalidArgument, too, if it is not registered.
absl::StatusOr<Observation> ValidateTask(const Task& task);

}  // namespace temper

#endif  // ENVIRONMENTS_REGISTRY_H_
