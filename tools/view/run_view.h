// A run as a user names it: where its run.db is, whether it is being written,
// whether it is whole. What is in it says learner/store/run_reader.h.
//
// Functions without state; thread-safe.

#ifndef TOOLS_VIEW_RUN_VIEW_H_
#define TOOLS_VIEW_RUN_VIEW_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "learner/store/run_db.h"
#include "learner/store/run_reader.h"
#include "proto/config.pb.h"

namespace temper {

// The run.db of a run given as a user does: a run directory, run.db itself, or
// the name of a run under `runs_dir`. NotFound says where it was looked for,
// InvalidArgument that another file was named.
absl::StatusOr<std::string> FindRunDb(const std::string& run,
                                      const std::string& runs_dir);

// As RunDb::OpenReader of what FindRunDb found; what is no run.db of ours is
// InvalidArgument and says what to name.
absl::StatusOr<std::unique_ptr<RunDb>> OpenRunDb(const std::string& path);

// Whether a process of this machine, the learner, has the run.db at `path` open
// for writing.
bool IsBeingWritten(const std::string& path);

// Whether `steps`, which end with the last, are all that `config` asks for, and
// the evaluation after them is whole.
bool IsFinished(const RunConfig& config, const std::vector<StepView>& steps);

}  // namespace temper

#endif  // TOOLS_VIEW_RUN_VIEW_H_
