// The run directory before any process starts: its name, its resolved
// configuration, its tasks.
//
//   <runs_dir>/<name>/{config.textproto, tasks.jsonl, environments.jsonl,
//                      model/, logs/, train.lock}
//
// A run is of one `temper train` at a time, the holder of its train.lock.
//
// Functions without state.

#ifndef TOOLS_RUN_RUN_SETUP_H_
#define TOOLS_RUN_RUN_SETUP_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "environments/environment_set.h"
#include "kernels/base/file_lock.h"
#include "kernels/model/config.h"
#include "kernels/model/weights_file.h"
#include "proto/config.pb.h"
#include "proto/registration.pb.h"
#include "proto/task.pb.h"
#include "tools/run/compute.h"

namespace temper {

// A run that processes can be started on.
struct PreparedRun {
  std::string dir;  // absolute
  // Resolved; name, environments and device filled in, every path absolute.
  RunConfig config;
  // Of the device that config has; not chosen where there is nothing to do.
  BackendChoice compute;
  ModelConfig model;
  StoredCodes codes;  // of the configured model, where its weights are read
  int64_t prompt_tokens = 0;  // of the longest prompt
  // Tasks by (environment, split), for the plan.
  std::map<std::pair<std::string, std::string>, int64_t> task_counts;
  // Of the environments that are not in the table; environments.jsonl has them.
  std::vector<Registration> registrations;
  // Of every step that it is to have there is a checkpoint, and the evaluation
  // after the last is whole.
  bool finished = false;
  // The run is this process's for as long as it holds this.
  std::unique_ptr<FileLock> lock;
};

// Makes the directory of a new run from a configuration as the user gave it,
// and the registry file of the working directory, if there is one;
// `config_path` names the run where `name` is empty, with `unix_seconds`.
// InvalidArgument or NotFound names what is wrong with a key, the model, any of
// the tasks, what the device lacks, or that the directory exists, and
// ResourceExhausted that a process may have too few files open; nothing is made
// then. Of two that make the same run at once, one is told that it exists.
absl::StatusOr<PreparedRun> PrepareRun(RunConfig config,
                                       const std::string& config_path,
                                       int64_t unix_seconds);

// The directory of the run that `run` names: the directory, its run.db, or a
// name below `runs_dir`. Known by its configuration: where a learner died at
// once there is no run.db. NotFound says where it looked, or what a killed
// `temper train` left there.
absl::StatusOr<std::string> FindRunDir(const std::string& run,
                                       const std::string& runs_dir);

// A run that is there already, to go on with: `sets` may change what a resume
// may change, and config.textproto then says so. The kind of device stays: one
// that is not there now is InvalidArgument, unless the run is finished, which
// needs none. FailedPrecondition while
// another holds the run or its learner lives; on any error config.textproto is
// what it was.
absl::StatusOr<PreparedRun> ReopenRun(const std::string& dir,
                                      const std::vector<std::string>& sets);

// The resolved configuration of a run directory. NotFound says what to name.
absl::StatusOr<RunConfig> ReadRunConfig(const std::string& dir);

}  // namespace temper

#endif  // TOOLS_RUN_RUN_SETUP_H_
