#include "environments/environment_host.h"

#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "environments/registry.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "kernels/base/mutex.h"
#include "kernels/base/status_macros.h"
#include "proto/environment.grpc.pb.h"
#include "proto/wire/grpc_status.h"
#include "proto/wire/loopback.h"

namespace temper {
namespace {

constexpr std::chrono::seconds kStopGrace(1);

absl::Status CheckDeadline(const grpc::ServerContext& context) {
  if (context.deadline() < std::chrono::system_clock::time_point::max()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("a call without a deadline; set one");
}

absl::Status CheckVersion(uint32_t wire_version) {
  if (wire_version == kEnvironmentWireVersion) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("wire version ", wire_version,
                                                 "; this host speaks ",
                                                 kEnvironmentWireVersion));
}

template <typename Response>
void PutObservation(Observation observation, Response* response) {
  for (Message& message : observation.messages) {
    *response->add_messages() = std::move(message);
  }
  for (Tool& tool : observation.tools) {
    *response->add_tools() = std::move(tool);
  }
}

}  // namespace

class EnvironmentHostServer::Service : public EnvironmentHost::Service {
 public:
  Service(const EnvironmentHostOptions& options,
          const EnvironmentContext& context, Clock* clock)
      : options_(options),
        context_(context),
        clock_(clock),
        // Ids of a host that was here before must not name episodes of ours.
        next_episode_(static_cast<uint64_t>(clock->UnixMicros()) << 12) {}

  grpc::Status Validate(grpc::ServerContext* context,
                        const ValidateRequest* request,
                        ValidateResponse* response) override {
    return ToGrpcStatus(DoValidate(*context, *request, response));
  }

  grpc::Status Open(grpc::ServerContext* context, const OpenRequest* request,
                    OpenResponse* response) override {
    return ToGrpcStatus(DoOpen(*context, *request, response));
  }

  grpc::Status Step(grpc::ServerContext* context, const StepRequest* request,
                    StepResponse* response) override {
    return ToGrpcStatus(With(*context, request->episode(), [&](Environment* e) {
      return DoStep(e, *request, response);
    }));
  }

  grpc::Status Grade(grpc::ServerContext* context, const GradeRequest* request,
                     GradeResponse* response) override {
    return ToGrpcStatus(With(*context, request->episode(), [&](Environment* e) {
      return DoGrade(e, *request, response);
    }));
  }

  grpc::Status Close(grpc::ServerContext* context, const CloseRequest* request,
                     CloseResponse*) override {
    const absl::Status status = CheckDeadline(*context);
    if (status.ok()) Remove(request->episode());
    return ToGrpcStatus(status);
  }

 private:
  struct Episode {
    std::unique_ptr<Environment> environment;
    bool busy = false;
    int64_t used_micros = 0;
  };
  // Shared: a call may be running when its episode is closed or expires.
  using Episodes = std::map<uint64_t, std::shared_ptr<Episode>>;

  static absl::Status DoValidate(const grpc::ServerContext& context,
                                 const ValidateRequest& request,
                                 ValidateResponse* response) {
    RETURN_IF_ERROR(CheckDeadline(context));
    RETURN_IF_ERROR(CheckVersion(request.wire_version()));
    ASSIGN_OR_RETURN(Observation observation, ValidateTask(request.task()));
    PutObservation(std::move(observation), response);
    return absl::OkStatus();
  }

  absl::Status DoOpen(const grpc::ServerContext& context,
                      const OpenRequest& request, OpenResponse* response) {
    RETURN_IF_ERROR(CheckDeadline(context));
    RETURN_IF_ERROR(CheckVersion(request.wire_version()));
    ASSIGN_OR_RETURN(std::unique_ptr<Environment> environment,
                     NewEnvironment(request.task().environment(), context_));
    ASSIGN_OR_RETURN(const uint64_t id, Insert());
    absl::StatusOr<Observation> observation =
        environment->Reset(request.task(), request.seed());
    if (!observation.ok()) {
      Remove(id);
      return observation.status();
    }
    response->set_episode(id);
    PutObservation(*std::move(observation), response);
    MutexLock lock(&mutex_);
    const auto found = episodes_.find(id);
    if (found == episodes_.end()) {
      return absl::UnavailableError("the episode expired while it was opened");
    }
    found->second->environment = std::move(environment);
    found->second->busy = false;
    return absl::OkStatus();
  }

  static absl::Status DoStep(Environment* environment,
                             const StepRequest& request,
                             StepResponse* response) {
    const std::vector<ToolCall> calls(request.calls().begin(),
                                      request.calls().end());
    ASSIGN_OR_RETURN(std::vector<ToolResult> results, environment->Step(calls));
    for (ToolResult& result : results) {
      *response->add_results() = std::move(result);
    }
    return absl::OkStatus();
  }

