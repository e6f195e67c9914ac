#include "learner/evaluation.h"

#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "learner/batch_metrics.h"

namespace temper {

std::vector<std::string> Evaluation::TaskIds() const {
  std::map<std::string, uint32_t> taken;
  std::vector<std::string> ids;
  for (const std::string& id : queue_->HeldOutTaskIds()) {
    uint32_t& count = taken[queue_->FindTask(id)->environment()];
    if (count++ < options_.tasks) ids.push_back(id);
  }
  return ids;
}

absl::StatusOr<bool> Evaluation::Run(int64_t step) {
  const std::vector<std::string> ids = TaskIds();
  if (ids.empty()) return true;
  ASSIGN_OR_RETURN(const std::vector<uint64_t> groups,
                   queue_->IssueEval(ids, /*samples=*/1));
  LearnerWait wait(context_, absl::StrCat("evaluation of step ", step),
                   options_.deadline_ms);
  // Only what is committed counts as progress: failing episodes may go round
  // and round.
  int64_t received = buffer_->counts().received;
  for (;;) {
    const int64_t seen = buffer_->activity();
    if (std::optional<EvalBatch> batch = buffer_->TakeEval(groups)) {
      RETURN_IF_ERROR(Finish(step, *batch));
      return true;
    }
    if (wait.Stopping()) return false;
    // A time-out here is a look at the other conditions.
    buffer_->WaitForChange(seen, LearnerWait::kPollUs).IgnoreError();
    if (const int64_t now = buffer_->counts().received; now != received) {
      received = now;
      wait.Progress();
    }
    if (wait.Expired()) {
      return absl::DeadlineExceededError(
          absl::StrCat("no evaluation episode came in ", options_.deadline_ms,
                       " ms after step ", step, ". Look at logs/worker-*.log"));
    }
  }
}

absl::Status Evaluation::Finish(int64_t step, const EvalBatch& batch) {
  std::vector<Trajectory> trajectories;
  for (const Episode& episode : batch.episodes) {
    ASSIGN_OR_RETURN(trajectories.emplace_back(),
                     ledger_->Load({episode.group, episode.sample}));
  }
  std::vector<MetricValue> metrics = EvalMetrics(trajectories);
  metrics.push_back(
      {"eval/dropped", static_cast<double>(batch.groups_dropped)});
  return context_.db->RecordMetrics(step, metrics);
}

}  // namespace temper
