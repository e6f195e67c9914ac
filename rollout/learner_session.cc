#include "rollout/learner_session.h"

#include <chrono>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "proto/wire/grpc_status.h"
#include "proto/wire/loopback_channel.h"
#include "proto/wire/trajectory_stream.h"

namespace temper {
namespace {

constexpr int kMessageBytesMax = 8 << 20;
// Longest sleep of the driving thread: deadlines are looked at this often.
constexpr int64_t kTickUs = 50'000;
// How long the status of a stream that the learner ended may take to come.
constexpr int64_t kStatusWaitUs = 1'000'000;

int64_t NowUs() { return SystemClock()->MonotonicMicros(); }

}  // namespace

LearnerClient::Session::Session(LearnerClient* client)
    : client_(client), heard_us_(NowUs()), heartbeat_us_(heard_us_) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  arguments.SetMaxSendMessageSize(kMessageBytesMax);
  // A pooled connection would keep its own backoff; ours decides.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  stub_ =
      Learner::NewStub(NewLoopbackChannel(client->options_.address, arguments));
  stub_->async()->Connect(&context_, this);
  AddHold();  // writes start outside the reactions
  StartRead(&incoming_);
  made_.store(true, std::memory_order_release);
  StartCall();
}

LearnerClient::Session::End LearnerClient::Session::Run() {
  Drive();
  AwaitDone();
  MutexLock lock(&client_->mutex_);
  const int64_t now = NowUs();
  End end;
  end.welcomed = welcomed_;
  const LearnerClientOptions& options = client_->options_;
  // What we ended it for comes first: gRPC only knows that it was cancelled.
  if (PeerIsSilent(now)) {
    end.status = absl::DeadlineExceededError(
        absl::StrCat("nothing heard for ", options.peer_timeout_ms, " ms"));
  } else if (CreditIsLate(now)) {
    end.status = absl::DeadlineExceededError(absl::StrCat(
        "no credit to send a trajectory for ", options.credit_timeout_ms,
        " ms; ", client_->queue_.unacked(), " are not acked"));
  } else if (done_status_.ok()) {
    end.status = absl::UnavailableError("the stream was closed");
  } else {
    end.status = done_status_;
  }
  return end;
}

void LearnerClient::Session::Drive() {
  while (true) {
    {
      MutexLock lock(&client_->mutex_);
      while (true) {
        const int64_t now = NowUs();
        client_->FailIfHung(now);
        if (IsOver(now)) return;
        if (!writing_ && NextMessage(now, &outgoing_)) break;
        client_->changed_.WaitFor(&client_->mutex_,
                                  std::chrono::microseconds(kTickUs));
      }
      writing_ = true;
    }
    // Not under the lock: gRPC may call back from within.
    StartWrite(&outgoing_);
  }
}

bool LearnerClient::Session::IsOver(int64_t now) {
  return client_->closing_ || broken_ || !client_->final_.ok() ||
         PeerIsSilent(now) || CreditIsLate(now);
}

void LearnerClient::Session::AwaitDone() {
  finishing_.store(true, std::memory_order_release);
  RemoveHold();
  bool ended_by_peer = false;
  {
    // Then its status is under way, and a cancellation would hide it.
    MutexLock lock(&client_->mutex_);
    const int64_t until = NowUs() + kStatusWaitUs;
    while (broken_ && !done_ && NowUs() < until) {
      client_->changed_.WaitFor(&client_->mutex_,
                                std::chrono::microseconds(kTickUs));
    }
    ended_by_peer = done_;
  }
  if (!ended_by_peer) context_.TryCancel();
  MutexLock lock(&client_->mutex_);
  // Follows the cancellation. Until then the reactor must not go.
  while (!done_) client_->changed_.Wait(&client_->mutex_);
}

void LearnerClient::Session::OnReadDone(bool ok) {
  // No reaction comes before the call is started. Also shows this order to
  // ThreadSanitizer, which does not see gRPC's own.
  CHECK(made_.load(std::memory_order_acquire));
  {
    MutexLock lock(&client_->mutex_);
    if (ok) {
      OnMessage(std::move(incoming_));
    } else {
      broken_ = true;
    }
    client_->changed_.NotifyAll();
  }
  if (!ok) return;
  incoming_ = LearnerMessage();
  StartRead(&incoming_);
}

