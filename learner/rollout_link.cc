#include "learner/rollout_link.h"

#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "google/protobuf/util/message_differencer.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "learner/store/run_model.h"
#include "proto/wire/task_file.h"
#include "proto/wire/trajectory_stream.h"

namespace temper {
namespace {

constexpr auto kConfirmPoll = std::chrono::milliseconds(2);

}  // namespace

absl::StatusOr<std::unique_ptr<RolloutLink>> RolloutLink::Open(
    const std::string& run_dir, const RunConfig& config,
    const ModelConfig& model, RunRecords* records) {
  std::unique_ptr<RolloutLink> link(new RolloutLink(run_dir, config, records));
  RETURN_IF_ERROR(link->OpenQueue());
  RETURN_IF_ERROR(link->OpenBuffer(model));
  link->broker_ = std::make_unique<LeaseBroker>(
      link->queue_.get(), config.sampling(), config.seed(), link->clock_);
  WeightPublisherOptions options;
  options.run = config.name();
  ASSIGN_OR_RETURN(link->publisher_, WeightPublisher::Start(options));
  return link;
}

absl::Status RolloutLink::OpenQueue() {
  ASSIGN_OR_RETURN(std::vector<Task> tasks,
                   ReadTaskFile(absl::StrCat(run_dir_, "/tasks.jsonl")));
  std::vector<TaskInfo> infos;
  for (const Task& task : tasks) {
    infos.push_back(
        {task.id(), task.environment(), task.domain(), task.split()});
  }
  RETURN_IF_ERROR(records_->db()->RecordTasks(infos));
  TaskQueueOptions options;
  options.seed = config_.seed();
  options.group_size = config_.objective().group_size();
  ASSIGN_OR_RETURN(
      queue_, TaskQueue::Create(std::move(tasks), options, records_->ledger()));
  return absl::OkStatus();
}

absl::Status RolloutLink::OpenBuffer(const ModelConfig& model) {
  DoorLimits limits;
  limits.run = config_.name();
  limits.vocab_size = static_cast<int32_t>(model.vocab_size);
  limits.moe_layers = static_cast<int32_t>(model.moe_layers());
  limits.experts = static_cast<int32_t>(model.n_routed_experts);
  limits.experts_per_token = static_cast<int32_t>(model.num_experts_per_tok);
  limits.routes_required = config_.objective().keep_routing();
  limits.kept_sets_allowed = config_.objective().keep_sampling_mask();
  ASSIGN_OR_RETURN(door_, TrajectoryDoor::Create(limits));
  TrajectoryBufferOptions options;
  options.max_staleness = config_.objective().max_staleness();
  // Of every step whose groups may be open, and of one evaluation; one more is
  // what comes twice.
  options.capacity_samples =
      (1 + options.max_staleness) *
          int64_t{config_.objective().prompts_per_step()} *
          config_.objective().group_size() +
      int64_t{config_.schedule().eval_tasks()} * config_.environments_size() +
      1;
  options.task_failed = [this](const Task& task, const std::string& reason) {
    records_->TaskFailed(task.id(), task.environment(), reason);
  };
  ASSIGN_OR_RETURN(buffer_, TrajectoryBuffer::Create(*door_, records_->db(),
                                                     records_->ledger(),
                                                     queue_.get(), options));
  return absl::OkStatus();
}

absl::Status RolloutLink::Publish(const LearnerCounters& counters,
                                  const ModelWeights& weights) {
  published_us_ = clock_->MonotonicMicros();
  synced_ = false;
  ASSIGN_OR_RETURN(
      const WeightManifest manifest,
      publisher_->Publish(counters.weight_version, weights.parameters(),
                          weights.GetValues()));
  WeightVersionInfo info;
  info.version = counters.weight_version;
  info.attempt = counters.attempt;
  info.step = counters.step;
  info.sha256 = manifest.sha256();
  info.total_bytes = manifest.total_bytes();
  RETURN_IF_ERROR(records_->db()->RecordWeightVersion(info));
  version_ = counters.weight_version;
  buffer_->NoteVersion(version_, counters.step);
  broker_->RequireVersion(version_);
  if (service_ != nullptr) service_->Publish(version_);
  return absl::OkStatus();
}

absl::Status RolloutLink::Serve() {
  LearnerWelcome welcome;
  welcome.set_wire_version(kWireVersion);
  welcome.set_run(config_.name());
  *welcome.mutable_config() = config_;
  welcome.set_weights_announce(publisher_->announce_endpoint());
  welcome.set_weights_chunks(publisher_->chunk_endpoint());
  welcome.set_weight_version(version_);
  welcome.set_model_dir(RunModelDir(run_dir_, config_.model()));
  ASSIGN_OR_RETURN(
      service_,
      LearnerService::Start(
          {}, welcome, broker_.get(),
          [this](const TrajectoryKey& key, const std::string& bytes) {
            return Receive(key, bytes);
          },
          [this](const std::string& worker, const std::string& kind,
                 const std::string& detail) {
            records_->Event(worker, kind, detail);
            // It waits for nothing any more.
            if (kind == "worker_left") OnHeartbeat(worker, Heartbeat());
          },
          [this](const std::string& worker, const Heartbeat& heartbeat) {
            OnHeartbeat(worker, heartbeat);
          }));
  return WriteFileDurably(absl::StrCat(run_dir_, "/learner.address"),
                          absl::StrCat("127.0.0.1:", service_->port(), "\n"));
}

absl::StatusOr<TrajectoryAck> RolloutLink::Receive(const TrajectoryKey& key,
                                                   const std::string& bytes) {
  TrajectoryAck ack;
  absl::StatusOr<Trajectory> trajectory = door_->Parse(bytes);
  if (trajectory.ok() && !google::protobuf::util::MessageDifferencer::Equals(
                             trajectory->key(), key)) {
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
      records_->Event("learner", "trajectory_rejected", receipt.reason);
      break;
  }
  return ack;
}

void RolloutLink::OnHeartbeat(const std::string& worker,
                              const Heartbeat& heartbeat) {
  std::vector<WaitRecord> waits;
  for (const WaitState& wait : heartbeat.waits()) {
    waits.push_back({wait.name(), static_cast<int64_t>(wait.elapsed_ms()),
                     static_cast<int64_t>(wait.deadline_ms())});
  }
  if (const absl::Status status = records_->db()->RecordWaits(worker, waits);
      !status.ok()) {
    LOG(WARNING) << "waits of " << worker << ": " << status;
  }
}

bool RolloutLink::AwaitWorkers(const WaitContext& context,
                               int64_t deadline_ms) {
  LearnerWait wait(context, absl::StrCat("weight acks of version ", version_),
                   deadline_ms);
  std::optional<int64_t> confirmed_us;
  while (!(confirmed_us = broker_->AllConfirmedUs()).has_value()) {
    if (wait.Stopping()) return false;
    if (wait.Expired()) {
      records_->Event(
          "learner", "weights_late",
          absl::StrCat("version ", version_, " after ", deadline_ms,
                       " ms: ", absl::StrJoin(broker_->Describe(), "; ")));
      confirmed_us = clock_->MonotonicMicros();
      break;
    }
    std::this_thread::sleep_for(kConfirmPoll);
  }
  // Only the first time after a publication: later workers come as they please.
  if (!synced_) {
    synced_ = true;
    sync_seconds_ = static_cast<double>(*confirmed_us - published_us_) * 1e-6;
  }
  return true;
}

void RolloutLink::Shutdown(const WaitContext& context,
                           const std::string& reason, int64_t deadline_ms) {
  service_->AskToFinish(reason);
  LearnerWait wait(context, "workers to leave", deadline_ms);
  while (broker_->workers() > 0 && !wait.Expired()) {
    std::this_thread::sleep_for(kConfirmPoll);
  }
}

}  // namespace temper
