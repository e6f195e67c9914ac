#include "learner/learner.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/clock.h"
#include "kernels/base/status_macros.h"
#include "kernels/tensor/device_name.h"
#include "kernels/tensor/numerics.h"
#include "learner/evaluation.h"
#include "learner/learner_wait.h"
#include "learner/rollout_link.h"
#include "learner/step_report.h"
#include "learner/store/run_records.h"
#include "learner/train/learner_model.h"
#include "learner/train/learner_state.h"
#include "learner/trajectory_wait.h"
#include "proto/wire/run_numerics.h"

namespace temper {
namespace {

// For workers to leave once the run is finished.
constexpr int64_t kLeaveMs = 5000;

class Loop {
 public:
  Loop(const LearnerOptions& options, Backend* backend)
      : options_(options),
        config_(options.config),
        backend_(backend),
        clock_(SystemClock()) {}

  absl::Status Open();
  absl::StatusOr<LearnerEnd> Run();

 private:
  int64_t steps() const { return config_.steps(); }
  int prompts() const {
    return static_cast<int>(config_.objective().prompts_per_step());
  }

  absl::Status OpenRecords();
  // False from these three: the run is to stop.
  absl::StatusOr<bool> Step(int64_t step);
  absl::StatusOr<bool> Evaluate();
  bool EvaluationIsDue() const;
  bool AwaitWorkers() {
    return link_->AwaitWorkers(waits_, options_.weights_deadline_ms);
  }
  absl::Status Train(int64_t step, const TrainBatch& batch, StepTimes times);
  absl::Status PublishNext();
  absl::Status Save();

  const LearnerOptions& options_;
  const RunConfig& config_;
  Backend* const backend_;
  Clock* const clock_;

