#include "learner/learner_service.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <optional>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/mutex.h"
#include "proto/learner.grpc.pb.h"
#include "proto/wire/trajectory_stream.h"

namespace temper {
namespace {

constexpr auto kPollInterval = std::chrono::milliseconds(5);
constexpr size_t kOutboxMax = 4096;

int64_t NowMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

using Stream = grpc::ServerReaderWriter<LearnerMessage, WorkerMessage>;

// One worker's stream. The gRPC thread reads; a second thread writes what the
// outbox and the broker have.
class Connection {
 public:
  Connection(const LearnerServiceOptions& options, LeaseBroker* broker,
             grpc::ServerContext* context, Stream* stream, std::string worker)
      : options_(options),
        broker_(broker),
        context_(context),
        stream_(stream),
        worker_(std::move(worker)),
        last_heard_ms_(NowMs()) {}

  void Send(LearnerMessage message) {
    MutexLock lock(&mutex_);
    if (outbox_.size() >= kOutboxMax) {
      context_->TryCancel();  // a peer that reads nothing
      return;
    }
    outbox_.push_back(std::move(message));
  }

  // Held while a trajectory is answered, and while a lease is taken.
  Mutex* lease_order() ABSL_LOCK_RETURNED(lease_order_) {
    return &lease_order_;
  }

  void Heard() { last_heard_ms_.store(NowMs()); }
  void Cancel() { context_->TryCancel(); }
  void EndWriting() { ending_.store(true); }
  void Publish(uint64_t version) {
    LearnerMessage message;
    message.mutable_weight_update()->set_version(version);
    Send(std::move(message));
  }

  // Until EndWriting or a failed write.
  void WriteLoop() {
    int64_t last_beat_ms = 0;
    while (!ending_.load() && !context_->IsCancelled()) {
      const int64_t now = NowMs();
      if (now - last_heard_ms_.load() > options_.heartbeat_deadline_ms) {
        LOG(WARNING) << "worker " << worker_ << " was silent for "
                     << options_.heartbeat_deadline_ms << " ms; cut off";
        context_->TryCancel();
        return;
      }
      if (now - last_beat_ms >= options_.heartbeat_interval_ms) {
        LearnerMessage beat;
        beat.mutable_heartbeat();
        if (!stream_->Write(beat)) return;
        last_beat_ms = now;
      }
      if (!WriteOne()) return;
    }
  }

 private:
  bool WriteOne() {
    LearnerMessage message;
    if (PopOutbox(&message)) return stream_->Write(message);
    if (TakeLease()) return true;
    if (context_->IsCancelled()) return false;
    std::this_thread::sleep_for(kPollInterval);
    return true;
  }

  // Puts the next lease into the outbox, behind the acks that are there.
  bool TakeLease() {
    MutexLock lock(&lease_order_);
    absl::StatusOr<std::optional<Lease>> lease = broker_->Take(worker_);
    if (!lease.ok()) {
      LOG(ERROR) << "cannot lease to " << worker_ << ": " << lease.status();
      context_->TryCancel();
      return false;
    }
    if (!lease->has_value()) return false;
    LearnerMessage message;
    *message.mutable_lease() = std::move(**lease);
    Send(std::move(message));
    return true;
  }

  bool PopOutbox(LearnerMessage* message) {
    MutexLock lock(&mutex_);
    if (outbox_.empty()) return false;
    *message = std::move(outbox_.front());
    outbox_.pop_front();
    return true;
  }

  const LearnerServiceOptions& options_;
  LeaseBroker* const broker_;
  grpc::ServerContext* const context_;
  Stream* const stream_;
  const std::string worker_;
  std::atomic<int64_t> last_heard_ms_;
  std::atomic<bool> ending_{false};
  Mutex lease_order_;
  Mutex mutex_;
  std::deque<LearnerMessage> outbox_ ABSL_GUARDED_BY(mutex_);
};

class Service final : public LearnerService, public Learner::Service {
 public:
  Service(const LearnerServiceOptions& options, const LearnerWelcome& welcome,
          LeaseBroker* broker, TrajectorySink trajectories,
          WorkerEventSink events, WaitSink waits)
      : options_(options),
        broker_(broker),
        trajectories_(std::move(trajectories)),
        events_(std::move(events)),
        waits_(std::move(waits)),
        welcome_(welcome) {}

