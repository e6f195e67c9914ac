// Whether a resume goes on with what a run has done: the checks that need its
// run.db, made before anything is written.
//
// Functions without state; thread-safe.

#ifndef TOOLS_RUN_RESUME_CHECK_H_
#define TOOLS_RUN_RESUME_CHECK_H_

#include <string>

#include "absl/status/statusor.h"
#include "proto/config.pb.h"

namespace temper {

// The device of a run that was begun before its configuration had one.
void FillInDevice(RunConfig* config);

// Whether the run at `dir` has done and evaluated all the steps of `config`.
// `file` is its config.textproto as it lies there, `config` the same with what
// the resume changes. InvalidArgument: the file or tasks.jsonl is not what the
// run began with, or there are fewer steps than are done. FailedPrecondition:
// run.db is of a version that this program does not know. A run.db that is
// damaged otherwise is the learner's to judge.
absl::StatusOr<bool> CheckGoesOn(const std::string& dir, const RunConfig& file,
                                 const RunConfig& config);

}  // namespace temper

#endif  // TOOLS_RUN_RESUME_CHECK_H_
