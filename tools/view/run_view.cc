#include "tools/view/run_view.h"

#include <sys/stat.h>

#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "tools/cli/next_step.h"

namespace temper {
namespace {

bool IsFile(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

}  // namespace

absl::StatusOr<std::string> FindRunDb(const std::string& run,
                                      const std::string& runs_dir) {
  const std::string directory = absl::StrCat(run, "/run.db");
  const std::string below = absl::StrCat(runs_dir, "/", run, "/run.db");
  // An absolute path names one place only.
  const bool absolute = !run.empty() && run[0] == '/';
  if (IsFile(run)) {
    // Any other file would be opened as SQLite and refused with words about a
    // database that nobody named.
    if (absl::EndsWith(run, "run.db")) return run;
    return absl::InvalidArgumentError(
        absl::StrCat(run, " is no run.db; ", kNameARun));
  }
  if (IsFile(directory)) return directory;
  if (!absolute && IsFile(below)) return below;
  return absl::NotFoundError(absl::StrCat(
      "no run at ", directory, absolute ? "" : absl::StrCat(" or ", below),
      "; ", kNameARun));
}

absl::StatusOr<std::unique_ptr<RunDb>> OpenRunDb(const std::string& path) {
  auto db = RunDb::OpenReader(path);
  RETURN_IF_ERROR(IfUnusable(db.status(), kNameARun));
  return db;
}

bool IsBeingWritten(const std::string& path) {
  struct stat lock;
  if (stat((path + ".writer").c_str(), &lock) != 0) return false;
  // To try the lock would be to hold it for a moment, in which a learner that
  // starts would be refused.
  std::ifstream locks("/proc/locks");
  const std::string inode = absl::StrCat(":", lock.st_ino, " ");
  for (std::string line; std::getline(locks, line);) {
    if (absl::StrContains(line, "FLOCK") && absl::StrContains(line, inode)) {
      return true;
    }
  }
  return false;
}

bool IsFinished(const RunConfig& config, const std::vector<StepView>& steps) {
  if (steps.empty() || steps.back().step < config.steps()) return false;
  return config.schedule().eval_tasks() == 0 ||
         steps.back().Metric("eval/dropped").has_value();
}

}  // namespace temper
