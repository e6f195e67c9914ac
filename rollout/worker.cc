#include "rollout/worker.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/chat/parser.h"
#include "kernels/model/chat/template.h"
#include "kernels/model/tokenizer_file.h"
#include "kernels/tensor/device_name.h"
#include "rollout/episode_runner.h"
#include "rollout/job_pool.h"
#include "rollout/weight_client.h"
#include "rollout/weight_mailbox.h"

namespace temper {
namespace {

// Longest sleep of the loop: leases, weights and environments are looked at
// this often when there is nothing to compute.
constexpr int64_t kIdleWaitMs = 5;
constexpr int64_t kLastAcksMs = 2000;
// A wait for an environment that is shorter is the rule, and not reported.
constexpr int64_t kQuietMs = 500;
// Between looks at what all episodes wait for.
constexpr int64_t kReportMs = 100;

int64_t NowMs() { return SystemClock()->MonotonicMicros() / 1000; }

const char* NameOf(AgentLoop::Call call) {
  switch (call) {
    case AgentLoop::Call::kReset:
      return "Reset";
    case AgentLoop::Call::kStep:
      return "Step";
    case AgentLoop::Call::kGrade:
      return "Grade";
  }
  return "";
}

int64_t LimitOf(AgentLoop::Call call, const EnvironmentLimits& limits) {
  switch (call) {
    case AgentLoop::Call::kReset:
      return limits.reset_ms;
    case AgentLoop::Call::kStep:
      return limits.step_ms;
    case AgentLoop::Call::kGrade:
      return limits.grade_ms;
  }
  return 0;
}

// Of a forward, in parameters times tokens, and of new weights, in parameters.
constexpr int64_t kForwardPerMs = 1'000'000;
constexpr int64_t kWeightsPerMs = 20'000;
constexpr int64_t kLoopMsMin = 120'000;

class Worker {
 public:
  Worker(const WorkerOptions& options, Backend* backend)
      : options_(options), backend_(backend) {}

  absl::Status SetUp(const std::atomic<bool>* stop);
  absl::Status Run(const std::atomic<bool>* stop);

 private:
  absl::Status TakeMessages();
  absl::Status TakeWeights();
  absl::Status StartEpisodes();
  absl::Status OnWelcome(const LearnerWelcome& welcome);
  absl::Status SendEnded(std::vector<Trajectory> ended);
  void WantWeights(uint64_t version);
  void ReportWaits();
  // Whether so many more episodes may run.
  bool HasRoomFor(int more) const;

  const WorkerOptions options_;
  Backend* const backend_;
  std::unique_ptr<LearnerClient> client_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_template_;
  std::unique_ptr<ChatParser> chat_parser_;
  std::unique_ptr<Reward> reward_;
  std::unique_ptr<PublishedWeights> weights_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<JobPool> jobs_;
  std::unique_ptr<EpisodeRunner> runner_;
  WeightMailbox mailbox_;
  std::unique_ptr<WeightClient> weight_client_;

