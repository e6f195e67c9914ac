#include "learner/learner.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/config.h"
#include "kernels/model/weights.h"
#include "learner/batch_metrics.h"
#include "learner/checkpoint.h"
#include "learner/event_log.h"
#include "learner/learner_service.h"
#include "learner/learner_state.h"
#include "learner/lease_broker.h"
#include "learner/ledger.h"
#include "learner/objective.h"
#include "learner/optimizer.h"
#include "learner/run_db.h"
#include "learner/task_queue.h"
#include "learner/train_step.h"
#include "learner/trajectory_buffer.h"
#include "learner/trajectory_door.h"
#include "learner/weight_publisher.h"
#include "proto/wire/task_file.h"
#include "proto/wire/trajectory_stream.h"

namespace temper {
namespace {

constexpr int64_t kPollUs = 200'000;
constexpr auto kConfirmPoll = std::chrono::milliseconds(2);
constexpr int64_t kShutdownMs = 5000;
constexpr int kCheckpointsKept = 2;

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
  std::string Path(const std::string& name) const {
    return absl::StrCat(options_.run_dir, "/", name);
  }
  bool Stopping() const { return options_.stop && options_.stop(); }
  int64_t steps() const { return config_.steps(); }

  absl::Status OpenModel();
  absl::Status OpenRecords();
  absl::Status OpenTrainStep();
  absl::Status OpenWires();
  absl::StatusOr<TrajectoryAck> Receive(const TrajectoryKey& key,
                                        const std::string& bytes);
  void Record(const std::string& process, const std::string& kind,
              const std::string& detail);

  absl::Status Publish();
  absl::StatusOr<bool> AwaitWorkers();
  absl::StatusOr<bool> Step(int64_t step);
  // No groups: the run is to stop.
  absl::StatusOr<TrainBatch> AwaitBatch(int64_t step);
  absl::Status Train(int64_t step, const TrainBatch& batch, int64_t started_us,
                     int64_t generated_us);
  absl::StatusOr<bool> Evaluate();
  absl::Status Save();
  absl::StatusOr<std::vector<Trajectory>> Load(
      const std::vector<Episode>& episodes);

  const LearnerOptions& options_;
  const RunConfig& config_;
  Backend* const backend_;
  Clock* const clock_;

  std::unique_ptr<RunDb> db_;
  std::unique_ptr<EventFollower> events_;
  std::unique_ptr<Ledger> ledger_;
  std::unique_ptr<CheckpointStore> checkpoints_;
  std::optional<std::string> resumed_from_;  // a checkpoint's directory
  LearnerCounters counters_;
  int64_t saved_step_ = -1;

  ModelConfig model_;
  std::unique_ptr<ModelWeights> weights_;
  std::unique_ptr<ModelWeights> reference_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<TrainStep> train_step_;

