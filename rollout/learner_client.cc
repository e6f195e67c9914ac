#include "rollout/learner_client.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "proto/wire/loopback.h"
#include "proto/wire/trajectory_stream.h"
#include "rollout/learner_session.h"
#include "rollout/trajectory_limit.h"

namespace temper {
namespace {

constexpr size_t kInboxMax = 4096;
// Connect looks this often whether it is to stop.
constexpr int64_t kTickUs = 50'000;

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

LearnerClient::LearnerClient(const LearnerClientOptions& options)
    : options_(options),
      queue_(size_t{2} * options.capacity_samples),
      hung_ms_(options.hung_ms) {}

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
    {
      MutexLock lock(&mutex_);
      if (closing_) {
        return Fail(absl::CancelledError("the learner ended the run"));
      }
      queue_.StartStream();
    }
    // Gone, its connection too, before the pause.
    const Session::End end = Session(this).Run();
    MutexLock lock(&mutex_);
    if (closing_ || stopped_ || !final_.ok()) {
      return Fail(absl::CancelledError("the learner ended the run"));
    }
    if (!IsRetryable(end.status)) return Fail(end.status);
    if (NowUs() - last_welcome_us_ > options_.give_up_ms * 1000) {
      return Fail(absl::UnavailableError(absl::StrCat(
          "learner ", options_.address, " was not reached for ",
          options_.give_up_ms, " ms: ", std::string(end.status.message()))));
    }
    if (end.welcomed) backoff_us = options_.backoff_ms_min * 1000;
    LOG(WARNING) << "learner " << options_.address << ": "
                 << end.status.ToString() << "; again in " << backoff_us / 1000
                 << " ms";
    Pause(backoff_us);
    backoff_us = std::min(2 * backoff_us, options_.backoff_ms_max * 1000);
  }
}

void LearnerClient::Pause(int64_t pause_us) {
  const int64_t until = NowUs() + pause_us;
  while (!closing_ && NowUs() < until) {
    changed_.WaitFor(&mutex_, std::chrono::microseconds(
                                  std::max<int64_t>(1, until - NowUs())));
  }
}

void LearnerClient::FailIfHung(int64_t now) {
  if (reported_us_ == 0 || now - reported_us_ <= hung_ms_ * 1000) return;
  Fail(absl::DeadlineExceededError(
      absl::StrCat("worker ", options_.worker, " did nothing for ",
                   (now - reported_us_) / 1000, " ms, the limit is ", hung_ms_,
                   " ms: it hangs, and its leases go to others; restart it")));
}

void LearnerClient::OnMessage(LearnerMessage message) {
  switch (message.body_case()) {
    case LearnerMessage::kAck: {
      const TrajectoryAck& ack = message.ack();
      if (ack.result() == TrajectoryAck::REJECTED) {
        LOG(WARNING) << "group " << ack.key().group() << " sample "
                     << ack.key().sample() << " was rejected: " << ack.reason();
      }
      queue_.Ack(ack.key());
      break;
    }
    case LearnerMessage::kLease:
      queue_.TakeLease(message.mutable_lease());
      if (message.lease().samples_size() > 0) HandOut(std::move(message));
      break;
    case LearnerMessage::kStop:
      stopped_ = true;
      HandOut(std::move(message));
      break;
    case LearnerMessage::kWeightUpdate:
      HandOut(std::move(message));
      break;
    default:
      break;
  }
}

void LearnerClient::HandOut(LearnerMessage message) {
  inbox_.push_back(std::move(message));
  if (inbox_.size() > kInboxMax) {
    Fail(absl::ResourceExhaustedError(absl::StrCat(
        "the learner sent more than ", kInboxMax, " messages ahead")));
  }
}

bool LearnerClient::OnWelcome(LearnerMessage message) {
  const LearnerWelcome& welcome = message.welcome();
  if (welcome.wire_version() != kWireVersion) {
    Fail(absl::FailedPreconditionError(absl::StrCat(
        "the learner speaks wire version ", welcome.wire_version(),
        ", this worker ", kWireVersion, "; use binaries of one build")));
    return false;
  }
  if (connections_ > 0 && welcome.run() != welcome_.run()) {
    Fail(absl::FailedPreconditionError(
        absl::StrCat("the learner now serves run \"", welcome.run(),
                     "\", not \"", welcome_.run(), "\"; start a new worker")));
    return false;
  }
  ++connections_;
  last_welcome_us_ = NowUs();
  // The first is Connect's; from the second on the caller is told, in order
  // with the leases: those before it are of a stream that is gone.
  if (connections_ == 1) {
    welcome_ = welcome;
  } else {
    HandOut(std::move(message));
  }
  return true;
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
  RETURN_IF_ERROR(queue_.Add(std::move(trajectory)));
  changed_.NotifyAll();
  return absl::OkStatus();
}

bool LearnerClient::Begin(uint64_t lease, uint64_t group, uint32_t sample) {
  MutexLock lock(&mutex_);
  return queue_.Begin(lease, group, sample);
}

void LearnerClient::AckWeights(uint64_t version) {
  MutexLock lock(&mutex_);
  weights_version_ = version;
  ++weights_set_;
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
  return static_cast<int>(queue_.unacked());
}

absl::Status LearnerClient::WaitAcked(int64_t timeout_ms) {
  const int64_t until = NowUs() + timeout_ms * 1000;
  MutexLock lock(&mutex_);
  while (queue_.unacked() > 0) {
    if (!final_.ok()) return final_;
    const int64_t left = until - NowUs();
    if (left <= 0) {
      return absl::DeadlineExceededError(
          absl::StrCat(queue_.unacked(), " trajectories are not acked after ",
                       timeout_ms, " ms"));
    }
    changed_.WaitFor(&mutex_, std::chrono::microseconds(left));
  }
  return absl::OkStatus();
}

}  // namespace temper