  SamplingMask mask_ = SamplingMask::kKeep;
  uint64_t wanted_version_ = 0;
  int64_t wanted_since_ms_ = 0;
  int64_t idle_since_ms_ = 0;
  int64_t reported_ms_ = 0;
  bool stopped_by_learner_ = false;
  std::deque<Lease> leases_;       // not started yet
  std::deque<Trajectory> outbox_;  // the client is full
};

absl::Status Worker::SetUp(const std::atomic<bool>* stop) {
  LearnerClientOptions learner = options_.learner;
  learner.stop = stop;
  learner.numerics = temper::NameOf(options_.numerics);
  learner.device = temper::NameOf(backend_->device());
  ASSIGN_OR_RETURN(client_, LearnerClient::Connect(learner));
  const LearnerWelcome& welcome = client_->welcome();
  ASSIGN_OR_RETURN(const ModelConfig config,
                   ReadModelConfig(welcome.model_dir()));
  ASSIGN_OR_RETURN(tokenizer_,
                   LoadTokenizer(welcome.model_dir() + "/tokenizer.json"));
  RETURN_IF_ERROR(CheckVocabulary(*tokenizer_, config.vocab_size));
  ASSIGN_OR_RETURN(chat_template_, ChatTemplate::Create(tokenizer_.get()));
  ASSIGN_OR_RETURN(chat_parser_, ChatParser::Create(tokenizer_.get()));
  ASSIGN_OR_RETURN(reward_, Reward::Create(welcome.config().rewards()));
  ASSIGN_OR_RETURN(weights_,
                   PublishedWeights::Create(backend_, config, options_.numerics,
                                            Passes::kForward));
  if (!welcome.config().objective().has_keep_sampling_mask()) {
    return absl::InvalidArgumentError(
        "the learner's welcome lacks keep_sampling_mask; it must carry the "
        "resolved configuration");
  }
  mask_ = welcome.config().objective().keep_sampling_mask()
              ? SamplingMask::kKeep
              : SamplingMask::kDrop;
  EngineOptions engine = options_.engine;
  client_->SetHungLimit(LoopLimitMs(config, engine));
  const int capacity = static_cast<int>(options_.learner.capacity_samples);
  engine.sequences_max = std::max<int64_t>(engine.sequences_max, capacity);
  // Version 0 is no version: nothing is sampled before the first arrives.
  ASSIGN_OR_RETURN(engine_,
                   Engine::Create(backend_, weights_.get(), 0, engine));
  jobs_ = std::make_unique<JobPool>(options_.job_threads, 2 * capacity);
  EpisodeServices services;
  services.engine = engine_.get();
  services.tokenizer = tokenizer_.get();
  services.chat_template = chat_template_.get();
  services.chat_parser = chat_parser_.get();
  services.reward = reward_.get();
  services.jobs = jobs_.get();
  services.new_environment = options_.new_environment;
  services.lanes = options_.lanes;
  services.worker = options_.learner.worker;
  runner_ = std::make_unique<EpisodeRunner>(services, capacity);

  WeightClientOptions weights;
  weights.run = welcome.run();
  weights.announce_endpoint = welcome.weights_announce();
  weights.chunk_endpoint = welcome.weights_chunks();
  ASSIGN_OR_RETURN(
      weight_client_,
      WeightClient::Start(weights,
                          [this](uint64_t, WeightMailbox::Delivery delivery) {
                            mailbox_.Put(std::move(delivery));
                          }));
  WantWeights(welcome.weight_version());
  idle_since_ms_ = NowMs();
  return absl::OkStatus();
}

void Worker::WantWeights(uint64_t version) {
  // Each message names one; only the highest is fetched.
  if (version <= std::max(wanted_version_, engine_->version())) return;
  wanted_version_ = version;
  wanted_since_ms_ = NowMs();
  weight_client_->Want(version);
}

absl::Status Worker::TakeMessages() {
  const bool idle = runner_->running() == 0;
  int64_t wait_ms = idle ? kIdleWaitMs : 0;
  while (!stopped_by_learner_) {
    ASSIGN_OR_RETURN(const std::optional<LearnerMessage> message,
                     client_->Next(wait_ms));
    if (!message.has_value()) break;
    wait_ms = 0;
    if (message->has_lease()) {
      leases_.push_back(message->lease());
      WantWeights(message->lease().weight_version());
    } else if (message->has_weight_update()) {
      WantWeights(message->weight_update().version());
    } else if (message->has_welcome()) {
      RETURN_IF_ERROR(OnWelcome(message->welcome()));
    } else if (message->has_stop()) {
      LOG(INFO) << "the learner says stop: " << message->stop().reason();
      stopped_by_learner_ = true;
    }
  }
  return absl::OkStatus();
}

absl::Status Worker::OnWelcome(const LearnerWelcome& welcome) {
  // Samples of the old stream: their leases have lapsed (DeliveryQueue), others
  // may have them.
  leases_.clear();
  // No learner goes back in its life; a resumed one does, to its checkpoint.
  // What this worker runs is of steps that no longer count.
  const uint64_t newest = std::max(wanted_version_, engine_->version());
  if (welcome.weight_version() < newest) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the learner is back at weight version ", welcome.weight_version(),
        ", this worker has seen ", newest,
        ": it was resumed from an earlier checkpoint; start a new worker"));
  }
  WantWeights(welcome.weight_version());
  return absl::OkStatus();
}

absl::Status Worker::TakeWeights() {
  const std::optional<WeightMailbox::Delivery> delivery = mailbox_.Take();
  if (delivery.has_value() && delivery->ok()) {
    const ReceivedWeights& received = ***delivery;
    const uint64_t version = received.manifest.version();
    if (version > engine_->version()) {
      RETURN_IF_ERROR(CheckManifest(received.manifest, weights_->tensors()));
      RETURN_IF_ERROR(engine_->SetWeights(version, received.bytes));
      client_->AckWeights(version);
    }
  } else if (delivery.has_value()) {
    const absl::Status& status = delivery->status();
    if (status.code() == absl::StatusCode::kInvalidArgument) return status;
    LOG(WARNING) << "weights: " << status.ToString();
    // NotFound: superseded; the learner names the newer version itself.
    if (status.code() != absl::StatusCode::kNotFound &&
        wanted_version_ > engine_->version()) {
      weight_client_->Want(wanted_version_);
    }
  }
  if (wanted_version_ > engine_->version() &&
      NowMs() - wanted_since_ms_ > options_.weights_deadline_ms) {
    return absl::DeadlineExceededError(absl::StrCat(
        "weight version ", wanted_version_, " did not arrive within ",
        options_.weights_deadline_ms, " ms; is the learner's weight socket ",
        client_->welcome().weights_chunks(), " up?"));
  }
  return absl::OkStatus();
}

bool Worker::HasRoomFor(int more) const {
  const int capacity = static_cast<int>(options_.learner.capacity_samples);
  const int busy_max = options_.busy_max > 0 ? options_.busy_max : capacity;
  return runner_->running() + more <= capacity &&
         runner_->running() - runner_->in_open_step() + more <= busy_max;
}