  std::unique_ptr<RunRecords> records_;
  LearnerCounters counters_;
  WaitContext waits_;
  std::unique_ptr<LearnerModel> model_;
  std::unique_ptr<RolloutLink> link_;
  std::unique_ptr<Evaluation> evaluation_;
};

absl::Status Loop::Open() {
  // The records first: they hold the writer's lock, and say from which
  // checkpoint the model is to be loaded.
  RETURN_IF_ERROR(OpenRecords());
  counters_ = records_->counters();
  waits_ = {records_->db(), clock_, options_.stop};
  ASSIGN_OR_RETURN(
      model_, LearnerModel::Open(options_.run_dir, config_,
                                 records_->checkpoint(), counters_, backend_));
  ASSIGN_OR_RETURN(link_, RolloutLink::Open(options_.run_dir, config_,
                                            model_->model(), records_.get()));
  EvaluationOptions evaluation;
  evaluation.tasks = config_.schedule().eval_tasks();
  evaluation.deadline_ms = options_.trajectory_deadline_ms;
  evaluation_ = std::make_unique<Evaluation>(
      evaluation, waits_, records_->ledger(), link_->queue(), link_->buffer());
  // A resumed learner publishes its checkpoint's version again, the same bytes.
  // No checkpoint: what was loaded is the base model, and gets a number.
  if (counters_.weight_version == 0) {
    RETURN_IF_ERROR(PublishNext());
  } else {
    RETURN_IF_ERROR(link_->Publish(counters_, model_->weights()));
  }
  // Last: a worker that connects is leased to at once, and everything behind
  // the lease must be there.
  return link_->Serve(backend_->device());
}

absl::Status Loop::OpenRecords() {
  RunInfo info;
  info.name = config_.name();
  info.seed = config_.seed();
  info.config = config_.DebugString();
  info.revision = options_.revision;
  info.machine = options_.machine;
  info.numerics = NameOf(NumericsOf(config_));
  info.device = NameOf(backend_->device());
  ASSIGN_OR_RETURN(info.tasks_sha256, TasksSha256(options_.run_dir));
  ASSIGN_OR_RETURN(records_,
                   options_.resume
                       ? RunRecords::Resume(options_.run_dir, info, clock_)
                       : RunRecords::Start(options_.run_dir, info, clock_));
  return absl::OkStatus();
}

absl::Status Loop::PublishNext() {
  ASSIGN_OR_RETURN(counters_.weight_version,
                   records_->db()->NextWeightVersion());
  return link_->Publish(counters_, model_->weights());
}

absl::StatusOr<bool> Loop::Step(int64_t step) {
  StepTimes times;
  times.started_unix_us = clock_->UnixMicros();
  times.started_us = clock_->MonotonicMicros();
  // Synchronous mode: no sample of this step is issued before every worker has
  // the weights that it is trained from.
  if (!AwaitWorkers()) return false;
  // After a resume the queue opens groups of before it first, whole ones too:
  // with any other count a step would wait for groups that nobody opened.
  RETURN_IF_ERROR(link_->queue()->IssueTrain(prompts()).status());
  times.sync_seconds = link_->sync_seconds();
  times.waiting_us = clock_->MonotonicMicros();
  TrajectoryBuffer* const buffer = link_->buffer();
  ASSIGN_OR_RETURN(
      const std::optional<TrainBatch> batch,
      AwaitTrajectories(waits_, buffer,
                        absl::StrCat("trajectories of step ", step),
                        options_.trajectory_deadline_ms,
                        [&] { return buffer->Take(step, prompts()); }));
  if (!batch.has_value()) return false;
  times.generated_us = clock_->MonotonicMicros();
  // Train commits the step before the weights are published: a death between
  // the two resumes from the last checkpoint, and no worker has seen weights of
  // a step that is not on record. The checkpoint comes last: it holds the
  // version that was published.
  RETURN_IF_ERROR(Train(step, *batch, times));
  RETURN_IF_ERROR(PublishNext());
  const ScheduleConfig& schedule = config_.schedule();
  if (schedule.save_interval() > 0 && step % schedule.save_interval() == 0) {
    RETURN_IF_ERROR(Save());
  }
  return true;
}

absl::Status Loop::Train(int64_t step, const TrainBatch& batch,
                         StepTimes times) {
  // Of the weights before this step's update: what the sampler is compared
  // with.
  const uint64_t version = counters_.weight_version;
  ASSIGN_OR_RETURN(const StepMetrics trained,
                   model_->Train(batch.episodes, version));
  times.trained_us = clock_->MonotonicMicros();
  StepRecord record = MakeStepRecord(step, version, batch, trained, times,
                                     link_->buffer()->counts());
  const std::vector<std::string> not_finite = NullWhatIsNotFinite(&record);
  if (!not_finite.empty()) {
    records_->Event(
        RunRecords::kLearner, EventKind::kMetricNotFinite,
        absl::StrCat("step ", step, ": ", absl::StrJoin(not_finite, ", "),
                     "; recorded without a value"));
  }
  RETURN_IF_ERROR(records_->ledger()->CommitStep(record));
  // Only once it is committed: a stop saves under this number.
  counters_.step = step;
  return absl::OkStatus();
}

absl::StatusOr<bool> Loop::Evaluate() {
  ASSIGN_OR_RETURN(const bool done, evaluation_->IsDone(counters_.step));
  if (done) return true;
  if (!AwaitWorkers()) return false;
  return evaluation_->Run(counters_.step);
}

absl::Status Loop::Save() {
  return records_->SaveCheckpoint(counters_.step,
                                  [this](const std::string& directory) {
                                    return model_->Save(directory, counters_);
                                  });
}

bool Loop::EvaluationIsDue() const {
  const int64_t step = counters_.step;
  const int64_t interval = config_.schedule().eval_interval();
  return step == 0 || step >= steps() || (interval > 0 && step % interval == 0);
}

absl::StatusOr<LearnerEnd> Loop::Run() {
  RETURN_IF_ERROR(Save());  // step 0: a resume is possible from the start
  // Also where a resume made the run longer: no longer due, but begun.
  ASSIGN_OR_RETURN(bool evaluate, evaluation_->IsUnfinished(counters_.step));
  evaluate = evaluate || EvaluationIsDue();
  for (;;) {
    if (evaluate) {
      ASSIGN_OR_RETURN(const bool evaluated, Evaluate());
      if (!evaluated) break;
    }
    if (counters_.step >= steps()) {
      link_->Shutdown(waits_, "the run is finished", kLeaveMs);
      return LearnerEnd::kFinished;
    }
    ASSIGN_OR_RETURN(const bool done, Step(counters_.step + 1));
    // Between two steps only: a step that is half done is left reserved, and
    // the next learner takes its trajectories again.
    if (!done || (options_.stop && options_.stop())) break;
    if (counters_.step == steps()) RETURN_IF_ERROR(Save());
    evaluate = EvaluationIsDue();
  }
  RETURN_IF_ERROR(Save());
  return LearnerEnd::kStopped;
}

}  // namespace

absl::StatusOr<LearnerEnd> RunLearner(const LearnerOptions& options,
                                      Backend* backend) {
  Loop loop(options, backend);
  RETURN_IF_ERROR(loop.Open());
  return loop.Run();
}

}  // namespace temper
