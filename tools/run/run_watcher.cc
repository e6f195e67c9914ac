#include "tools/run/run_watcher.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"
#include "tools/cli/print.h"
#include "tools/run/supervisor.h"
#include "tools/view/run_view.h"

namespace temper {
namespace {

constexpr int kCurveColumns = 60;
constexpr int kCurveRows = 10;
constexpr size_t kEpisodeChars = 700;
constexpr size_t kLogsMax = 4;
constexpr size_t kLogChars = 300;

}  // namespace

RunWatcher::RunWatcher(const std::string& run_dir, int64_t steps_total,
                       Clock* clock)
    : run_dir_(run_dir),
      path_(run_dir + "/run.db"),
      steps_total_(steps_total),
      clock_(clock),
      printed_us_(clock->MonotonicMicros()),
      well_us_(printed_us_) {
  // What an earlier attempt left must not be taken for news of this one.
  if (Open()) attempt_before_ = db_->CurrentAttempt().value_or(0);
}

bool RunWatcher::Open() {
  if (db_ != nullptr) return true;
  // The learner makes it; until then there is nothing to say of it.
  if (access(path_.c_str(), R_OK) != 0) return false;
  auto db = RunDb::OpenReader(path_);
  if (db.ok()) db_ = *std::move(db);
  return db_ != nullptr;
}

bool RunWatcher::Begun() {
  if (begun_) return true;
  if (!Open()) return false;
  const auto attempt = ReadAttempt(db_.get());
  // A resumed learner first rolls back what came after its checkpoint: before
  // that, run.db holds steps that will be gone.
  if (!attempt.ok() || attempt->attempt <= attempt_before_) return false;
  auto steps = ReadSteps(db_.get(), 0);
  if (!steps.ok()) return false;
  // For the time left, which is estimated over all steps; they are not printed
  // again.
  for (StepView& step : *steps) {
    if (step.step <= attempt->base_step) steps_.push_back(std::move(step));
  }
  if (attempt->base_step > 0) {
    PrintOut("going on after step %d\n", attempt->base_step);
  }
  begun_ = true;
  printed_us_ = well_us_ = clock_->MonotonicMicros();
  quiet_us_ = kQuietUs;
  return true;
}

void RunWatcher::WarnOfFailedTasks() {
  const auto failed = ReadNewFailedTasks(db_.get(), attempt_before_, failure_);
  if (!failed.ok()) return;
  for (const FailedTaskView& view : *failed) {
    failure_ = view.id;
    // A broken environment fails them all: beyond the first ones their number
    // is the news.
    if (++failed_tasks_ > kFailedTasksShown) continue;
    PrintErr("warning: %s\n", Lines{FormatFailedTask(view)});
    failed_told_ = failed_tasks_;
  }
  const int64_t now = clock_->MonotonicMicros();
  if (failed_tasks_ == failed_told_ ||
      (failed_told_ > kFailedTasksShown &&
       now - failed_told_us_ < kFailedToldUs)) {
    return;
  }
  PrintErr(
      "warning: %d tasks got no reward so far; table task_failure of %s has "
      "them all\n",
      failed_tasks_, path_);
  failed_told_ = failed_tasks_;
  failed_told_us_ = now;
}

void RunWatcher::PrintNew() {
  const int64_t now = clock_->MonotonicMicros();
  bool printed = false;
  if (Begun()) {
    WarnOfFailedTasks();
    const auto steps = ReadSteps(db_.get(), last_step());
    if (!steps.ok()) return;
    for (const StepView& step : *steps) {
      steps_.push_back(step);
      PrintOut("%s", Lines{FormatStep(step, steps_total_,
                                      RemainingSeconds(steps_, steps_total_))});
    }
    fflush(stdout);
    printed = !steps->empty();
  }
  if (printed) {
    well_us_ = now;
    quiet_us_ = kQuietUs;
  } else if (now - printed_us_ > quiet_us_) {
    PrintStillAlive();
    printed = true;
  }
  if (printed) printed_us_ = now;
}

absl::Status RunWatcher::PrintSummary() {
  if (!Open()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto steps, ReadSteps(db_.get(), 0));
  PrintOut("\n%s", Lines{DrawRewardCurve(steps, kCurveColumns, kCurveRows)});
  ASSIGN_OR_RETURN(const auto evaluations, ReadEvaluations(db_.get()));
  PrintOut("\n%s", Lines{FormatBeforeAfter(evaluations)});
  ASSIGN_OR_RETURN(const auto failed, ReadFailedTasks(db_.get()));
  if (!failed.empty()) PrintOut("\n%s", Lines{FormatFailedTasks(failed)});
  // What was learnt, in words: numbers alone convince nobody.
  ASSIGN_OR_RETURN(const auto picked, PickEpisodes(db_.get()));
  if (!picked.has_value()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto before, ReadEpisode(db_.get(), picked->before));
  ASSIGN_OR_RETURN(const auto after, ReadEpisode(db_.get(), picked->after));
  PrintOut("\n%s\n%s", Lines{FormatEpisode("before", before, kEpisodeChars)},
           Lines{FormatEpisode("after", after, kEpisodeChars)});
  return absl::OkStatus();
}

absl::StatusOr<int64_t> RunWatcher::CheckpointStep() {
  if (!Open()) return 0;
  return ReadCheckpointStep(db_.get());
}

void RunWatcher::PrintStillAlive() {
  if (!begun_) return PrintInVain("the learner has not begun", {"learner"});
  const auto workers = CountWorkers(db_.get());
  const auto counts = CountStates(db_.get(), PURPOSE_TRAIN);
  const auto evaluations = ReadEvaluations(db_.get());
  // The learner may hold the database for a moment; the next look is near.
  if (!workers.ok() || !counts.ok() || !evaluations.ok()) return;
  if (*workers <= 0) {
    return PrintInVain("no worker is connected to the learner", Workers());
  }
  well_us_ = clock_->MonotonicMicros();
  quiet_us_ = kQuietUs;
  int64_t evaluated = 0;
  for (const EvalView& view : *evaluations) evaluated += view.episodes;
  std::vector<std::string> parts = {
      absl::StrCat(evaluated, " episodes evaluated")};
  for (const auto& [state, count] : *counts) {
    parts.push_back(absl::StrCat(count, " samples ", state));
  }
  PrintErr("after step %d: %s\n", last_step(), absl::StrJoin(parts, ", "));
}

void RunWatcher::PrintInVain(const std::string& what,
                             const std::vector<std::string>& processes) {
  const int64_t seconds = (clock_->MonotonicMicros() - well_us_) / 1'000'000;
  PrintErr("%s for %d s; the last lines of %s/logs:\n", what, seconds,
           run_dir_);
  for (size_t i = 0; i < std::min(processes.size(), kLogsMax); ++i) {
    std::string line =
        LastLines(absl::StrCat(run_dir_, "/logs/", processes[i], ".log"),
                  /*lines_max=*/1);
    absl::StripTrailingAsciiWhitespace(&line);
    line.resize(std::min(line.size(), kLogChars));
    // The cut may have gone through a character.
    line.resize(ValidUtf8Prefix(line));
    PrintErr("  %s: %s\n", processes[i],
             line.empty() ? "(nothing)" : line.c_str());
  }
  if (processes.size() > kLogsMax) {
    PrintErr("  and %d more\n", processes.size() - kLogsMax);
  }
  // First soon, so that nobody stares at a silent terminal; then ever less
  // often, for it says the same.
  quiet_us_ = std::min(2 * quiet_us_, kQuietUsMax);
}

// Those that ever wrote a log.
std::vector<std::string> RunWatcher::Workers() const {
  const auto files = ListDirectory(run_dir_ + "/logs");
  std::vector<std::string> workers;
  if (!files.ok()) return workers;
  for (const std::string& file : *files) {
    if (absl::StartsWith(file, "worker-") && absl::EndsWith(file, ".log")) {
      workers.push_back(file.substr(0, file.size() - strlen(".log")));
    }
  }
  return workers;
}

}  // namespace temper