absl::Status Worker::StartEpisodes() {
  // Not while there is a backlog to deliver: what ended waits for room among
  // the unacked, and more would only add to it.
  while (!leases_.empty() && outbox_.empty()) {
    Lease& lease = leases_.front();
    if (engine_->version() == 0 ||
        lease.weight_version() > engine_->version() ||
        !(runner_->running() == 0 || HasRoomFor(lease.samples_size()))) {
      break;
    }
    // A group above what may run at once is run in parts.
    while (lease.samples_size() > 0 && HasRoomFor(1)) {
      const uint32_t sample = lease.samples(lease.samples_size() - 1);
      lease.mutable_samples()->RemoveLast();
      if (!client_->Begin(lease.lease(), lease.group(), sample)) continue;
      EpisodeSpec spec;
      spec.key.set_run(client_->welcome().run());
      spec.key.set_group(lease.group());
      spec.key.set_sample(sample);
      spec.key.set_lease(lease.lease());
      spec.purpose = lease.purpose();
      spec.task = lease.task();
      spec.sampling = lease.sampling();
      spec.mask = mask_;
      spec.seed = lease.seed();
      RETURN_IF_ERROR(runner_->Add(std::move(spec)));
    }
    if (lease.samples_size() > 0) break;
    leases_.pop_front();
  }
  return absl::OkStatus();
}

absl::Status Worker::SendEnded(std::vector<Trajectory> ended) {
  for (Trajectory& trajectory : ended) outbox_.push_back(std::move(trajectory));
  const int unacked_max =
      2 * static_cast<int>(options_.learner.capacity_samples);
  while (!outbox_.empty() && client_->unacked() < unacked_max) {
    RETURN_IF_ERROR(client_->Send(std::move(outbox_.front())));
    outbox_.pop_front();
  }
  return absl::OkStatus();
}

void Worker::ReportWaits() {
  Heartbeat heartbeat;
  heartbeat.set_weight_version(engine_->version());
  heartbeat.set_running_samples(static_cast<uint32_t>(runner_->running()));
  const int64_t now = NowMs();
  const bool idle = runner_->running() == 0 && leases_.empty();
  if (!idle) idle_since_ms_ = now;
  if (now - reported_ms_ < kReportMs) return;
  reported_ms_ = now;
  const auto add = [&](const std::string& name, int64_t since, int64_t limit) {
    WaitState* const wait = heartbeat.add_waits();
    wait->set_name(name);
    wait->set_elapsed_ms(static_cast<uint64_t>(now - since));
    wait->set_deadline_ms(static_cast<uint64_t>(limit));
  };
  if (wanted_version_ > engine_->version()) {
    add(absl::StrCat("weights ", wanted_version_), wanted_since_ms_,
        options_.weights_deadline_ms);
  }
  for (const EnvironmentWait& wait : runner_->EnvironmentWaits()) {
    if (now - wait.since_us / 1000 < kQuietMs) continue;
    const EnvironmentLimits limits =
        options_.environment_limits
            ? options_.environment_limits(wait.environment)
            : EnvironmentLimits{0, 0, 0};
    add(absl::StrCat(wait.environment, " ", NameOf(wait.call), ", ",
                     wait.episodes, " episodes"),
        wait.since_us / 1000, LimitOf(wait.call, limits));
  }
  // The learner bounds this one: it is whoever has nothing to give out.
  if (idle) add("lease", idle_since_ms_, 0);
  client_->SetHeartbeat(heartbeat);
}

absl::Status Worker::Run(const std::atomic<bool>* stop) {
  while (!*stop) {
    // In this order: weights between two engine steps, episodes with the
    // weights that are then there, and the step last.
    RETURN_IF_ERROR(TakeMessages());
    if (stopped_by_learner_) break;
    RETURN_IF_ERROR(TakeWeights());
    RETURN_IF_ERROR(StartEpisodes());
    std::vector<Trajectory> ended;
    if (runner_->running() > 0) {
      ASSIGN_OR_RETURN(ended, runner_->Advance(kIdleWaitMs * 1000));
    }
    RETURN_IF_ERROR(SendEnded(std::move(ended)));
    ReportWaits();
  }
  runner_->CancelAll("the worker stops");
  // The learner may be gone already; then nothing can be acked any more.
  const absl::Status acked = client_->WaitAcked(kLastAcksMs);
  if (!acked.ok()) LOG(INFO) << acked.ToString();
  // What is leased goes back now, not once the last environment call ends.
  client_.reset();
  return absl::OkStatus();
}

}  // namespace

int64_t LoopLimitMs(const ModelConfig& model, const EngineOptions& engine) {
  return kLoopMsMin + model.parameter_count() / kWeightsPerMs +
         model.active_parameter_count() * engine.batch_tokens_max /
             kForwardPerMs;
}

absl::Status RunWorker(const WorkerOptions& options, Backend* backend,
                       const std::atomic<bool>* stop) {
  Worker worker(options, backend);
  const absl::Status set_up = worker.SetUp(stop);
  if (absl::IsCancelled(set_up) && *stop) return absl::OkStatus();
  RETURN_IF_ERROR(set_up);
  return worker.Run(stop);
}

}  // namespace temper
