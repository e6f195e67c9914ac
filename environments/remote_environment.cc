#include "environments/remote_environment.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "environments/environment_host.h"
#include "environments/registry.h"
#include "grpcpp/grpcpp.h"
#include "kernels/base/status_macros.h"
#include "proto/environment.grpc.pb.h"
#include "proto/wire/grpc_status.h"

namespace temper {

struct EnvironmentClient::Connection {
  std::string address;
  RemoteEnvironmentOptions options;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<EnvironmentHost::Stub> stub;

  // Runs one call with its deadline; `patient` waits within it for a host that
  // is not there.
  template <typename Method, typename Request, typename Response>
  absl::Status Call(Method method, std::chrono::seconds limit,
                    const Request& request, Response* response,
                    bool patient = false) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + limit);
    context.set_wait_for_ready(patient);
    const absl::Status status =
        FromGrpcStatus((stub.get()->*method)(&context, request, response));
    if (status.ok()) return status;
    return absl::Status(status.code(),
                        absl::StrCat("environment host ", address, ": ",
                                     std::string(status.message())));
  }
};

class EnvironmentClient::RemoteEnvironment : public Environment {
 public:
  RemoteEnvironment(const EnvironmentFacts* facts,
                    std::shared_ptr<Connection> connection)
      : facts_(facts), connection_(std::move(connection)) {}

  ~RemoteEnvironment() override {
    if (!open_) return;
    CloseRequest request;
    request.set_episode(episode_);
    CloseResponse response;
    // If it fails, the host's idle limit closes the episode.
    (void)connection_->Call(&EnvironmentHost::Stub::Close,
                            connection_->options.close_max, request, &response);
  }

  const EnvironmentFacts& facts() const override { return *facts_; }

  absl::StatusOr<Observation> Validate(const Task& task) const override {
    ValidateRequest request;
    FillTask(task, &request);
    ValidateResponse response;
    RETURN_IF_ERROR(connection_->Call(&EnvironmentHost::Stub::Validate,
                                      connection_->options.open_max, request,
                                      &response, /*patient=*/true));
    return ObservationOf(response);
  }

  absl::StatusOr<Observation> Reset(const Task& task, uint64_t seed) override {
    OpenRequest request;
    FillTask(task, &request);
    request.set_seed(seed);
    OpenResponse response;
    // At once refused, an episode would spend its retries, and its group's
    // replacements theirs, while the host restarts.
    RETURN_IF_ERROR(connection_->Call(&EnvironmentHost::Stub::Open,
                                      connection_->options.open_max, request,
                                      &response, /*patient=*/true));
    episode_ = response.episode();
    open_ = true;
    return ObservationOf(response);
  }

  absl::StatusOr<std::vector<ToolResult>> Step(
      const std::vector<ToolCall>& calls) override {
    StepRequest request;
    request.set_episode(episode_);
    for (const ToolCall& call : calls) *request.add_calls() = call;
    StepResponse response;
    RETURN_IF_ERROR(connection_->Call(&EnvironmentHost::Stub::Step,
                                      connection_->options.step_max, request,
                                      &response));
    if (response.results_size() != static_cast<int>(calls.size())) {
      return absl::InternalError(absl::StrCat(
          "environment host ", connection_->address, " answered ",
          response.results_size(), " of ", calls.size(), " calls"));
    }
    return std::vector<ToolResult>(response.results().begin(),
                                   response.results().end());
  }

  absl::StatusOr<Verdict> Grade(
      Outcome outcome, const std::vector<Message>& transcript) override {
    GradeRequest request;
    request.set_episode(episode_);
    request.set_outcome(outcome);
    for (const Message& message : transcript) {
      *request.add_transcript() = message;
    }
    GradeResponse response;
    RETURN_IF_ERROR(connection_->Call(&EnvironmentHost::Stub::Grade,
                                      connection_->options.grade_max, request,
                                      &response));
    return response.verdict();
  }

 private:
  template <typename Request>
  void FillTask(const Task& task, Request* request) const {
    request->set_wire_version(kEnvironmentWireVersion);
    *request->mutable_task() = task;
    request->mutable_task()->set_environment(facts_->name);
  }

  template <typename Response>
  static Observation ObservationOf(const Response& response) {
    Observation observation;
    observation.messages.assign(response.messages().begin(),
                                response.messages().end());
    observation.tools.assign(response.tools().begin(), response.tools().end());
    return observation;
  }

  const EnvironmentFacts* const facts_;
  const std::shared_ptr<Connection> connection_;
  bool open_ = false;
  uint64_t episode_ = 0;
};

EnvironmentClient::EnvironmentClient(const std::string& address,
                                     const RemoteEnvironmentOptions& options)
    : connection_(std::make_shared<Connection>()) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kEnvironmentMessageBytesMax);
  arguments.SetMaxSendMessageSize(kEnvironmentMessageBytesMax);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1'000);
  connection_->address = address;
  connection_->options = options;
  connection_->channel = grpc::CreateCustomChannel(
      address, grpc::InsecureChannelCredentials(), arguments);
  connection_->stub = EnvironmentHost::NewStub(connection_->channel);
}

EnvironmentClient::~EnvironmentClient() = default;

absl::StatusOr<std::unique_ptr<Environment>> EnvironmentClient::NewEnvironment(
    const std::string& name) {
  const EnvironmentFacts* facts = FindEnvironment(name);
  if (facts == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("there is no environment \"", name, "\""));
  }
  return std::unique_ptr<Environment>(
      new RemoteEnvironment(facts, connection_));
}

absl::Status EnvironmentClient::WaitUntilReady(std::chrono::seconds limit) {
  if (connection_->channel->WaitForConnected(std::chrono::system_clock::now() +
                                             limit)) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(
      absl::StrCat("environment host ", connection_->address,
                   " does not answer after ", limit.count(), " s"));
}

}  // namespace temper
