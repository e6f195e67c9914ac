#include "learner/intake/worker_stream.h"

#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"

namespace temper {
namespace {

constexpr auto kPollInterval = std::chrono::milliseconds(5);

}  // namespace

bool WorkerStream::ReadUnder(CallWatchdog* watchdog, WorkerMessage* message) {
  CallWatchdog::Call call(watchdog, [this] { context_->TryCancel(); });
  const bool ok = stream_->Read(message);
  // Kept even if the read gave something in the same moment: the context is
  // cancelled, and the next read fails.
  if (call.expired()) {
    Cancel(absl::StrCat("it was silent for ", watchdog->deadline_ms(), " ms"));
  }
  return ok;
}

bool WorkerStream::Write(const LearnerMessage& message) {
  CallWatchdog::Call call(watchdog_, [this] { context_->TryCancel(); });
  const bool ok = stream_->Write(message);
  if (call.expired()) {
    Cancel(
        absl::StrCat("it read nothing for ", watchdog_->deadline_ms(), " ms"));
  }
  return ok;
}

void WorkerStream::Send(LearnerMessage message) {
  {
    MutexLock lock(&mutex_);
    // Bounded: a worker that reads nothing would have the learner keep all that
    // it is ever told.
    if (outbox_.size() < kOutboxMax) {
      outbox_.push_back(std::move(message));
      return;
    }
  }
  Cancel(absl::StrCat("it left ", kOutboxMax, " messages unread"));
}

void WorkerStream::Grant(uint32_t trajectories) {
  credits_ += trajectories;
  LearnerMessage message;
  message.mutable_credit()->set_trajectories(trajectories);
  Send(std::move(message));
}

absl::Status WorkerStream::SpendCredit() {
  if (credits_ == 0) {
    return absl::InvalidArgumentError(
        "it began a trajectory without a credit for it");
  }
  --credits_;
  return absl::OkStatus();
}

void WorkerStream::Cancel(const std::string& reason) {
  {
    MutexLock lock(&mutex_);
    // What comes after is a consequence: a stream that was cut off fails in
    // both directions.
    if (end_reason_.empty()) end_reason_ = reason;
  }
  context_->TryCancel();
}

std::string WorkerStream::EndReason() const {
  MutexLock lock(&mutex_);
  return end_reason_.empty() ? "the stream ended" : end_reason_;
}

void WorkerStream::WriteLoop(const std::string& worker) {
  const int64_t interval_us = heartbeat_interval_ms_ * 1000;
  int64_t last_beat_us = SystemClock()->MonotonicMicros();
  while (!ending_.load() && !context_->IsCancelled()) {
    const int64_t now = SystemClock()->MonotonicMicros();
    if (now - last_beat_us >= interval_us) {
      LearnerMessage beat;
      beat.mutable_heartbeat();
      if (!Write(beat)) return;
      last_beat_us = now;
    }
    if (!WriteOne(worker)) return;
  }
}

bool WorkerStream::WriteOne(const std::string& worker) {
  LearnerMessage message;
  // What waits is older than any lease that could be taken now.
  if (PopOutbox(&message)) return Write(message);
  if (TakeLease(worker)) return true;
  if (context_->IsCancelled()) return false;
  std::this_thread::sleep_for(kPollInterval);
  return true;
}

// Puts the next lease into the outbox, behind the acks that are there.
bool WorkerStream::TakeLease(const std::string& worker) {
  MutexLock lock(&lease_order_);
  absl::StatusOr<std::optional<Lease>> lease = broker_->Take(worker);
  if (!lease.ok()) {
    LOG(ERROR) << "cannot lease to " << worker << ": " << lease.status();
    Cancel("the learner cannot lease");
    return false;
  }
  if (!lease->has_value()) return false;
  LearnerMessage message;
  *message.mutable_lease() = std::move(**lease);
  Send(std::move(message));
  return true;
}

bool WorkerStream::PopOutbox(LearnerMessage* message) {
  MutexLock lock(&mutex_);
  if (outbox_.empty()) return false;
  *message = std::move(outbox_.front());
  outbox_.pop_front();
  return true;
}

}  // namespace temper
