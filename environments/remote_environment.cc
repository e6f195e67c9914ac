#include "environments/remote_environment.h"

#include <pthread.h>

#include <algorithm>
#include <functional>
#include <random>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "environments/described_facts.h"
#include "environments/environment_host.h"
#include "environments/registry.h"
#include "environments/reply_check.h"
#include "grpcpp/grpcpp.h"
#include "kernels/base/mutex.h"
#include "kernels/base/status_macros.h"
#include "proto/environment.grpc.pb.h"
#include "proto/wire/grpc_status.h"
#include "proto/wire/loopback_channel.h"

namespace temper {

namespace {

// Between two tries of a call that waits for the host.
constexpr std::chrono::milliseconds kRetryPause(200);
constexpr std::chrono::seconds kHoldMax(2);
constexpr char kNoAddress[] = "the environment host's address is not known yet";

std::shared_ptr<grpc::Channel> NewChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kEnvironmentMessageBytesMax);
  arguments.SetMaxSendMessageSize(kEnvironmentMessageBytesMax);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1'000);
  return NewLoopbackChannel(address, arguments);
}

uint64_t RandomClient() {
  std::random_device random;
  const uint64_t high = random(), low = random();
  // Random, so that a worker that restarts is another client, whose numbers
  // begin anew.
  return (high << 32 | low) | 1;  // not 0
}

}  // namespace

class EnvironmentClient::Connection {
 public:
  Connection(HostAddress address, const RemoteEnvironmentOptions& options)
      : options_(options),
        find_(std::move(address)),
        client_(RandomClient()),
        thread_([this] {
          pthread_setname_np(pthread_self(), "temper-hold");
          Hold();
        }) {}

  ~Connection() {
    {
      MutexLock lock(&mutex_);
      stopping_ = true;
    }
    stop_.NotifyAll();
    thread_.join();
  }

  const RemoteEnvironmentOptions& options() const { return options_; }
  uint64_t client() const { return client_; }

  // The number of a new episode, held until Forget.
  uint64_t NewEpisode() {
    MutexLock lock(&mutex_);
    held_.insert(next_);
    return next_++;
  }
  void Forget(uint64_t episode) {
    MutexLock lock(&mutex_);
    held_.erase(episode);
  }

