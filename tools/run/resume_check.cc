#include "tools/run/resume_check.h"

#include <sys/stat.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "learner/store/run_db.h"
#include "learner/store/run_records.h"
#include "tools/config/config.h"
#include "tools/view/run_view.h"

namespace temper {
namespace {

// `file` as a person may have edited it, against what the last attempt ran
// with, which run.db has.
absl::Status CheckSameConfig(const std::string& dir, const RunInfo& was,
                             const RunConfig& file) {
  auto began = ParseConfig(was.config, dir + "/run.db");
  // An earlier version's may have keys that are none any more: it stands for
  // nothing that could be compared. So does the none of a run without one.
  if (was.config.empty() || !began.ok()) return absl::OkStatus();
  // Where things lie may change: a run that was moved says so in its file.
  began->set_model(file.model());
  began->set_runs_dir(file.runs_dir());
  *began->mutable_tasks() = file.tasks();
  if (!ResolveConfig(&*began).ok()) return absl::OkStatus();
  RunConfig now = file;
  FillInDevice(&*began);
  FillInDevice(&now);
  const absl::Status same = CheckResume(*began, now);
  if (same.ok()) return same;
  return absl::InvalidArgumentError(
      absl::StrCat(dir, "/config.textproto: ", std::string(same.message())));
}

}  // namespace

void FillInDevice(RunConfig* config) {
  if (config->device() != RunConfig::auto_) return;
  config->set_device(RunConfig::cpu);
}

absl::StatusOr<bool> CheckGoesOn(const std::string& dir, const RunConfig& file,
                                 const RunConfig& config) {
  const std::string run_db = dir + "/run.db";
  struct stat info;
  if (stat(run_db.c_str(), &info) != 0) return false;
  const auto db = RunDb::OpenReader(run_db);
  // A version that the learner would refuse; the rest is the learner's to
  // judge.
  if (absl::IsFailedPrecondition(db.status())) return db.status();
  if (!db.ok()) return false;
  const auto was = (*db)->ReadRun();
  if (was.ok()) RETURN_IF_ERROR(CheckSameConfig(dir, *was, file));
  if (was.ok() && !was->tasks_sha256.empty()) {
    ASSIGN_OR_RETURN(const std::string now, TasksSha256(dir));
    RETURN_IF_ERROR(CheckSameTasks(*was, now, dir));
  }
  ASSIGN_OR_RETURN(const int64_t done, ReadCheckpointStep(db->get()));
  if (config.steps() < done) {
    return absl::InvalidArgumentError(
        absl::StrCat("steps ", config.steps(), " is less than the ", done,
                     " that ", dir, " has done; give ", done, " or more"));
  }
  if (config.steps() > done) return false;
  ASSIGN_OR_RETURN(const auto steps, ReadSteps(db->get(), done - 1));
  return IsFinished(config, steps);
}

}  // namespace temper