void LearnerClient::Session::OnWriteDone(bool ok) {
  CHECK(made_.load(std::memory_order_acquire));  // as in OnReadDone
  MutexLock lock(&client_->mutex_);
  // After a failed write none is begun, but what the learner said before it
  // closed the stream is still read: the reads find its end.
  writing_ = !ok;
  client_->changed_.NotifyAll();
}

void LearnerClient::Session::OnDone(const grpc::Status& status) {
  // The hold saw to it. Also shows this order to ThreadSanitizer, which does
  // not see gRPC's own.
  CHECK(finishing_.load(std::memory_order_acquire));
  MutexLock lock(&client_->mutex_);
  done_ = true;
  done_status_ = FromGrpcStatus(status);
  client_->changed_.NotifyAll();
}

void LearnerClient::Session::OnMessage(LearnerMessage message) {
  heard_us_ = NowUs();
  if (message.has_credit()) {
    credits_ += message.credit().trajectories();
  } else if (message.has_welcome()) {
    welcomed_ = client_->OnWelcome(std::move(message));
  } else {
    client_->OnMessage(std::move(message));
  }
}

bool LearnerClient::Session::NextMessage(int64_t now, WorkerMessage* message) {
  message->Clear();
  if (!hello_sent_) {
    hello_sent_ = true;
    MakeHello(message->mutable_hello());
    return true;
  }
  if (!welcomed_) return false;
  // Before heartbeats and trajectories: the learner leases nothing to a worker
  // that has not said which weights it has.
  if (weights_said_ != client_->weights_set_) {
    weights_said_ = client_->weights_set_;
    message->mutable_weight_ack()->set_version(client_->weights_version_);
    return true;
  }
  // Between the chunks of a trajectory too, which may be of many megabytes.
  if (now - heartbeat_us_ >= client_->options_.heartbeat_ms * 1000) {
    heartbeat_us_ = now;
    MakeHeartbeat(now, message->mutable_heartbeat());
    return true;
  }
  if (staged_.empty()) StageNext(now);
  if (staged_.empty()) return false;
  *message = std::move(staged_.front());
  staged_.pop_front();
  return true;
}

void LearnerClient::Session::MakeHello(WorkerHello* hello) const {
  const LearnerClientOptions& options = client_->options_;
  hello->set_wire_version(kWireVersion);
  hello->set_run(options.run);
  hello->set_worker(options.worker);
  hello->set_capacity_samples(options.capacity_samples);
  hello->set_numerics(options.numerics);
  hello->set_device(options.device);
}

void LearnerClient::Session::MakeHeartbeat(int64_t now, Heartbeat* heartbeat) {
  *heartbeat = client_->heartbeat_;
  if (credit_wait_us_ == 0) return;
  WaitState* const wait = heartbeat->add_waits();
  wait->set_name("credit");
  wait->set_elapsed_ms(static_cast<uint64_t>(now - credit_wait_us_) / 1000);
  wait->set_deadline_ms(
      static_cast<uint64_t>(client_->options_.credit_timeout_ms));
}

void LearnerClient::Session::StageNext(int64_t now) {
  if (!client_->queue_.has_unsent()) {
    credit_wait_us_ = 0;
    return;
  }
  if (credits_ == 0) {
    if (credit_wait_us_ == 0) credit_wait_us_ = now;
    return;
  }
  credit_wait_us_ = 0;
  --credits_;
  // A copy: its ack may come, and the queue forget it, while the last chunks
  // are still here.
  const absl::Status status = SendTrajectory(
      *client_->queue_.SendNext(),
      [this](const WorkerMessage& message) ABSL_NO_THREAD_SAFETY_ANALYSIS {
        staged_.push_back(message);
        return absl::OkStatus();
      });
  CHECK(status.ok()) << status.ToString();  // LearnerClient::Send saw its size
}

bool LearnerClient::Session::PeerIsSilent(int64_t now) const {
  return now - heard_us_ > client_->options_.peer_timeout_ms * 1000;
}

bool LearnerClient::Session::CreditIsLate(int64_t now) const {
  return credit_wait_us_ != 0 && credits_ == 0 &&
         now - credit_wait_us_ > client_->options_.credit_timeout_ms * 1000;
}

}  // namespace temper