  // Runs one call with its deadline.
  template <typename Method, typename Request, typename Response>
  absl::Status Call(Method method, std::chrono::microseconds limit,
                    const Request& request, Response* response) {
    const std::shared_ptr<Link> link = CurrentLink();
    if (link == nullptr) {
      return absl::UnavailableError(kNoAddress);
    }
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + limit);
    const grpc::Status answer =
        (link->stub.get()->*method)(&context, request, response);
    return OfHost(*link, context, limit, answer);
  }

  // One Step, without a thread that waits for it: `done` is called once, on a
  // thread of gRPC's.
  struct OpenStep {
    grpc::ClientContext context;
    StepRequest request;
    StepResponse response;
  };
  void Start(std::chrono::microseconds limit, std::shared_ptr<OpenStep> step,
             std::function<void(const absl::Status&)> done) {
    const std::shared_ptr<Link> link = CurrentLink();
    if (link == nullptr) return done(absl::UnavailableError(kNoAddress));
    step->context.set_deadline(std::chrono::system_clock::now() + limit);
    OpenStep* const open = step.get();
    link->stub->async()->Step(
        &open->context, &open->request, &open->response,
        [link, limit, step = std::move(step),
         done = std::move(done)](const grpc::Status& answer) {
          done(OfHost(*link, step->context, limit, answer));
        });
  }

  // The same for a call that may be made again: waits for a host that is not
  // there, or full, until `limit`. At once refused, an episode would spend its
  // retries, and its group's replacements theirs, while the host restarts. What
  // is answered at all is to be answered within `call_max`.
  template <typename Method, typename Request, typename Response>
  absl::Status CallPatiently(Method method, std::chrono::seconds limit,
                             std::chrono::milliseconds call_max,
                             const Request& request, Response* response) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    for (;;) {
      const auto left = std::chrono::duration_cast<std::chrono::microseconds>(
          deadline - std::chrono::steady_clock::now());
      const absl::Status status =
          Call(method, std::min<std::chrono::microseconds>(left, call_max),
               request, response);
      if (!absl::IsUnavailable(status)) return status;
      if (std::chrono::steady_clock::now() + kRetryPause >= deadline) {
        return absl::DeadlineExceededError(absl::StrCat(
            std::string(status.message()), "; waited ", limit.count(), " s"));
      }
      std::this_thread::sleep_for(kRetryPause);
      Refresh();
    }
  }

  absl::Status WaitUntilReady(std::chrono::seconds limit) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    for (;;) {
      const std::shared_ptr<Link> link = CurrentLink();
      if (link == nullptr) {
        std::this_thread::sleep_for(kRetryPause);
      } else if (link->channel->WaitForConnected(
                     std::chrono::system_clock::now() + kRetryPause)) {
        return absl::OkStatus();
      }
      if (std::chrono::steady_clock::now() >= deadline) {
        return absl::UnavailableError(absl::StrCat(
            link == nullptr ? kNoAddress
                            : absl::StrCat("environment host ", link->address,
                                           " does not answer"),
            "; waited ", limit.count(), " s"));
      }
      Refresh();
    }
  }

 private:
  struct Link {
    std::string address;
    std::shared_ptr<grpc::Channel> channel;
    std::unique_ptr<EnvironmentHost::Stub> stub;
  };

  // A host may have a deadline of its own to tell of, before ours has passed.
  static absl::Status OfHost(const Link& link,
                             const grpc::ClientContext& context,
                             std::chrono::microseconds limit,
                             const grpc::Status& answer) {
    const absl::Status status = FromGrpcStatus(answer);
    if (status.ok()) return status;
    const std::string late =
        absl::IsDeadlineExceeded(status) &&
                std::chrono::system_clock::now() >= context.deadline()
            ? absl::StrCat("no answer within ", limit.count() / 1000, " ms: ")
            : "";
    return absl::Status(status.code(),
                        absl::StrCat("environment host ", link.address, ": ",
                                     late, std::string(status.message())));
  }

  std::shared_ptr<Link> CurrentLink() {
    {
      MutexLock lock(&mutex_);
      if (link_ != nullptr) return link_;
    }
    Refresh();
    MutexLock lock(&mutex_);
    return link_;
  }

  // Looks where the host is now.
  void Refresh() {
    const absl::StatusOr<std::string> address = find_();
    if (!address.ok() || address->empty()) return;
    MutexLock lock(&mutex_);
    if (link_ != nullptr && link_->address == *address) return;
    auto link = std::make_shared<Link>();
    link->address = *address;
    link->channel = NewChannel(*address);
    link->stub = EnvironmentHost::NewStub(link->channel);
    link_ = std::move(link);
  }

  // Tells the host every hold_every what is held, until the end.
  void Hold() {
    auto next = std::chrono::steady_clock::now();
    for (;;) {
      next += options_.hold_every;
      HoldRequest request;
      request.set_client(client_);
      {
        MutexLock lock(&mutex_);
        while (!stopping_) {
          const auto left =
              std::chrono::duration_cast<std::chrono::microseconds>(
                  next - std::chrono::steady_clock::now());
          if (left.count() <= 0) break;
          stop_.WaitFor(&mutex_, left);
        }
        if (stopping_) return;
        if (held_.empty()) continue;
        request.set_episode_next(next_);
        for (const uint64_t episode : held_) request.add_episodes(episode);
      }
      HoldResponse response;
      // What failed is said again next time.
      if (!Call(&EnvironmentHost::Stub::Hold, kHoldMax, request, &response)
               .ok()) {
        Refresh();
      }
    }
  }

  const RemoteEnvironmentOptions options_;
  const HostAddress find_;
  const uint64_t client_;

  Mutex mutex_;
  CondVar stop_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<Link> link_ ABSL_GUARDED_BY(mutex_);  // null: no address yet
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 1;
  std::set<uint64_t> held_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;  // last: uses the above
};

class EnvironmentClient::RemoteEnvironment : public Environment {
 public:
  RemoteEnvironment(const EnvironmentFacts* facts,
                    std::shared_ptr<Connection> connection)
      : facts_(facts), connection_(std::move(connection)) {}

  ~RemoteEnvironment() override {
    if (episode_ == 0) return;
    connection_->Forget(episode_);
    CloseRequest request;
    FillEpisode(&request);
    CloseResponse response;
    // Whatever came of the Open. If it fails, the host closes the episode when
    // it is next told what is held.
    (void)connection_->Call(&EnvironmentHost::Stub::Close,
                            connection_->options().close_max, request,
                            &response);
  }

  const EnvironmentFacts& facts() const override { return *facts_; }

  absl::StatusOr<Observation> Validate(const Task& task) const override {
    ValidateRequest request;
    FillTask(task, &request);
    ValidateResponse response;
    RETURN_IF_ERROR(connection_->CallPatiently(
        &EnvironmentHost::Stub::Validate, connection_->options().open_max,
        std::chrono::milliseconds(facts_->limits.reset_ms), request,
        &response));
    return ObservationOf(response);
  }

  absl::StatusOr<Observation> Reset(const Task& task, uint64_t seed) override {
    OpenRequest request;
    FillTask(task, &request);
    request.set_seed(seed);
    episode_ = connection_->NewEpisode();
    FillEpisode(&request);
    OpenResponse response;
    RETURN_IF_ERROR(connection_->CallPatiently(
        &EnvironmentHost::Stub::Open, connection_->options().open_max,
        std::chrono::milliseconds(facts_->limits.reset_ms), request,
        &response));
    return ObservationOf(response);
  }

  absl::StatusOr<std::vector<ToolResult>> Step(
      const std::vector<ToolCall>& calls) override {
    StepRequest request;
    FillStep(calls, &request);
    StepResponse response;
    RETURN_IF_ERROR(connection_->Call(&EnvironmentHost::Stub::Step, StepMax(),
                                      request, &response));
    return ResultsOf(request, response);
  }

