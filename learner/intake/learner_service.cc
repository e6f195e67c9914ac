#include "learner/intake/learner_service.h"

#include <chrono>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/mutex.h"
#include "kernels/base/status_macros.h"
#include "kernels/tensor/numerics.h"
#include "learner/intake/call_watchdog.h"
#include "learner/intake/worker_stream.h"
#include "proto/learner.grpc.pb.h"
#include "proto/wire/episode_limit.h"
#include "proto/wire/grpc_status.h"
#include "proto/wire/loopback.h"
#include "proto/wire/run_numerics.h"
#include "proto/wire/trajectory_stream.h"

namespace temper {
namespace {

constexpr auto kEndWait = std::chrono::milliseconds(200);
// Threads of gRPC's that wait for the next call; beside those of the streams.
constexpr int kPollers = 2;
// Of one connection. A worker has one.
constexpr int kStreamsOfConnection = 16;

using Stream = WorkerStream::Stream;

class Service final : public LearnerService, public Learner::Service {
 public:
  Service(const LearnerServiceOptions& options, const LearnerWelcome& welcome,
          LeaseBroker* broker, WorkerObserver* observer)
      : options_(options),
        broker_(broker),
        observer_(observer),
        watchdog_(options.heartbeat_deadline_ms, SystemClock()),
        hello_watchdog_(options.hello_deadline_ms, SystemClock()),
        welcome_(welcome) {}

  ~Service() override {
    // Workers that are told leave by themselves; the rest is cut off by the
    // deadline below.
    AskToFinish("the learner ends");
    if (server_ == nullptr) return;
    server_->Shutdown(std::chrono::system_clock::now() + kEndWait);
    server_.reset();  // joins its threads, while what they use is whole
  }

  absl::Status Listen() {
    RETURN_IF_ERROR(CheckLoopback(options_.address));
    // Before the builder: it is asked when the server is built.
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    builder.AddListeningPort(options_.address,
                             grpc::InsecureServerCredentials(), &port_);
    // Two chunks' worth: a trajectory comes in pieces, and nothing larger is
    // expected.
    builder.SetMaxReceiveMessageSize(static_cast<int>(2 * kChunkBytes));
    builder.SetResourceQuota(grpc::ResourceQuota("learner").SetMaxThreads(
        options_.streams_max + kPollers));
    // Streams above the quota of threads are refused; without this one
    // connection could take the quota by itself.
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                               kStreamsOfConnection);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port_ == 0) {
      return absl::UnavailableError(
          absl::StrCat("cannot listen on ", options_.address));
    }
    return absl::OkStatus();
  }

  grpc::Status Connect(grpc::ServerContext* context, Stream* stream) override {
    WorkerStream worker(broker_, &watchdog_, options_.heartbeat_interval_ms,
                        context, stream);
    WorkerMessage first;
    if (!worker.ReadHello(&hello_watchdog_, &first)) {
      return {grpc::StatusCode::CANCELLED,
              absl::StrCat("no hello: ", worker.EndReason())};
    }
    if (!first.has_hello()) {
      return {grpc::StatusCode::INVALID_ARGUMENT, "the first message is hello"};
    }
    const WorkerHello& hello = first.hello();
    if (const grpc::Status status = CheckHello(hello); !status.ok()) {
      return status;
    }
    if (const absl::Status status =
            broker_->AddWorker(hello.worker(), hello.capacity_samples());
        !status.ok()) {
      return ToGrpcStatus(status);
    }
    observer_->OnJoined(hello.worker(),
                        absl::StrCat(hello.numerics(), " on ", hello.device()));
    Serve(hello.worker(), &worker);
    // Told once the samples are there again: whoever reads it may count on it.
    const int returned = broker_->RemoveWorker(hello.worker());
    observer_->OnLeft(hello.worker(), worker.EndReason(), returned);
    return grpc::Status::OK;
  }

  int port() const override { return port_; }

  void Publish(uint64_t version) override {
    MutexLock lock(&mutex_);
    welcome_.set_weight_version(version);
    LearnerMessage message;
    message.mutable_weight_update()->set_version(version);
    // Queued, not written: a worker that does not read must not hold up the
    // others.
    for (WorkerStream* worker : workers_) worker->Send(message);
  }

  void AskToFinish(const std::string& reason) override {
    MutexLock lock(&mutex_);
    LearnerMessage message;
    message.mutable_stop()->set_reason(reason);
    for (WorkerStream* worker : workers_) worker->Send(message);
  }

 private:
  grpc::Status CheckHello(const WorkerHello& hello) {
    if (hello.wire_version() != kWireVersion) {
      return {grpc::StatusCode::INVALID_ARGUMENT,
              absl::StrCat("worker speaks wire version ", hello.wire_version(),
                           "; this learner speaks ", kWireVersion)};
    }
    MutexLock lock(&mutex_);
    // A port may be another learner's by now.
    if (!hello.run().empty() && hello.run() != welcome_.run()) {
      return {grpc::StatusCode::INVALID_ARGUMENT,
              absl::StrCat("worker wants run \"", hello.run(),
                           "\"; this learner serves \"", welcome_.run(), "\"")};
    }
    if (hello.worker().empty() || hello.capacity_samples() == 0) {
      return {grpc::StatusCode::INVALID_ARGUMENT,
              "hello needs a worker name and a capacity above 0"};
    }
    if (hello.worker().size() > kNameBytesMax) {
      return {grpc::StatusCode::INVALID_ARGUMENT,
              absl::StrCat("the worker's name has ", hello.worker().size(),
                           " bytes; at most ", kNameBytesMax)};
    }
    return CheckArithmetic(hello);
  }

