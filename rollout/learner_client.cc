#include "rollout/learner_client.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "grpcpp/grpcpp.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "proto/learner.grpc.pb.h"
#include "proto/wire/grpc_status.h"
#include "proto/wire/loopback.h"
#include "proto/wire/loopback_channel.h"
#include "proto/wire/trajectory_stream.h"
#include "rollout/trajectory_limit.h"

namespace temper {
namespace {

constexpr size_t kInboxMax = 4096;
constexpr int kMessageBytesMax = 8 << 20;
// Longest sleep of the driving thread: deadlines are looked at this often.
constexpr int64_t kTickUs = 50'000;
// How long the status of a stream that the learner ended may take to come.
constexpr int64_t kStatusWaitUs = 1'000'000;

int64_t NowUs() { return SystemClock()->MonotonicMicros(); }

// Whether another stream may do better. AlreadyExists: the learner has not yet
// noticed that our last stream is gone.
bool IsRetryable(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kUnimplemented:
      return false;
    default:
      return true;
  }
}

}  // namespace

// gRPC calls the On... methods from its own threads.
class LearnerClient::Stream
    : public grpc::ClientBidiReactor<WorkerMessage, LearnerMessage> {
 public:
  explicit Stream(LearnerClient* client) : client_(client) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
    arguments.SetMaxSendMessageSize(kMessageBytesMax);
    // A pooled connection would keep its own backoff; ours decides.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    stub_ = Learner::NewStub(
        NewLoopbackChannel(client->options_.address, arguments));
    stub_->async()->Connect(&context_, this);
    AddHold();  // writes start outside the reactions
    StartRead(&incoming_);
    StartCall();
  }

  void Write(WorkerMessage message) {
    outgoing_ = std::move(message);
    StartWrite(&outgoing_);
  }
  void Cancel() { context_.TryCancel(); }
  void Finish() {
    finishing_.store(true, std::memory_order_release);
    RemoveHold();
  }

  void OnReadDone(bool ok) override {
    if (ok) {
      client_->OnMessage(std::move(incoming_));
      incoming_ = LearnerMessage();
      StartRead(&incoming_);
      return;
    }
    MutexLock lock(&client_->mutex_);
    client_->broken_ = true;
    client_->changed_.NotifyAll();
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(&client_->mutex_);
    // After a failed write none is begun, but what the learner said before it
    // closed the stream is still read: the reads find its end.
    client_->writing_ = !ok;
    client_->changed_.NotifyAll();
  }

  void OnDone(const grpc::Status& status) override {
    // The hold saw to it. Also shows this order to ThreadSanitizer, which does
    // not see gRPC's own.
    CHECK(finishing_.load(std::memory_order_acquire));
    MutexLock lock(&client_->mutex_);
    client_->done_ = true;
    client_->done_status_ = FromGrpcStatus(status);
    client_->changed_.NotifyAll();
  }

 private:
  LearnerClient* const client_;
  grpc::ClientContext context_;
  std::unique_ptr<Learner::Stub> stub_;
  LearnerMessage incoming_;
  WorkerMessage outgoing_;
  std::atomic<bool> finishing_{false};
};

LearnerClient::LearnerClient(const LearnerClientOptions& options)
    : options_(options), hung_ms_(options.hung_ms) {}

absl::StatusOr<std::unique_ptr<LearnerClient>> LearnerClient::Connect(
    const LearnerClientOptions& options) {
  RETURN_IF_ERROR(CheckLoopback(options.address));
  if (options.worker.empty() || options.capacity_samples == 0) {
    return absl::InvalidArgumentError(
        "a worker needs a name and a capacity of at least one sample");
  }
  std::unique_ptr<LearnerClient> client(new LearnerClient(options));
  LearnerClient* const raw = client.get();
  {
    MutexLock lock(&raw->mutex_);
    raw->last_welcome_us_ = NowUs();
  }
  client->thread_ = std::thread([raw] { raw->Run(); });
  MutexLock lock(&raw->mutex_);
  while (raw->connections_ == 0 && raw->final_.ok()) {
    if (options.stop != nullptr && *options.stop) {
      return absl::CancelledError("stopped before the learner's welcome");
    }
    raw->changed_.WaitFor(&raw->mutex_, std::chrono::microseconds(kTickUs));
  }
  if (raw->connections_ > 0) return client;
  const absl::Status status = raw->final_;
  return status;
}