  std::optional<TrajectoryDoor> door_;
  std::unique_ptr<TaskQueue> queue_;
  std::unique_ptr<TrajectoryBuffer> buffer_;
  std::unique_ptr<LeaseBroker> broker_;
  std::unique_ptr<WeightPublisher> publisher_;
  std::unique_ptr<LearnerService> service_;
};

absl::Status Loop::Open() {
  RETURN_IF_ERROR(OpenRecords());
  events_ =
      std::make_unique<EventFollower>(Path("logs/events.log"), db_.get());
  RETURN_IF_ERROR(OpenModel());
  RETURN_IF_ERROR(OpenTrainStep());
  return OpenWires();
}

absl::Status Loop::OpenRecords() {
  ASSIGN_OR_RETURN(db_, RunDb::OpenWriter(Path("run.db"), clock_));
  CheckpointOptions checkpoint_options;
  checkpoint_options.directory = Path("checkpoints");
  checkpoint_options.keep = kCheckpointsKept;
  ASSIGN_OR_RETURN(checkpoints_, CheckpointStore::Create(checkpoint_options));
  if (!options_.resume) {
    RunInfo info;
    info.name = config_.name();
    info.seed = config_.seed();
    info.config = config_.DebugString();
    info.revision = options_.revision;
    info.machine = options_.machine;
    RETURN_IF_ERROR(db_->StartRun(info));
  }
  ASSIGN_OR_RETURN(ledger_, Ledger::Create(db_.get(), Path("segments")));
  if (!options_.resume) return absl::OkStatus();
  // A checkpoint of an attempt that no longer counts is none to go on from.
  const auto in_lineage = [this](int64_t step, const std::string& directory) {
    const auto counters = ReadLearnerCounters(directory);
    if (!counters.ok()) return counters.status();
    const auto survives = db_->InLineage(counters->attempt, step);
    if (!survives.ok()) return survives.status();
    return *survives ? absl::OkStatus()
                     : absl::FailedPreconditionError(absl::StrCat(
                           "attempt ", counters->attempt, ", step ", step,
                           " was rolled back"));
  };
  ASSIGN_OR_RETURN(const LoadedCheckpoint found,
                   checkpoints_->LoadNewest(in_lineage));
  for (const std::string& skipped : found.skipped) {
    Record("learner", "checkpoint_skipped", skipped);
  }
  resumed_from_ = found.directory;
  ASSIGN_OR_RETURN(counters_, ReadLearnerCounters(found.directory));
  ASSIGN_OR_RETURN(const ResumeSummary summary,
                   ledger_->Resume(counters_.attempt, counters_.step));
  counters_.attempt = summary.attempt;
  saved_step_ = counters_.step;
  Record(
      "learner", "resumed",
      absl::StrCat("from step ", counters_.step, "; ", summary.steps_undone,
                   " steps undone, ", summary.samples_kept, " samples kept, ",
                   summary.samples_reissued, " issued again"));
  return absl::OkStatus();
}

absl::Status Loop::OpenModel() {
  ASSIGN_OR_RETURN(model_, ReadModelConfig(config_.model()));
  const std::string from = resumed_from_.has_value()
                               ? absl::StrCat(*resumed_from_, "/model")
                               : config_.model();
  ASSIGN_OR_RETURN(weights_, ModelWeights::Load(backend_, model_, from));
  ASSIGN_OR_RETURN(optimizer_, Optimizer::Create(backend_, weights_.get(),
                                                 {ParameterGroup::kMain}));
  if (!resumed_from_.has_value()) return absl::OkStatus();
  return LoadOptimizerState(*resumed_from_, counters_, optimizer_.get());
}

absl::Status Loop::OpenTrainStep() {
  TrainStepOptions options;
  ASSIGN_OR_RETURN(options.objective,
                   MakeObjectiveOptions(config_.objective()));
  const OptimizerConfig& optimizer = config_.optimizer();
  options.optimizer.weight_decay = optimizer.weight_decay();
  options.optimizer.beta1 = optimizer.beta1();
  options.optimizer.beta2 = optimizer.beta2();
  options.optimizer.eps = optimizer.adam_eps();
  options.optimizer.grad_clip = optimizer.grad_clip();
  options.temperature = config_.sampling().temperature();
  options.keep_routing = config_.objective().keep_routing();
  options.keep_sampling_mask = config_.objective().keep_sampling_mask();
  options.minibatches = static_cast<int>(config_.objective().minibatches());
  options.kl_coef = config_.objective().kl_coef();
  for (const DomainConfig& domain : config_.domain()) {
    options.domain_kl_coef[domain.domain_name()] = domain.domain_kl_coef();
  }
  if (options.NeedsReference()) {
    ASSIGN_OR_RETURN(reference_,
                     ModelWeights::Load(backend_, model_, config_.model()));
  }
  ASSIGN_OR_RETURN(train_step_,
                   TrainStep::Create(backend_, weights_.get(), reference_.get(),
                                     optimizer_.get(), options));
  return absl::OkStatus();
}

absl::Status Loop::OpenWires() {
  ASSIGN_OR_RETURN(std::vector<Task> tasks, ReadTaskFile(Path("tasks.jsonl")));
  std::vector<TaskInfo> infos;
  for (const Task& task : tasks) {
    infos.push_back(
        {task.id(), task.environment(), task.domain(), task.split()});
  }
  RETURN_IF_ERROR(db_->RecordTasks(infos));
  TaskQueueOptions queue_options;
  queue_options.seed = config_.seed();
  queue_options.group_size = config_.objective().group_size();
  ASSIGN_OR_RETURN(queue_, TaskQueue::Create(std::move(tasks), queue_options,
                                             ledger_.get()));
  DoorLimits limits;
  limits.run = config_.name();
  limits.vocab_size = static_cast<int32_t>(model_.vocab_size);
  limits.moe_layers = static_cast<int32_t>(model_.moe_layers());
  limits.experts = static_cast<int32_t>(model_.n_routed_experts);
  limits.experts_per_token = static_cast<int32_t>(model_.num_experts_per_tok);
  limits.routes_required = config_.objective().keep_routing();
  ASSIGN_OR_RETURN(door_, TrajectoryDoor::Create(limits));
  TrajectoryBufferOptions buffer_options;
  buffer_options.max_staleness = config_.objective().max_staleness();
  ASSIGN_OR_RETURN(buffer_,
                   TrajectoryBuffer::Create(*door_, db_.get(), ledger_.get(),
                                            queue_.get(), buffer_options));
  broker_ = std::make_unique<LeaseBroker>(queue_.get(), config_.sampling(),
                                          config_.seed());
  WeightPublisherOptions publisher_options;
  publisher_options.run = config_.name();
  ASSIGN_OR_RETURN(publisher_, WeightPublisher::Start(publisher_options));
  RETURN_IF_ERROR(Publish());

  LearnerWelcome welcome;
  welcome.set_wire_version(kWireVersion);
  welcome.set_run(config_.name());
  *welcome.mutable_config() = config_;
  welcome.set_weights_announce(publisher_->announce_endpoint());
  welcome.set_weights_chunks(publisher_->chunk_endpoint());
  welcome.set_weight_version(counters_.weight_version);
  welcome.set_model_dir(config_.model());
  ASSIGN_OR_RETURN(
      service_,
      LearnerService::Start(
          {}, welcome, broker_.get(),
          [this](const TrajectoryKey& key, const std::string& bytes) {
            return Receive(key, bytes);
          },
          [this](const std::string& worker, const std::string& kind,
                 const std::string& detail) { Record(worker, kind, detail); },
          [this](const std::string& worker, const Heartbeat& beat) {
            std::vector<WaitRecord> waits;
            for (const WaitState& wait : beat.waits()) {
              waits.push_back({wait.name(),
                               static_cast<int64_t>(wait.elapsed_ms()),
                               static_cast<int64_t>(wait.deadline_ms())});
            }
            if (const absl::Status status = db_->RecordWaits(worker, waits);
                !status.ok()) {
              LOG(WARNING) << "waits of " << worker << ": " << status;
            }
          }));
  return WriteFileDurably(Path("learner.address"),
                          absl::StrCat("127.0.0.1:", service_->port(), "\n"));
}

void Loop::Record(const std::string& process, const std::string& kind,
                  const std::string& detail) {
  LOG(INFO) << process << " " << kind << ": " << detail;
  if (const absl::Status status = db_->RecordEvent(process, kind, detail);
      !status.ok()) {
    LOG(WARNING) << "cannot record an event: " << status;
  }
}

absl::StatusOr<TrajectoryAck> Loop::Receive(const TrajectoryKey& key,
                                            const std::string& bytes) {
  TrajectoryAck ack;
  absl::StatusOr<Trajectory> trajectory = door_->Parse(bytes);
  if (trajectory.ok() &&
      !google::protobuf::util::MessageDifferencer::Equals(trajectory->key(),
                                                          key)) {
    trajectory = absl::InvalidArgumentError(
        "the trajectory's key is not that of its header");
  }
  ASSIGN_OR_RETURN(
      const Receipt receipt,
      trajectory.ok()
          ? buffer_->Receive(*trajectory)
          : buffer_->Refuse(key, std::string(trajectory.status().message())));
  switch (receipt.result) {
    case Receipt::Result::kCommitted:
      ack.set_result(TrajectoryAck::COMMITTED);
      break;
    case Receipt::Result::kDuplicate:
      ack.set_result(TrajectoryAck::DUPLICATE);
      break;
    case Receipt::Result::kRejected:
      ack.set_result(TrajectoryAck::REJECTED);
      ack.set_reason(receipt.reason);
      Record("learner", "trajectory_rejected", receipt.reason);
      break;
  }
  return ack;
}

absl::Status Loop::Publish() {
  // A resumed learner announces its checkpoint's version again, the same bytes.
  const bool republish = counters_.weight_version != 0 &&
                         counters_.step == saved_step_ && service_ == nullptr;
  if (!republish) {
    ASSIGN_OR_RETURN(counters_.weight_version, db_->NextWeightVersion());
  }
  ASSIGN_OR_RETURN(
      const WeightManifest manifest,
      publisher_->Publish(counters_.weight_version, weights_->parameters(),
                          weights_->GetValues()));
  WeightVersionInfo info;
  info.version = counters_.weight_version;
  info.attempt = counters_.attempt;
  info.step = counters_.step;
  info.sha256 = manifest.sha256();
  info.total_bytes = manifest.total_bytes();
  RETURN_IF_ERROR(db_->RecordWeightVersion(info));
  buffer_->NoteVersion(counters_.weight_version, counters_.step);
  broker_->RequireVersion(counters_.weight_version);
  if (service_ != nullptr) service_->Publish(counters_.weight_version);
  return absl::OkStatus();
}

// Returns false if the run is to stop.
absl::StatusOr<bool> Loop::AwaitWorkers() {
  const int64_t deadline =
      clock_->MonotonicMicros() + options_.weights_deadline_ms * 1000;
  while (!broker_->AllConfirmed()) {
    if (Stopping()) return false;
    if (clock_->MonotonicMicros() > deadline) {
      std::string workers;
      for (const std::string& line : broker_->Describe()) {
        absl::StrAppend(&workers, workers.empty() ? "" : "; ", line);
      }
      // They get no leases until they confirm; the others go on.
      Record("learner", "weights_late",
             absl::StrCat("version ", counters_.weight_version, " after ",
                          options_.weights_deadline_ms, " ms: ", workers));
      return true;
    }
    std::this_thread::sleep_for(kConfirmPoll);
  }
  return true;
}

absl::StatusOr<TrainBatch> Loop::AwaitBatch(int64_t step) {
  const int count = static_cast<int>(config_.objective().prompts_per_step());
  // Only what is committed counts as progress: failing episodes may go round
  // and round.
  int64_t received = buffer_->counts().received;
  int64_t last_change_us = clock_->MonotonicMicros();
  for (;;) {
    const int64_t seen = buffer_->activity();
    absl::StatusOr<std::optional<TrainBatch>> batch =
        buffer_->Take(step, count);
    RETURN_IF_ERROR(batch.status());
    if (batch->has_value()) return std::move(**batch);
    if (Stopping()) return TrainBatch();
    // A time-out here is a look at the other conditions.
    buffer_->WaitForChange(seen, kPollUs).IgnoreError();
    const int64_t now = clock_->MonotonicMicros();
    if (buffer_->counts().received != received) {
      received = buffer_->counts().received;
      last_change_us = now;
    }
    if (now - last_change_us > options_.trajectory_deadline_ms * 1000) {
      return absl::DeadlineExceededError(absl::StrCat(
          "no trajectory came in ", options_.trajectory_deadline_ms,
          " ms at step ", step, "; ", broker_->workers(),
          " workers are connected. Look at logs/worker-*.log"));
    }
  }
}

absl::StatusOr<std::vector<Trajectory>> Loop::Load(
    const std::vector<Episode>& episodes) {
  std::vector<Trajectory> trajectories;
  for (const Episode& episode : episodes) {
    ASSIGN_OR_RETURN(Trajectory trajectory,
                     ledger_->Load({episode.group, episode.sample}));
    trajectories.push_back(std::move(trajectory));
  }
  return trajectories;
}

absl::StatusOr<bool> Loop::Step(int64_t step) {
  const int64_t started_us = clock_->MonotonicMicros();
  ASSIGN_OR_RETURN(const bool ready, AwaitWorkers());
  if (!ready) return false;
  // After a resume the queue opens groups of before it first, whole ones too:
  // with any other count a step would wait for groups that nobody opened.
  RETURN_IF_ERROR(
      queue_
          ->IssueTrain(static_cast<int>(config_.objective().prompts_per_step()))
          .status());
  ASSIGN_OR_RETURN(const TrainBatch batch, AwaitBatch(step));
  if (batch.groups.empty()) return false;
  RETURN_IF_ERROR(Train(step, batch, started_us, clock_->MonotonicMicros()));
  RETURN_IF_ERROR(Publish());
  const ScheduleConfig& schedule = config_.schedule();
  if (schedule.save_interval() > 0 && step % schedule.save_interval() == 0) {
    RETURN_IF_ERROR(Save());
  }
  return true;
}

absl::Status Loop::Train(int64_t step, const TrainBatch& batch,
                         int64_t started_us, int64_t generated_us) {
  const OptimizerConfig& optimizer = config_.optimizer();
  double rate = optimizer.learning_rate();
  if (step <= static_cast<int64_t>(optimizer.warmup_steps())) {
    rate *= static_cast<double>(step) / optimizer.warmup_steps();
  }
  std::vector<const Episode*> episodes;
  for (const Episode& episode : batch.episodes) episodes.push_back(&episode);
  ASSIGN_OR_RETURN(const StepMetrics trained,
                   train_step_->Run(episodes, counters_.weight_version, rate));
  const int64_t trained_us = clock_->MonotonicMicros();

  StepRecord record;
  record.step = step;
  record.weight_version = counters_.weight_version;
  record.started_us = started_us;
  for (const Episode& episode : batch.episodes) {
    record.samples.push_back({episode.group, episode.sample});
    for (const EpisodeBranch& branch : episode.branches) {
      record.tokens += static_cast<int64_t>(branch.sampled.size());
    }
  }
  for (const TrainedEpisode& one : trained.trained) {
    record.records.push_back(
        {{one.group, one.sample}, one.advantage, one.masked, one.logp});
  }
  ASSIGN_OR_RETURN(const std::vector<Trajectory> trajectories,
                   Load(batch.episodes));
  record.metrics = BatchMetrics(trajectories, counters_.weight_version);
  for (const auto& [name, value] : trained.values) {
    record.metrics.push_back({name, value});
  }
  if (trained.values.count("train_rollout_logprob_abs_diff/max") == 0) {
    for (const char* name : {"train_rollout_logprob_abs_diff/mean",
                             "train_rollout_logprob_abs_diff/max"}) {
      record.metrics.push_back({name, std::nullopt});
    }
  }
  const double step_seconds =
      static_cast<double>(trained_us - started_us) * 1e-6;
  const BufferCounts counts = buffer_->counts();
  const std::pair<const char*, double> timings[] = {
      {"time/step", step_seconds},
      {"time/generate", static_cast<double>(generated_us - started_us) * 1e-6},
      {"time/train", static_cast<double>(trained_us - generated_us) * 1e-6},
      {"tokens_per_second", static_cast<double>(record.tokens) / step_seconds},
      {"rows", static_cast<double>(trained.rows)},
      {"rows_unshared", static_cast<double>(trained.rows_unshared)},
      {"dropped_stale", static_cast<double>(counts.dropped_stale)},
      {"dropped_rejected", static_cast<double>(counts.dropped_rejected)},
      {"dropped_infrastructure",
       static_cast<double>(counts.dropped_infrastructure)}};
  for (const auto& [name, value] : timings) {
    record.metrics.push_back({name, value});
  }
  RETURN_IF_ERROR(ledger_->CommitStep(record));
  counters_.step = step;
  return absl::OkStatus();
}

// Returns false if the run is to stop.
absl::StatusOr<bool> Loop::Evaluate() {
  std::map<std::string, uint32_t> taken;
  std::vector<std::string> ids;
  for (const std::string& id : queue_->HeldOutTaskIds()) {
    uint32_t& count = taken[queue_->FindTask(id)->environment()];
    if (count++ < config_.schedule().eval_tasks()) ids.push_back(id);
  }
  if (ids.empty()) return true;
  ASSIGN_OR_RETURN(const bool ready, AwaitWorkers());
  if (!ready) return false;
  ASSIGN_OR_RETURN(const std::vector<uint64_t> groups,
                   queue_->IssueEval(ids, /*samples=*/1));
  // Only what is committed counts as progress: failing episodes may go round
  // and round.
  int64_t received = buffer_->counts().received;
  int64_t last_change_us = clock_->MonotonicMicros();
  for (;;) {
    const int64_t seen = buffer_->activity();
    if (std::optional<EvalBatch> batch = buffer_->TakeEval(groups)) {
      ASSIGN_OR_RETURN(const std::vector<Trajectory> trajectories,
                       Load(batch->episodes));
      std::vector<MetricValue> metrics = EvalMetrics(trajectories);
      metrics.push_back(
          {"eval/dropped", static_cast<double>(batch->groups_dropped)});
      RETURN_IF_ERROR(db_->RecordMetrics(counters_.step, metrics));
      return true;
    }
    if (Stopping()) return false;
    // A time-out here is a look at the other conditions.
    buffer_->WaitForChange(seen, kPollUs).IgnoreError();
    const int64_t now = clock_->MonotonicMicros();
    if (buffer_->counts().received != received) {
      received = buffer_->counts().received;
      last_change_us = now;
    }
    if (now - last_change_us > options_.trajectory_deadline_ms * 1000) {
      return absl::DeadlineExceededError(absl::StrCat(
          "no evaluation episode came in ", options_.trajectory_deadline_ms,
          " ms; ", broker_->workers(), " workers are connected"));
    }
  }
}

absl::Status Loop::Save() {
  if (saved_step_ == counters_.step) return absl::OkStatus();
  ASSIGN_OR_RETURN(
      const std::string directory,
      checkpoints_->Save(counters_.step, [this](const std::string& dir) {
        return SaveLearnerState(dir, config_.model(), *weights_, *optimizer_,
                                counters_);
      }));
  RETURN_IF_ERROR(db_->RecordCheckpoint(counters_.step, directory));
  saved_step_ = counters_.step;
  return absl::OkStatus();
}

absl::StatusOr<LearnerEnd> Loop::Run() {
  RETURN_IF_ERROR(Save());  // step 0: a resume is possible from the start
  const auto interval = config_.schedule().eval_interval();
  // Of a finished run only the last evaluation may be wanting.
  if (counters_.step == 0 || counters_.step >= steps()) {
    ASSIGN_OR_RETURN(const bool evaluated, Evaluate());
    if (!evaluated) return LearnerEnd::kStopped;
  }
  while (counters_.step < steps()) {
    const int64_t step = counters_.step + 1;
    ASSIGN_OR_RETURN(const bool done, Step(step));
    if (!done || Stopping()) {
      RETURN_IF_ERROR(Save());
      return LearnerEnd::kStopped;
    }
    const bool last = step == steps();
    if (last || (interval > 0 && step % interval == 0)) {
      if (last) RETURN_IF_ERROR(Save());
      ASSIGN_OR_RETURN(const bool evaluated, Evaluate());
      if (!evaluated) {
        RETURN_IF_ERROR(Save());
        return LearnerEnd::kStopped;
      }
    }
  }
  service_->Shutdown("the run is finished", kShutdownMs);
  return LearnerEnd::kFinished;
}

}  // namespace

absl::StatusOr<LearnerEnd> RunLearner(const LearnerOptions& options,
                                      Backend* backend) {
  Loop loop(options, backend);
  RETURN_IF_ERROR(loop.Open());
  return loop.Run();
}

}  // namespace temper