  ~Service() override { Shutdown("the learner ends", 0); }

  absl::Status Listen() {
    if (options_.address.rfind("127.", 0) != 0 &&
        options_.address.rfind("localhost:", 0) != 0 &&
        options_.address.rfind("[::1]", 0) != 0) {
      return absl::PermissionDeniedError(absl::StrCat(
          "the learner would listen on ", options_.address,
          ", which is not loopback; that needs mTLS, which this version does "
          "not have. Use 127.0.0.1"));
    }
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    builder.AddListeningPort(options_.address,
                             grpc::InsecureServerCredentials(), &port_);
    builder.SetMaxReceiveMessageSize(static_cast<int>(2 * kChunkBytes));
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port_ == 0) {
      return absl::UnavailableError(
          absl::StrCat("cannot listen on ", options_.address));
    }
    return absl::OkStatus();
  }

  grpc::Status Connect(grpc::ServerContext* context, Stream* stream) override {
    WorkerMessage first;
    if (!stream->Read(&first) || !first.has_hello()) {
      return {grpc::StatusCode::INVALID_ARGUMENT, "the first message is hello"};
    }
    const WorkerHello& hello = first.hello();
    if (const grpc::Status status = CheckHello(hello); !status.ok()) {
      return status;
    }
    if (const absl::Status status =
            broker_->AddWorker(hello.worker(), hello.capacity_samples());
        !status.ok()) {
      return {static_cast<grpc::StatusCode>(status.code()),
              std::string(status.message())};
    }
    events_(hello.worker(), "worker_joined", "");
    const std::string why = Serve(context, stream, hello.worker());
    const int returned = broker_->RemoveWorker(hello.worker());
    events_(hello.worker(), "worker_left",
            absl::StrCat(why, "; ", returned, " samples return"));
    return grpc::Status::OK;
  }

  int port() const override { return port_; }

  void Publish(uint64_t version) override {
    MutexLock lock(&mutex_);
    welcome_.set_weight_version(version);
    for (Connection* connection : connections_) connection->Publish(version);
  }

  void Shutdown(const std::string& reason, int64_t deadline_ms) override {
    if (server_ == nullptr) return;
    {
      MutexLock lock(&mutex_);
      LearnerMessage message;
      message.mutable_stop()->set_reason(reason);
      for (Connection* connection : connections_) connection->Send(message);
    }
    const int64_t deadline = NowMs() + deadline_ms;
    while (NowMs() < deadline && Live() > 0) {
      std::this_thread::sleep_for(kPollInterval);
    }
    server_->Shutdown(std::chrono::system_clock::now() +
                      std::chrono::milliseconds(200));
    server_.reset();
  }

 private:
  grpc::Status CheckHello(const WorkerHello& hello) {
    if (hello.wire_version() != kWireVersion) {
      return {grpc::StatusCode::INVALID_ARGUMENT,
              absl::StrCat("worker speaks wire version ", hello.wire_version(),
                           "; this learner speaks ", kWireVersion)};
    }
    MutexLock lock(&mutex_);
    if (!hello.run().empty() && hello.run() != welcome_.run()) {
      return {grpc::StatusCode::INVALID_ARGUMENT,
              absl::StrCat("worker wants run \"", hello.run(),
                           "\"; this learner serves \"", welcome_.run(), "\"")};
    }
    if (hello.worker().empty() || hello.capacity_samples() == 0) {
      return {grpc::StatusCode::INVALID_ARGUMENT,
              "hello needs a worker name and a capacity above 0"};
    }
    return grpc::Status::OK;
  }

