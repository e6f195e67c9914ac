// The tasks of a run: where they come from, and whether they go with its
// configuration.
//
// Functions without state; main's thread.

#ifndef TOOLS_RUN_RUN_TASKS_H_
#define TOOLS_RUN_RUN_TASKS_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "environments/environment_set.h"
#include "proto/config.pb.h"
#include "proto/task.pb.h"

namespace temper {

// The generator of tasks, as the key `tasks` names it.
inline constexpr char kQuickstartTasks[] = "quickstart";

// The tasks that `config` names, of generators and files, in their order; ids
// are unique among all of them. One without a domain has that of its
// environment's name, if the configuration has such a domain. `check`, unless
// it is empty, is asked of each as it is read; what it or the file's reader
// refuses is gathered and is one InvalidArgument, by the file's lines
// (kernels/base/fault_list.h); another error of its is returned at once. Tells
// stderr how far it is when that takes long.
absl::StatusOr<std::vector<Task>> MakeTasks(
    const RunConfig& config,
    const std::function<absl::Status(const Task&)>& check);

// Those of the file `path`, checked as above.
absl::StatusOr<std::vector<Task>> ReadTasks(
    const std::string& path,
    const std::function<absl::Status(const Task&)>& check);

// Checks tasks against the configuration: known environments (filled in where
// none are named), enough held-out tasks, domains that exist.
absl::Status CheckTasks(const std::vector<Task>& tasks,
                        const EnvironmentSet& environments, RunConfig* config);

}  // namespace temper

#endif  // TOOLS_RUN_RUN_TASKS_H_