  static absl::Status DoGrade(Environment* environment,
                              const GradeRequest& request,
                              GradeResponse* response) {
    const std::vector<Message> transcript(request.transcript().begin(),
                                          request.transcript().end());
    ASSIGN_OR_RETURN(*response->mutable_verdict(),
                     environment->Grade(request.outcome(), transcript));
    return absl::OkStatus();
  }

  // Runs `call` on the episode, which is nobody else's meanwhile.
  template <typename Call>
  absl::Status With(const grpc::ServerContext& context, uint64_t id,
                    const Call& call) {
    RETURN_IF_ERROR(CheckDeadline(context));
    std::shared_ptr<Episode> episode;
    {
      MutexLock lock(&mutex_);
      const auto found = episodes_.find(id);
      if (found == episodes_.end()) {
        return absl::UnavailableError(absl::StrCat(
            "episode ", id, " is not here: it was closed, was idle for ",
            options_.episode_idle_max.count(), " s, or the host restarted"));
      }
      episode = found->second;
      if (episode->busy) {
        return absl::FailedPreconditionError(
            absl::StrCat("episode ", id, " has a call running"));
      }
      episode->busy = true;
    }
    const absl::Status status = call(episode->environment.get());
    {
      MutexLock lock(&mutex_);
      episode->busy = false;
      episode->used_micros = clock_->MonotonicMicros();
    }
    if (!status.ok()) Remove(id);
    return status;
  }

  // A place for an episode being opened, after closing those that idled.
  absl::StatusOr<uint64_t> Insert() {
    std::vector<std::shared_ptr<Episode>> expired;  // closed without the lock
    const int64_t now = clock_->MonotonicMicros();
    const int64_t idle_max = 1'000'000 * options_.episode_idle_max.count();
    MutexLock lock(&mutex_);
    for (auto it = episodes_.begin(); it != episodes_.end();) {
      if (it->second->busy || now - it->second->used_micros < idle_max) {
        ++it;
        continue;
      }
      expired.push_back(std::move(it->second));
      it = episodes_.erase(it);
    }
    if (episodes_.size() >= options_.episodes_max) {
      return absl::ResourceExhaustedError(absl::StrCat(
          episodes_.size(), " episodes are open, at most ",
          options_.episodes_max, "; close some or raise episodes_max"));
    }
    auto episode = std::make_shared<Episode>();
    episode->busy = true;
    episode->used_micros = now;
    episodes_[next_episode_] = std::move(episode);
    return next_episode_++;
  }

  void Remove(uint64_t id) {
    std::shared_ptr<Episode> removed;  // destroyed without the lock
    MutexLock lock(&mutex_);
    const auto found = episodes_.find(id);
    if (found == episodes_.end()) return;
    removed = std::move(found->second);
    episodes_.erase(found);
  }

  const EnvironmentHostOptions options_;
  const EnvironmentContext context_;
  Clock* const clock_;

  Mutex mutex_;
  Episodes episodes_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_episode_ ABSL_GUARDED_BY(mutex_);
};

EnvironmentHostServer::EnvironmentHostServer() = default;

absl::StatusOr<std::unique_ptr<EnvironmentHostServer>>
EnvironmentHostServer::Start(const EnvironmentHostOptions& options,
                             const EnvironmentContext& context, Clock* clock) {
  RETURN_IF_ERROR(CheckLoopback(options.address));
  std::unique_ptr<EnvironmentHostServer> host(new EnvironmentHostServer);
  host->service_ = std::make_unique<Service>(options, context, clock);
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(options.address, grpc::InsecureServerCredentials(),
                           &port);
  builder.RegisterService(host->service_.get());
  builder.SetMaxReceiveMessageSize(kEnvironmentMessageBytesMax);
  builder.SetMaxSendMessageSize(kEnvironmentMessageBytesMax);
  builder.SetResourceQuota(
      grpc::ResourceQuota("environment-host")
          .SetMaxThreads(static_cast<int>(options.threads_max)));
  // Two hosts on one port would share its calls; episodes live in one of them.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  host->server_ = builder.BuildAndStart();
  if (host->server_ == nullptr || port == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", options.address,
                     "; is the port taken? port 0 picks a free one"));
  }
  host->address_ = absl::StrCat(
      options.address.substr(0, options.address.rfind(':')), ":", port);
  return host;
}

EnvironmentHostServer::~EnvironmentHostServer() {
  if (server_ == nullptr) return;
  Stop();
  Wait();
}

void EnvironmentHostServer::Stop() {
  server_->Shutdown(std::chrono::system_clock::now() + kStopGrace);
}

void EnvironmentHostServer::Wait() { server_->Wait(); }

}  // namespace temper