  // Returns why the stream ended.
  std::string Serve(grpc::ServerContext* context, Stream* stream,
                    const std::string& worker) {
    LearnerMessage message;
    std::unique_ptr<Connection> connection;
    {
      // Under the lock, so that no version falls between welcome and Publish.
      MutexLock lock(&mutex_);
      *message.mutable_welcome() = welcome_;
      connection = std::make_unique<Connection>(options_, broker_, context,
                                                stream, worker);
      connection->Send(message);
      connections_.insert(connection.get());
    }
    std::thread writer([&] { connection->WriteLoop(); });
    const std::string why = ReadLoop(stream, worker, connection.get());
    connection->EndWriting();
    writer.join();
    MutexLock lock(&mutex_);
    connections_.erase(connection.get());
    return why;
  }

  std::string ReadLoop(Stream* stream, const std::string& worker,
                       Connection* connection) {
    TrajectoryAssembler assembler;
    WorkerMessage message;
    while (stream->Read(&message)) {
      connection->Heard();
      const absl::Status status =
          Handle(message, worker, &assembler, connection);
      if (!status.ok()) {
        connection->Cancel();
        return std::string(status.message());
      }
    }
    return "the stream ended";
  }

  absl::Status Handle(const WorkerMessage& message, const std::string& worker,
                      TrajectoryAssembler* assembler, Connection* connection) {
    switch (message.body_case()) {
      case WorkerMessage::kHeartbeat:
        broker_->ConfirmVersion(worker, message.heartbeat().weight_version());
        waits_(worker, message.heartbeat());
        return absl::OkStatus();
      case WorkerMessage::kWeightAck:
        broker_->ConfirmVersion(worker, message.weight_ack().version());
        return absl::OkStatus();
      case WorkerMessage::kHeader:
        return assembler->Header(message.header());
      case WorkerMessage::kChunk:
        return assembler->Chunk(message.chunk());
      case WorkerMessage::kEnd:
        return Receive(message.end(), worker, assembler, connection);
      default:
        return absl::InvalidArgumentError("an unexpected message");
    }
  }

  absl::Status Receive(const TrajectoryEnd& end, const std::string& worker,
                       TrajectoryAssembler* assembler,
                       Connection* connection) {
    const absl::StatusOr<std::string> bytes = assembler->End(end);
    if (!bytes.ok()) return bytes.status();
    // A sample to be tried again may be leased to this worker at once; it must
    // hear the ack of the first try before.
    MutexLock lock(connection->lease_order());
    absl::StatusOr<TrajectoryAck> ack = trajectories_(end.key(), *bytes);
    if (!ack.ok()) {
      LOG(ERROR) << "cannot commit a trajectory: " << ack.status();
      return ack.status();
    }
    broker_->Delivered(worker, end.key().lease(), end.key().sample());
    LearnerMessage message;
    *message.mutable_ack() = *std::move(ack);
    *message.mutable_ack()->mutable_key() = end.key();
    connection->Send(std::move(message));
    return absl::OkStatus();
  }

  size_t Live() const {
    MutexLock lock(&mutex_);
    return connections_.size();
  }

  const LearnerServiceOptions options_;
  LeaseBroker* const broker_;
  const TrajectorySink trajectories_;
  const WorkerEventSink events_;
  const WaitSink waits_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  mutable Mutex mutex_;
  LearnerWelcome welcome_ ABSL_GUARDED_BY(mutex_);
  std::set<Connection*> connections_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<LearnerService>> LearnerService::Start(
    const LearnerServiceOptions& options, const LearnerWelcome& welcome,
    LeaseBroker* broker, TrajectorySink trajectories, WorkerEventSink events,
    WaitSink waits) {
  auto service =
      std::make_unique<Service>(options, welcome, broker,
                                std::move(trajectories), std::move(events),
                                std::move(waits));
  const absl::Status status = service->Listen();
  if (!status.ok()) return status;
  return service;
}

}  // namespace temper