  void StartStep(const std::vector<ToolCall>& calls, StepDone done) override {
    if (!facts_->open_steps) return done(Step(calls));
    auto step = std::make_shared<Connection::OpenStep>();
    FillStep(calls, &step->request);
    connection_->Start(StepMax(), step,
                       [this, step = step.get(),
                        done = std::move(done)](const absl::Status& status) {
                         if (!status.ok()) return done(status);
                         done(ResultsOf(step->request, step->response));
                       });
  }

  absl::StatusOr<Verdict> Grade(
      Outcome outcome, const std::vector<Message>& transcript) override {
    GradeRequest request;
    FillEpisode(&request);
    request.set_outcome(outcome);
    for (const Message& message : transcript) {
      *request.add_transcript() = message;
    }
    GradeResponse response;
    RETURN_IF_ERROR(connection_->Call(
        &EnvironmentHost::Stub::Grade,
        Lower(connection_->options().grade_max, facts_->limits.grade_ms),
        request, &response));
    RETURN_IF_ERROR(OfEnvironment(CheckVerdict(response.verdict())));
    return response.verdict();
  }

 private:
  template <typename Request>
  void FillTask(const Task& task, Request* request) const {
    // With each task, not once a connection: the host may be replaced by one of
    // another build at any time.
    request->set_wire_version(kEnvironmentWireVersion);
    *request->mutable_task() = task;
    request->mutable_task()->set_environment(facts_->name);
  }

  template <typename Request>
  void FillEpisode(Request* request) const {
    request->set_client(connection_->client());
    request->set_episode(episode_);
  }

  void FillStep(const std::vector<ToolCall>& calls,
                StepRequest* request) const {
    FillEpisode(request);
    for (const ToolCall& call : calls) *request->add_calls() = call;
  }

  std::chrono::milliseconds StepMax() const {
    return Lower(connection_->options().step_max, facts_->limits.step_ms);
  }

  absl::StatusOr<std::vector<ToolResult>> ResultsOf(
      const StepRequest& request, const StepResponse& response) const {
    std::vector<ToolResult> results(response.results().begin(),
                                    response.results().end());
    RETURN_IF_ERROR(OfEnvironment(
        CheckResults(static_cast<size_t>(request.calls_size()), results)));
    return results;
  }

  // The host may be anybody's: what it says is held to what an environment may
  // say before anyone builds on it.
  template <typename Response>
  absl::StatusOr<Observation> ObservationOf(const Response& response) const {
    Observation observation;
    observation.messages.assign(response.messages().begin(),
                                response.messages().end());
    observation.tools.assign(response.tools().begin(), response.tools().end());
    RETURN_IF_ERROR(OfEnvironment(CheckObservation(observation)));
    return observation;
  }

  absl::Status OfEnvironment(const absl::Status& status) const {
    if (status.ok()) return status;
    return absl::Status(status.code(),
                        absl::StrCat("environment ", facts_->name, ": ",
                                     std::string(status.message())));
  }

  static std::chrono::milliseconds Lower(std::chrono::milliseconds most,
                                         int64_t stated_ms) {
    return std::min(most, std::chrono::milliseconds(stated_ms));
  }

  const EnvironmentFacts* const facts_;
  const std::shared_ptr<Connection> connection_;
  uint64_t episode_ = 0;  // 0: nothing was asked for
};

EnvironmentClient::EnvironmentClient(HostAddress address,
                                     const RemoteEnvironmentOptions& options)
    : connection_(std::make_shared<Connection>(std::move(address), options)) {}

EnvironmentClient::~EnvironmentClient() = default;

absl::StatusOr<std::unique_ptr<Environment>> EnvironmentClient::NewEnvironment(
    const std::string& name) {
  const EnvironmentFacts* facts = FindEnvironment(name);
  if (facts == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("there is no environment \"", name, "\""));
  }
  return NewEnvironment(facts);
}

std::unique_ptr<Environment> EnvironmentClient::NewEnvironment(
    const EnvironmentFacts* facts) {
  return std::make_unique<RemoteEnvironment>(facts, connection_);
}

absl::StatusOr<std::vector<EnvironmentDescription>> EnvironmentClient::Describe(
    std::chrono::milliseconds limit) {
  DescribeRequest request;
  request.set_wire_version(kEnvironmentWireVersion);
  DescribeResponse response;
  RETURN_IF_ERROR(connection_->Call(&EnvironmentHost::Stub::Describe, limit,
                                    request, &response));
  std::set<std::string> names;
  for (const EnvironmentDescription& description : response.environments()) {
    RETURN_IF_ERROR(CheckDescription(description));
    if (!names.insert(description.name()).second) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the host describes ", description.name(), " more than once"));
    }
  }
  return std::vector<EnvironmentDescription>(response.environments().begin(),
                                             response.environments().end());
}

absl::Status EnvironmentClient::WaitUntilReady(std::chrono::seconds limit) {
  return connection_->WaitUntilReady(limit);
}

}  // namespace temper
