#include "learner/rollout_link.h"

#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "kernels/tensor/device_name.h"
#include "kernels/tensor/dtype.h"
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
  // Before the queue: whoever reads a group finds its task.
  RETURN_IF_ERROR(records_->db()->RecordTasks(infos));
  TaskQueueOptions options;
  options.seed = config_.seed();
  options.group_size = config_.objective().group_size();
  for (const DomainConfig& domain : config_.domain()) {
    if (domain.domain_weight() == 0) continue;
    options.domain_weights[domain.domain_name()] = domain.domain_weight();
  }
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
  // What the configuration asks for, the door holds workers to: a record that
  // lacks it would be trained on in another way than the run says.
  limits.routes_required = config_.objective().keep_routing();
  limits.kept_sets_allowed = config_.objective().keep_sampling_mask();
  ASSIGN_OR_RETURN(TrajectoryDoor door, TrajectoryDoor::Create(limits));
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
  ASSIGN_OR_RETURN(buffer_, TrajectoryBuffer::Create(
                                std::move(door), records_->db(),
                                records_->ledger(), queue_.get(), options));
  worker_records_ = std::make_unique<WorkerRecords>(records_, buffer_.get());
  return absl::OkStatus();
}

absl::Status RolloutLink::Publish(const LearnerCounters& counters,
                                  const PublishedWeights& weights) {
  published_us_ = clock_->MonotonicMicros();
  synced_ = false;
  std::vector<PublishedTensor> tensors;
  for (const PublishedParameter& tensor : weights.tensors()) {
    tensors.push_back({tensor.name, FileTypeName(tensor.dtype), tensor.shape});
  }
  ASSIGN_OR_RETURN(std::vector<std::byte> bytes, weights.GetBytes());
  ASSIGN_OR_RETURN(
      const WeightManifest manifest,
      publisher_->Publish(counters.weight_version, tensors, std::move(bytes)));
  WeightVersionInfo info;
  info.version = counters.weight_version;
  info.attempt = counters.attempt;
  info.step = counters.step;
  info.sha256 = manifest.sha256();
  info.total_bytes = manifest.total_bytes();
  // Served, recorded, known to the buffer, required, announced: in this order
  // no worker can be told of a version that the rest does not know, and no
  // trajectory of it can come before the buffer knows its age.
  RETURN_IF_ERROR(records_->db()->RecordWeightVersion(info));
  version_ = counters.weight_version;
  buffer_->NoteVersion(version_, counters.step);
  broker_->RequireVersion(version_);
  if (service_ != nullptr) service_->Publish(version_);
  return absl::OkStatus();
}

absl::Status RolloutLink::Serve(Device device) {
  LearnerWelcome welcome;
  welcome.set_wire_version(kWireVersion);
  welcome.set_run(config_.name());
  *welcome.mutable_config() = config_;
  welcome.set_weights_announce(publisher_->announce_endpoint());
  welcome.set_weights_chunks(publisher_->chunk_endpoint());
  // A worker is told all that it needs here; nothing is left to its own flags.
  welcome.set_weight_version(version_);
  welcome.set_device(NameOf(device));
  welcome.set_model_dir(RunModelDir(run_dir_, config_.model()));
  ASSIGN_OR_RETURN(service_, LearnerService::Start({}, welcome, broker_.get(),
                                                   worker_records_.get()));
  // Once the port is bound: whoever finds the file finds the learner.
  return WriteFileDurably(absl::StrCat(run_dir_, "/learner.address"),
                          absl::StrCat("127.0.0.1:", service_->port(), "\n"));
}

bool RolloutLink::AwaitWorkers(const WaitContext& context,
                               int64_t deadline_ms) {
  LearnerWait wait(context, absl::StrCat("weight acks of version ", version_),
                   deadline_ms);
  std::optional<int64_t> confirmed_us;
  while (!(confirmed_us = broker_->AllConfirmedUs()).has_value()) {
    if (wait.Stopping()) return false;
    // A worker that hangs must not hold up the others: it gets no leases until
    // it has the weights.
    if (wait.Expired()) {
      records_->Event(
          RunRecords::kLearner, EventKind::kWeightsLate,
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
  // They deliver what is ended and close their sandboxes; who does not is cut
  // off by the destructor.
  LearnerWait wait(context, "workers to leave", deadline_ms);
  while (broker_->workers() > 0 && !wait.Expired()) {
    std::this_thread::sleep_for(kConfirmPoll);
  }
}

}  // namespace temper
