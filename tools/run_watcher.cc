#include "tools/run_watcher.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/status_macros.h"
#include "tools/run_view.h"

namespace temper {
namespace {

constexpr int64_t kQuietUs = 20'000'000;
constexpr int kCurveColumns = 60;
constexpr int kCurveRows = 10;
constexpr size_t kEpisodeChars = 700;

}  // namespace

RunWatcher::RunWatcher(const std::string& run_dir, int64_t steps_total)
    : path_(run_dir + "/run.db"), steps_total_(steps_total) {
  if (!Open()) return;
  attempt_before_ = db_->CurrentAttempt().value_or(0);
  const auto failed = ReadFailedTasks(db_.get(), 0);
  if (failed.ok() && !failed->empty()) failed_event_ = failed->back().event;
}

bool RunWatcher::Open() {
  if (db_ != nullptr) return true;
  if (access(path_.c_str(), R_OK) != 0) return false;
  auto db = RunDb::OpenReader(path_);
  if (db.ok()) db_ = *std::move(db);
  return db_ != nullptr;
}

bool RunWatcher::Begun() {
  if (begun_) return true;
  if (!Open()) return false;
  const auto attempt = ReadAttempt(db_.get());
  if (!attempt.ok() || attempt->attempt <= attempt_before_) return false;
  auto steps = ReadSteps(db_.get(), 0);
  if (!steps.ok()) return false;
  for (StepView& step : *steps) {
    if (step.step <= attempt->base_step) steps_.push_back(std::move(step));
  }
  if (attempt->base_step > 0) {
    printf("going on after step %lld\n",
           static_cast<long long>(attempt->base_step));
  }
  begun_ = true;
  return true;
}

void RunWatcher::WarnOfFailedTasks() {
  const auto failed = ReadFailedTasks(db_.get(), failed_event_);
  if (!failed.ok()) return;
  for (const FailedTaskView& view : *failed) {
    failed_event_ = std::max(failed_event_, view.event);
    if (++failed_tasks_ <= kFailedTasksShown) {
      fprintf(stderr, "warning: %s\n", OneLine(view.detail).c_str());
    } else if (failed_tasks_ == kFailedTasksShown + 1) {
      fprintf(stderr,
              "warning: more tasks get no reward; they are counted at "
              "the end\n");
    }
  }
}

void RunWatcher::PrintNew() {
  if (!Begun()) return;
  WarnOfFailedTasks();
  const auto steps = ReadSteps(db_.get(), last_step());
  if (!steps.ok()) return;
  for (const StepView& step : *steps) {
    steps_.push_back(step);
    printf("%s", FormatStep(step, steps_total_,
                            RemainingSeconds(steps_, steps_total_))
                     .c_str());
  }
  const int64_t now = SystemClock()->MonotonicMicros();
  if (!steps->empty()) {
    fflush(stdout);
    printed_us_ = now;
  } else if (now - printed_us_ > kQuietUs) {
    PrintStillAlive();
    printed_us_ = now;
  }
}

absl::Status RunWatcher::PrintSummary() {
  if (!Open()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto steps, ReadSteps(db_.get(), 0));
  printf("\n%s", DrawRewardCurve(steps, kCurveColumns, kCurveRows).c_str());
  ASSIGN_OR_RETURN(const auto evaluations, ReadEvaluations(db_.get()));
  printf("\n%s", FormatBeforeAfter(evaluations).c_str());
  ASSIGN_OR_RETURN(const auto failed, ReadFailedTasks(db_.get(), 0));
  std::vector<std::string> details;
  for (const FailedTaskView& view : failed) details.push_back(view.detail);
  if (!details.empty()) printf("\n%s", FormatFailedTasks(details).c_str());
  ASSIGN_OR_RETURN(const auto picked, PickEpisodes(db_.get()));
  if (!picked.has_value()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto before, ReadEpisode(db_.get(), picked->before));
  ASSIGN_OR_RETURN(const auto after, ReadEpisode(db_.get(), picked->after));
  printf("\n%s\n%s", FormatEpisode("before", before, kEpisodeChars).c_str(),
         FormatEpisode("after", after, kEpisodeChars).c_str());
  return absl::OkStatus();
}

absl::StatusOr<int64_t> RunWatcher::CheckpointStep() {
  if (!Open()) return 0;
  return ReadCheckpointStep(db_.get());
}

void RunWatcher::PrintStillAlive() {
  const auto counts = CountStates(db_.get(), PURPOSE_TRAIN);
  const auto evaluations = ReadEvaluations(db_.get());
  if (!counts.ok() || !evaluations.ok()) return;
  int64_t evaluated = 0;
  for (const EvalView& view : *evaluations) evaluated += view.episodes;
  std::vector<std::string> parts = {
      absl::StrCat(evaluated, " episodes evaluated")};
  for (const auto& [state, count] : *counts) {
    parts.push_back(absl::StrCat(count, " samples ", state));
  }
  fprintf(stderr, "after step %lld: %s\n", static_cast<long long>(last_step()),
          absl::StrJoin(parts, ", ").c_str());
}

}  // namespace temper
