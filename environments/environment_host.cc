#include "environments/environment_host.h"

#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "environments/described_facts.h"
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
// Beside those of calls_max: wait for the next call, and serve those that take
// no time (Describe, Hold, Close, a refusal).
constexpr int kOtherThreads = 16;

absl::Status CheckDeadline(const grpc::ServerContext& context) {
  if (context.deadline() < std::chrono::system_clock::time_point::max()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("a call without a deadline; set one");
}

absl::Status CheckVersion(uint32_t wire_version) {
  if (wire_version == kEnvironmentWireVersion) return absl::OkStatus();
  // Not InvalidArgument: a worker would take it for the task's fault.
  return absl::FailedPreconditionError(
      absl::StrCat("wire version ", wire_version, "; this host speaks ",
                   kEnvironmentWireVersion, "; start both from one build"));
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
      : options_(options), context_(context), clock_(clock) {}

  grpc::Status Describe(grpc::ServerContext* context,
                        const DescribeRequest* request,
                        DescribeResponse* response) override {
    absl::Status status = CheckDeadline(*context);
    if (status.ok()) status = CheckVersion(request->wire_version());
    if (!status.ok()) return ToGrpcStatus(status);
    for (const EnvironmentFacts* facts : RegisteredEnvironments()) {
      *response->add_environments() = temper::Describe(*facts);
    }
    return grpc::Status::OK;
  }

  grpc::Status Validate(grpc::ServerContext* context,
                        const ValidateRequest* request,
                        ValidateResponse* response) override {
    return ToGrpcStatus(
        Counted(*context, [&] { return DoValidate(*request, response); }));
  }

  grpc::Status Open(grpc::ServerContext* context, const OpenRequest* request,
                    OpenResponse* response) override {
    return ToGrpcStatus(Counted(
        *context, [&] { return DoOpen(*context, *request, response); }));
  }

  grpc::Status Step(grpc::ServerContext* context, const StepRequest* request,
                    StepResponse* response) override {
    return ToGrpcStatus(Counted(*context, [&] {
      return With(KeyOf(*request), [&](Environment* e) {
        return DoStep(e, *request, response);
      });
    }));
  }

  grpc::Status Grade(grpc::ServerContext* context, const GradeRequest* request,
                     GradeResponse* response) override {
    return ToGrpcStatus(Counted(*context, [&] {
      return With(KeyOf(*request), [&](Environment* e) {
        return DoGrade(e, *request, response);
      });
    }));
  }

  grpc::Status Close(grpc::ServerContext* context, const CloseRequest* request,
                     CloseResponse*) override {
    const absl::Status status = CheckDeadline(*context);
    if (status.ok()) Remove(KeyOf(*request), nullptr);
    return ToGrpcStatus(status);
  }

  grpc::Status Hold(grpc::ServerContext* context, const HoldRequest* request,
                    HoldResponse*) override {
    const absl::Status status = CheckDeadline(*context);
    if (status.ok()) KeepOnly(*request);
    return ToGrpcStatus(status);
  }

 private:
  struct Episode {
    std::unique_ptr<Environment> environment;  // null while it is opened
    bool busy = true;
  };
  // Shared: a call may be running when its episode is closed.
  using EpisodePtr = std::shared_ptr<Episode>;
  using Key = std::pair<uint64_t, uint64_t>;  // client, its number

  template <typename Request>
  static Key KeyOf(const Request& request) {
    return {request.client(), request.episode()};
  }

  // Runs `call` as one of calls_max.
  template <typename Call>
  absl::Status Counted(const grpc::ServerContext& context, const Call& call) {
    RETURN_IF_ERROR(CheckDeadline(context));
    {
      MutexLock lock(&mutex_);
      // Refused, not queued: behind calls that wait for sandboxes those that
      // need none would be late, and a queue has no end.
      if (calls_ >= options_.calls_max) {
        return absl::ResourceExhaustedError(
            absl::StrCat(calls_, " calls are running, at most ",
                         options_.calls_max, "; raise --calls"));
      }
      ++calls_;
    }
    const absl::Status status = call();
    MutexLock lock(&mutex_);
    --calls_;
    return status;
  }

  static absl::Status DoValidate(const ValidateRequest& request,
                                 ValidateResponse* response) {
    RETURN_IF_ERROR(CheckVersion(request.wire_version()));
    ASSIGN_OR_RETURN(Observation observation, ValidateTask(request.task()));
    PutObservation(std::move(observation), response);
    return absl::OkStatus();
  }

  absl::Status DoOpen(const grpc::ServerContext& context,
                      const OpenRequest& request, OpenResponse* response) {
    RETURN_IF_ERROR(CheckVersion(request.wire_version()));
    ASSIGN_OR_RETURN(std::unique_ptr<Environment> environment,
                     NewEnvironment(request.task().environment(), context_));
    const Key key = KeyOf(request);
    // Before Reset, which may take long: a Close, or a Hold that does not name
    // it, is to find the episode meanwhile.
    ASSIGN_OR_RETURN(const EpisodePtr episode, Insert(key));
    absl::StatusOr<Observation> observation =
        environment->Reset(request.task(), request.seed());
    absl::Status status = observation.status();
    // Its client has given up and will hardly name it again: it would take a
    // place until the next Hold.
    if (status.ok() && context.IsCancelled()) {
      status = absl::CancelledError("nobody waits for the episode any more");
    }
    if (!status.ok()) {
      Remove(key, episode.get());
      return status;
    }
    PutObservation(*std::move(observation), response);
    MutexLock lock(&mutex_);
    heard_micros_[key.first] = clock_->MonotonicMicros();
    const auto found = episodes_.find(key);
    if (found == episodes_.end() || found->second != episode) {
      return absl::UnavailableError("the episode was closed while it opened");
    }
    episode->environment = std::move(environment);
    episode->busy = false;
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
  absl::Status With(const Key& key, const Call& call) {
    EpisodePtr episode;
    {
      MutexLock lock(&mutex_);
      const auto found = episodes_.find(key);
      if (found == episodes_.end()) {
        return absl::UnavailableError(absl::StrCat(
            "episode ", key.second,
            " is not here: it was closed, its client was silent for ",
            options_.client_silence_max.count(), " s, or the host restarted"));
      }
      episode = found->second;
      if (episode->busy) {
        return absl::FailedPreconditionError(
            absl::StrCat("episode ", key.second, " has a call running"));
      }
      episode->busy = true;
      heard_micros_[key.first] = clock_->MonotonicMicros();
    }
    // Unlocked; `busy` keeps others away, and the pointer the episode alive if
    // it is closed meanwhile.
    const absl::Status status = call(episode->environment.get());
    {
      MutexLock lock(&mutex_);
      episode->busy = false;
      heard_micros_[key.first] = clock_->MonotonicMicros();
    }
    // After an error an episode may only be destroyed (environment.h).
    if (!status.ok()) Remove(key, episode.get());
    return status;
  }

  // A place for an episode being opened.
  absl::StatusOr<EpisodePtr> Insert(const Key& key) {
    if (key.first == 0) {
      return absl::InvalidArgumentError("client is 0; give a random number");
    }
    std::vector<EpisodePtr> closed;  // destroyed without the lock
    MutexLock lock(&mutex_);
    heard_micros_[key.first] = clock_->MonotonicMicros();
    CloseSilent(&closed);
    if (const auto found = episodes_.find(key); found != episodes_.end()) {
      if (found->second->busy) {
        return absl::UnavailableError(
            absl::StrCat("episode ", key.second, " is being opened"));
      }
      closed.push_back(std::move(found->second));  // its answer was lost
      episodes_.erase(found);
    }
    if (episodes_.size() >= options_.episodes_max) {
      return absl::UnavailableError(absl::StrCat(
          episodes_.size(), " episodes are open, at most ",
          options_.episodes_max, "; try again, or raise --episodes"));
    }
    return episodes_[key] = std::make_shared<Episode>();
  }

  // Whether a call of one of the client's episodes is running.
  bool HasCall(uint64_t client) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (auto it = episodes_.lower_bound({client, 0});
         it != episodes_.end() && it->first.first == client; ++it) {
      if (it->second->busy) return true;
    }
    return false;
  }

  void CloseSilent(std::vector<EpisodePtr>* closed)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const int64_t since =
        clock_->MonotonicMicros() -
        std::chrono::microseconds(options_.client_silence_max).count();
    for (auto it = heard_micros_.begin(); it != heard_micros_.end();) {
      // A client that waits for a long call has nothing to say.
      if (it->second > since || HasCall(it->first)) {
        ++it;
        continue;
      }
      CloseOf(
          it->first, [](uint64_t) { return true; }, closed);
      it = heard_micros_.erase(it);
    }
  }

  void KeepOnly(const HoldRequest& request) {
    const std::set<uint64_t> held(request.episodes().begin(),
                                  request.episodes().end());
    std::vector<EpisodePtr> closed;  // destroyed without the lock
    MutexLock lock(&mutex_);
    heard_micros_[request.client()] = clock_->MonotonicMicros();
    CloseSilent(&closed);
    CloseOf(
        request.client(),
        [&](uint64_t episode) {
          // What was opened since the list was made is not in it, and stays.
          return episode < request.episode_next() && held.count(episode) == 0;
        },
        &closed);
  }

  // Takes those of the client's episodes for which `is_to_go`.
  template <typename Predicate>
  void CloseOf(uint64_t client, const Predicate& is_to_go,
               std::vector<EpisodePtr>* closed)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (auto it = episodes_.lower_bound({client, 0});
         it != episodes_.end() && it->first.first == client;) {
      if (!is_to_go(it->first.second)) {
        ++it;
        continue;
      }
      closed->push_back(std::move(it->second));
      it = episodes_.erase(it);
    }
  }

  // If it is `episode`, or whatever it is where that is null.
  void Remove(const Key& key, const Episode* episode) {
    EpisodePtr removed;  // destroyed without the lock
    MutexLock lock(&mutex_);
    const auto found = episodes_.find(key);
    if (found == episodes_.end()) return;
    if (episode != nullptr && found->second.get() != episode) return;
    removed = std::move(found->second);
    episodes_.erase(found);
  }

  const EnvironmentHostOptions options_;
  const EnvironmentContext context_;
  Clock* const clock_;

  Mutex mutex_;
  std::map<Key, EpisodePtr> episodes_ ABSL_GUARDED_BY(mutex_);
  uint32_t calls_ ABSL_GUARDED_BY(mutex_) = 0;  // that run, of calls_max
  // When each client last said something, or a call of its own ended.
  std::map<uint64_t, int64_t> heard_micros_ ABSL_GUARDED_BY(mutex_);
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
          .SetMaxThreads(static_cast<int>(options.calls_max) + kOtherThreads));
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