  // What it samples has the learner's bits only if both compute alike: in fp32
  // any two kinds of device do.
  grpc::Status CheckArithmetic(const WorkerHello& hello)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::string ours = NameOf(NumericsOf(welcome_.config()));
    if (hello.numerics() != ours) {
      return {grpc::StatusCode::INVALID_ARGUMENT,
              absl::StrCat("worker computes in \"", hello.numerics(),
                           "\"; this run in ", ours,
                           ": start it with this run's directory")};
    }
    if (hello.device() != welcome_.device() && ours != NameOf(kFp32)) {
      return {grpc::StatusCode::INVALID_ARGUMENT,
              absl::StrCat("worker computes on \"", hello.device(),
                           "\" and this learner on ", welcome_.device(),
                           ", whose bits differ in ", ours,
                           "; start it on the same kind of device")};
    }
    return grpc::Status::OK;
  }

  void Serve(const std::string& name, WorkerStream* worker) {
    {
      // Under the lock, so that no version falls between welcome and Publish.
      MutexLock lock(&mutex_);
      LearnerMessage message;
      *message.mutable_welcome() = welcome_;
      worker->Send(std::move(message));
      workers_.insert(worker);
    }
    // After the welcome, which is in the outbox: the worker may begin to send
    // at once, what it kept from an earlier stream above all.
    worker->Grant(kCredits);
    std::thread writer([&] { worker->WriteLoop(name); });
    ReadLoop(name, worker);
    // The reads are over: the worker is gone, or was cut off. The writer ends
    // before the stream's context does.
    worker->EndWriting();
    writer.join();
    MutexLock lock(&mutex_);
    workers_.erase(worker);
  }

  void ReadLoop(const std::string& name, WorkerStream* worker) {
    TrajectoryAssembler assembler;
    WorkerMessage message;
    while (worker->Read(&message)) {
      const absl::Status status = Handle(message, name, &assembler, worker);
      if (!status.ok()) {
        return worker->Cancel(std::string(status.message()));
      }
    }
  }

  absl::Status Handle(const WorkerMessage& message, const std::string& name,
                      TrajectoryAssembler* assembler, WorkerStream* worker) {
    switch (message.body_case()) {
      case WorkerMessage::kHeartbeat:
        broker_->ConfirmVersion(name, message.heartbeat().weight_version());
        observer_->OnHeartbeat(name, message.heartbeat());
        return absl::OkStatus();
      case WorkerMessage::kWeightAck:
        broker_->ConfirmVersion(name, message.weight_ack().version());
        return absl::OkStatus();
      case WorkerMessage::kHeader:
        // At its header, not at its end: what is half sent takes memory here
        // too.
        RETURN_IF_ERROR(worker->SpendCredit());
        return assembler->Header(message.header());
      case WorkerMessage::kChunk:
        return assembler->Chunk(message.chunk());
      case WorkerMessage::kEnd:
        return Receive(message.end(), name, assembler, worker);
      default:
        return absl::InvalidArgumentError("an unexpected message");
    }
  }

  absl::Status Receive(const TrajectoryEnd& end, const std::string& name,
                       TrajectoryAssembler* assembler, WorkerStream* worker) {
    const absl::StatusOr<std::string> bytes = assembler->End(end);
    if (!bytes.ok()) return bytes.status();
    // A sample to be tried again may be leased to this worker at once; it must
    // hear the ack of the first try before.
    MutexLock lock(worker->lease_order());
    absl::StatusOr<TrajectoryAck> ack =
        observer_->OnTrajectory(end.key(), *bytes);
    if (!ack.ok()) {
      LOG(ERROR) << "cannot commit a trajectory: " << ack.status();
      return ack.status();
    }
    broker_->Delivered(name, end.key());
    LearnerMessage message;
    *message.mutable_ack() = *std::move(ack);
    *message.mutable_ack()->mutable_key() = end.key();
    worker->Send(std::move(message));
    worker->Grant(1);
    return absl::OkStatus();
  }

  const LearnerServiceOptions options_;
  LeaseBroker* const broker_;
  WorkerObserver* const observer_;
  CallWatchdog watchdog_;
  CallWatchdog hello_watchdog_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  mutable Mutex mutex_;
  LearnerWelcome welcome_ ABSL_GUARDED_BY(mutex_);
  std::set<WorkerStream*> workers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<LearnerService>> LearnerService::Start(
    const LearnerServiceOptions& options, const LearnerWelcome& welcome,
    LeaseBroker* broker, WorkerObserver* observer) {
  auto service = std::make_unique<Service>(options, welcome, broker, observer);
  const absl::Status status = service->Listen();
  if (!status.ok()) return status;
  return service;
}

}  // namespace temper