LearnerClient::~LearnerClient() {
  {
    MutexLock lock(&mutex_);
    closing_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void LearnerClient::Fail(absl::Status status) {
  if (final_.ok()) final_ = std::move(status);
  changed_.NotifyAll();
}

void LearnerClient::Run() {
  int64_t backoff_us = options_.backoff_ms_min * 1000;
  while (true) {
    const absl::Status ended = RunStream();
    MutexLock lock(&mutex_);
    if (closing_ || stopped_ || !final_.ok()) {
      Fail(absl::CancelledError("the learner ended the run"));
      return;
    }
    if (!IsRetryable(ended)) return Fail(ended);
    const int64_t now = NowUs();
    if (now - last_welcome_us_ > options_.give_up_ms * 1000) {
      return Fail(absl::UnavailableError(absl::StrCat(
          "learner ", options_.address, " was not reached for ",
          options_.give_up_ms, " ms: ", std::string(ended.message()))));
    }
    if (welcomed_) backoff_us = options_.backoff_ms_min * 1000;
    LOG(WARNING) << "learner " << options_.address << ": " << ended.ToString()
                 << "; again in " << backoff_us / 1000 << " ms";
    const int64_t until = now + backoff_us;
    while (!closing_ && NowUs() < until) {
      changed_.WaitFor(&mutex_, std::chrono::microseconds(
                                    std::max<int64_t>(1, until - NowUs())));
    }
    backoff_us = std::min(2 * backoff_us, options_.backoff_ms_max * 1000);
  }
}

absl::Status LearnerClient::RunStream() {
  {
    MutexLock lock(&mutex_);
    if (closing_) return absl::CancelledError("closing");
    hello_sent_ = welcomed_ = broken_ = writing_ = done_ = false;
    weights_acked_ = false;
    done_status_ = absl::OkStatus();
    heard_us_ = heartbeat_us_ = NowUs();
    staged_.clear();
    credits_ = 0;
    credit_wait_us_ = 0;
    for (Outgoing& outgoing : unacked_) outgoing.sent = false;
  }
  Stream stream(this);
  DriveStream(&stream);
  stream.Finish();
  bool ended_by_peer = false;
  {
    // Then its status is under way, and a cancellation would hide it.
    MutexLock lock(&mutex_);
    const int64_t until = NowUs() + kStatusWaitUs;
    while (broken_ && !done_ && NowUs() < until) {
      changed_.WaitFor(&mutex_, std::chrono::microseconds(kTickUs));
    }
    ended_by_peer = done_;
  }
  if (!ended_by_peer) stream.Cancel();
  MutexLock lock(&mutex_);
  while (!done_) changed_.Wait(&mutex_);  // follows the cancellation
  if (NowUs() - heard_us_ > options_.peer_timeout_ms * 1000) {
    return absl::DeadlineExceededError(
        absl::StrCat("nothing heard for ", options_.peer_timeout_ms, " ms"));
  }
  if (CreditIsLate(NowUs())) {
    return absl::DeadlineExceededError(absl::StrCat(
        "no credit to send a trajectory for ", options_.credit_timeout_ms,
        " ms; ", unacked_.size(), " are not acked"));
  }
  return done_status_.ok() ? absl::UnavailableError("the stream was closed")
                           : done_status_;
}

void LearnerClient::DriveStream(Stream* stream) {
  while (true) {
    WorkerMessage message;
    {
      MutexLock lock(&mutex_);
      while (true) {
        const int64_t now = NowUs();
        FailIfHung(now);
        if (closing_ || broken_ || !final_.ok()) return;
        if (now - heard_us_ > options_.peer_timeout_ms * 1000) return;
        if (CreditIsLate(now)) return;
        if (!writing_ && NextOutgoing(now, &message)) break;
        changed_.WaitFor(&mutex_, std::chrono::microseconds(kTickUs));
      }
      writing_ = true;
    }
    stream->Write(std::move(message));
  }
}

bool LearnerClient::NextOutgoing(int64_t now, WorkerMessage* message) {
  if (!hello_sent_) {
    hello_sent_ = true;
    WorkerHello* const hello = message->mutable_hello();
    hello->set_wire_version(kWireVersion);
    hello->set_run(options_.run);
    hello->set_worker(options_.worker);
    hello->set_capacity_samples(options_.capacity_samples);
    return true;
  }
  if (!welcomed_) return false;
  if (has_weights_ && !weights_acked_) {
    weights_acked_ = true;
    message->mutable_weight_ack()->set_version(weights_version_);
    return true;
  }
  if (now - heartbeat_us_ >= options_.heartbeat_ms * 1000) {
    heartbeat_us_ = now;
    *message->mutable_heartbeat() = heartbeat_;
    if (credit_wait_us_ != 0) {
      WaitState* const wait = message->mutable_heartbeat()->add_waits();
      wait->set_name("credit");
      wait->set_elapsed_ms(static_cast<uint64_t>(now - credit_wait_us_) / 1000);
      wait->set_deadline_ms(static_cast<uint64_t>(options_.credit_timeout_ms));
    }
    return true;
  }
  if (staged_.empty()) StageNext(now);
  if (staged_.empty()) return false;
  *message = std::move(staged_.front());
  staged_.pop_front();
  return true;
}

void LearnerClient::StageNext(int64_t now) {
  const auto next =
      std::find_if(unacked_.begin(), unacked_.end(),
                   [](const Outgoing& outgoing) { return !outgoing.sent; });
  if (next == unacked_.end()) {
    credit_wait_us_ = 0;
  } else if (credits_ > 0) {
    credit_wait_us_ = 0;
    --credits_;
    StageTrajectory(&*next);
  } else if (credit_wait_us_ == 0) {
    credit_wait_us_ = now;
  }
}

bool LearnerClient::CreditIsLate(int64_t now) const {
  return credit_wait_us_ != 0 && credits_ == 0 &&
         now - credit_wait_us_ > options_.credit_timeout_ms * 1000;
}

void LearnerClient::FailIfHung(int64_t now) {
  if (reported_us_ == 0 || now - reported_us_ <= hung_ms_ * 1000) return;
  Fail(absl::DeadlineExceededError(
      absl::StrCat("worker ", options_.worker, " did nothing for ",
                   (now - reported_us_) / 1000, " ms, the limit is ", hung_ms_,
                   " ms: it hangs, and its leases go to others; restart it")));
}

void LearnerClient::StageTrajectory(Outgoing* outgoing) {
  outgoing->sent = true;
  std::vector<WorkerMessage> messages;
  const absl::Status status = SendTrajectory(
      outgoing->trajectory, [&messages](const WorkerMessage& message) {
        messages.push_back(message);
        return absl::OkStatus();
      });
  CHECK(status.ok()) << status.ToString();  // Send() checked the size
  for (WorkerMessage& message : messages) staged_.push_back(std::move(message));
}

void LearnerClient::OnMessage(LearnerMessage message) {
  MutexLock lock(&mutex_);
  heard_us_ = NowUs();
  switch (message.body_case()) {
    case LearnerMessage::kWelcome:
      OnWelcome(message.welcome());
      if (connections_ > 1) inbox_.push_back(std::move(message));
      break;
    case LearnerMessage::kAck:
      OnAck(message.ack());
      break;
    case LearnerMessage::kStop:
      stopped_ = true;
      inbox_.push_back(std::move(message));
      break;
    case LearnerMessage::kLease:
      DropHeldSamples(message.mutable_lease());
      if (message.lease().samples_size() == 0) break;
      inbox_.push_back(std::move(message));
      break;
    case LearnerMessage::kWeightUpdate:
      inbox_.push_back(std::move(message));
      break;
    case LearnerMessage::kCredit:
      credits_ += message.credit().trajectories();
      break;
    case LearnerMessage::kHeartbeat:
    case LearnerMessage::BODY_NOT_SET:
      break;
  }
  if (inbox_.size() > kInboxMax) {
    Fail(absl::ResourceExhaustedError(absl::StrCat(
        "the learner sent more than ", kInboxMax, " messages ahead")));
  }
  changed_.NotifyAll();
}

void LearnerClient::OnWelcome(const LearnerWelcome& welcome) {
  if (welcome.wire_version() != kWireVersion) {
    return Fail(absl::FailedPreconditionError(absl::StrCat(
        "the learner speaks wire version ", welcome.wire_version(),
        ", this worker ", kWireVersion, "; use binaries of one build")));
  }
  if (connections_ > 0 && welcome.run() != welcome_.run()) {
    return Fail(absl::FailedPreconditionError(
        absl::StrCat("the learner now serves run \"", welcome.run(),
                     "\", not \"", welcome_.run(), "\"; start a new worker")));
  }
  if (connections_ == 0) welcome_ = welcome;
  ++connections_;
  welcomed_ = true;
  last_welcome_us_ = NowUs();
}

void LearnerClient::OnAck(const TrajectoryAck& ack) {
  if (ack.result() == TrajectoryAck::REJECTED) {
    LOG(WARNING) << "group " << ack.key().group() << " sample "
                 << ack.key().sample() << " was rejected: " << ack.reason();
  }
  unacked_.remove_if([&ack](const Outgoing& outgoing) {
    const TrajectoryKey& key = outgoing.trajectory.key();
    return key.group() == ack.key().group() &&
           key.sample() == ack.key().sample();
  });
}

absl::StatusOr<std::optional<LearnerMessage>> LearnerClient::Next(
    int64_t timeout_ms) {
  const int64_t until = NowUs() + timeout_ms * 1000;
  MutexLock lock(&mutex_);
  while (inbox_.empty()) {
    if (!final_.ok()) return final_;
    const int64_t left = until - NowUs();
    if (left <= 0) return std::optional<LearnerMessage>();
    changed_.WaitFor(&mutex_, std::chrono::microseconds(left));
  }
  std::optional<LearnerMessage> message = std::move(inbox_.front());
  inbox_.pop_front();
  return message;
}

absl::Status LearnerClient::Send(Trajectory trajectory) {
  if (CutDown(&trajectory)) {
    LOG(WARNING) << "group " << trajectory.key().group() << " sample "
                 << trajectory.key().sample() << ": " << trajectory.error();
  }
  MutexLock lock(&mutex_);
  if (unacked_.size() >= size_t{2} * options_.capacity_samples) {
    return absl::ResourceExhaustedError(
        absl::StrCat(unacked_.size(), " trajectories are unacked; at most ",
                     2 * options_.capacity_samples, " may be"));
  }
  unacked_.push_back({std::move(trajectory), false});
  changed_.NotifyAll();
  return absl::OkStatus();
}

void LearnerClient::DropHeldSamples(Lease* lease) {
  const auto samples = lease->samples();
  lease->clear_samples();
  for (const uint32_t sample : samples) {
    if (!HoldsLocked(lease->group(), sample)) lease->add_samples(sample);
  }
}

bool LearnerClient::Holds(uint64_t group, uint32_t sample) const {
  MutexLock lock(&mutex_);
  return HoldsLocked(group, sample);
}

bool LearnerClient::HoldsLocked(uint64_t group, uint32_t sample) const {
  return std::any_of(unacked_.begin(), unacked_.end(),
                     [&](const Outgoing& outgoing) {
                       const TrajectoryKey& key = outgoing.trajectory.key();
                       return key.group() == group && key.sample() == sample;
                     });
}

void LearnerClient::AckWeights(uint64_t version) {
  MutexLock lock(&mutex_);
  has_weights_ = true;
  weights_version_ = version;
  weights_acked_ = false;
  changed_.NotifyAll();
}

void LearnerClient::SetHeartbeat(const Heartbeat& heartbeat) {
  MutexLock lock(&mutex_);
  heartbeat_ = heartbeat;
  reported_us_ = NowUs();
}

void LearnerClient::SetHungLimit(int64_t hung_ms) {
  MutexLock lock(&mutex_);
  hung_ms_ = hung_ms;
}

int LearnerClient::unacked() const {
  MutexLock lock(&mutex_);
  return static_cast<int>(unacked_.size());
}

int LearnerClient::connections() const {
  MutexLock lock(&mutex_);
  return connections_;
}

absl::Status LearnerClient::WaitAcked(int64_t timeout_ms) {
  const int64_t until = NowUs() + timeout_ms * 1000;
  MutexLock lock(&mutex_);
  while (!unacked_.empty()) {
    if (!final_.ok()) return final_;
    const int64_t left = until - NowUs();
    if (left <= 0) {
      return absl::DeadlineExceededError(
          absl::StrCat(unacked_.size(), " trajectories are not acked after ",
                       timeout_ms, " ms"));
    }
    changed_.WaitFor(&mutex_, std::chrono::microseconds(left));
  }
  return absl::OkStatus();
}

}  // namespace temper
