#include "learner/evaluation.h"

#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "learner/train/batch_metrics.h"
#include "learner/trajectory_wait.h"

namespace temper {
namespace {

// Of every whole evaluation, and written with its other metrics.
constexpr char kDropped[] = "eval/dropped";

}  // namespace

std::vector<std::string> Evaluation::TaskIds() const {
  return queue_->HeldOutTaskIds(options_.tasks);
}

absl::StatusOr<bool> Evaluation::IsDone(int64_t step) {
  if (TaskIds().empty()) return true;
  return context_.db->HasMetric(step, kDropped);
}

absl::StatusOr<bool> Evaluation::IsUnfinished(int64_t step) {
  ASSIGN_OR_RETURN(const bool done, IsDone(step));
  if (done) return false;
  ASSIGN_OR_RETURN(const auto samples, ledger_->EvaluatedSamples(step));
  return !samples.empty();
}

absl::StatusOr<bool> Evaluation::Run(int64_t step) {
  ASSIGN_OR_RETURN(const bool done, IsDone(step));
  if (done) return true;
  std::set<std::string> evaluated;
  ASSIGN_OR_RETURN(const auto samples, ledger_->EvaluatedSamples(step));
  for (const EvaluatedSample& sample : samples) {
    evaluated.insert(sample.task_id);
  }
  std::vector<std::string> wanted;
  // A task that got no reward in all its retries is asked again after a resume:
  // nothing of it counts yet.
  for (const std::string& id : TaskIds()) {
    if (evaluated.count(id) == 0) wanted.push_back(id);
  }
  ASSIGN_OR_RETURN(const std::vector<uint64_t> groups,
                   queue_->IssueEval(wanted, /*samples=*/1));
  ASSIGN_OR_RETURN(
      const std::optional<EvalBatch> batch,
      AwaitTrajectories(
          context_, buffer_, absl::StrCat("evaluation of step ", step),
          options_.deadline_ms, [&] { return buffer_->TakeEval(groups); }));
  if (!batch.has_value()) return false;
  RETURN_IF_ERROR(Record(step, batch->groups_dropped));
  return true;
}

absl::Status Evaluation::Record(int64_t step, int64_t groups_dropped) {
  // Of the ledger, not of the batch: it also has what was received before the
  // evaluation was cut short.
  ASSIGN_OR_RETURN(const auto samples, ledger_->EvaluatedSamples(step));
  std::vector<MetricValue> metrics = EvalMetrics(samples);
  // In one transaction with the counts, so that its being there says that they
  // are whole.
  metrics.push_back({kDropped, static_cast<double>(groups_dropped)});
  return context_.db->RecordMetrics(step, metrics);
}

}  // namespace temper
