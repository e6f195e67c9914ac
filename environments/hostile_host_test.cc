// A host that hangs, dies, floods, lies or answers what was not asked costs the
// episode that it does it to, and no other.

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>

#include "environments/described_facts.h"
#include "environments/environment_host.h"
#include "environments/remote_environment.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "proto/environment.grpc.pb.h"

namespace temper {
namespace {

using ::testing::HasSubstr;
using Code = absl::StatusCode;

constexpr int64_t kStepMs = 300;

// Well-behaved, but for what its hooks do to a reply.
class HostileHost : public EnvironmentHost::Service {
 public:
  std::function<void(OpenResponse*)> open;
  std::function<void(StepResponse*)> step;
  std::function<void(GradeResponse*)> grade;
  std::atomic<bool> hangs{false};

  grpc::Status Open(grpc::ServerContext*, const OpenRequest* request,
                    OpenResponse* response) override {
    *response->mutable_messages() = request->task().messages();
    if (open) open(response);
    return grpc::Status::OK;
  }
  grpc::Status Step(grpc::ServerContext* context, const StepRequest* request,
                    StepResponse* response) override {
    while (hangs && !context->IsCancelled()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    for (int i = 0; i < request->calls_size(); ++i) {
      response->add_results()->set_outcome(OUTCOME_OK);
    }
    if (step) step(response);
    return grpc::Status::OK;
  }
  grpc::Status Grade(grpc::ServerContext*, const GradeRequest*,
                     GradeResponse* response) override {
    response->mutable_verdict()->set_outcome(OUTCOME_OK);
    response->mutable_verdict()->set_verified(true);
    if (grade) grade(response);
    return grpc::Status::OK;
  }
  grpc::Status Close(grpc::ServerContext*, const CloseRequest*,
                     CloseResponse*) override {
    return grpc::Status::OK;
  }
  grpc::Status Hold(grpc::ServerContext*, const HoldRequest*,
                    HoldResponse*) override {
    return grpc::Status::OK;
  }
};

class HostileHostTest : public testing::Test {
 protected:
  HostileHostTest() : facts_(Description()) { Start(); }

  static EnvironmentDescription Description() {
    EnvironmentDescription description;
    description.set_name("hostile");
    description.set_description("for tests");
    description.set_step_ms(kStepMs);
    return description;
  }

  void Start() {
    host_ = std::make_unique<HostileHost>();
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port);
    builder.RegisterService(host_.get());
    builder.SetMaxSendMessageSize(-1);
    server_ = builder.BuildAndStart();
    address_ = "127.0.0.1:" + std::to_string(port);
  }

  static Task ATask() {
    Task task;
    task.set_id("t");
    Message* message = task.add_messages();
    message->set_role("user");
    message->set_content("?");
    return task;
  }

  // One whole episode: how its first failure reads.
  absl::Status Play() {
    const auto episode = client_.NewEnvironment(&facts_.facts());
    const auto begun = episode->Reset(ATask(), 1);
    if (!begun.ok()) return begun.status();
    ToolCall call;
    call.set_name("tool");
    const auto results = episode->Step({call});
    if (!results.ok()) return results.status();
    return episode->Grade(OUTCOME_OK, {}).status();
  }

  // The host as it was, and an episode that it serves.
  void ExpectTheNextIsWhole() {
    host_->open = nullptr;
    host_->step = nullptr;
    host_->grade = nullptr;
    host_->hangs = false;
    const absl::Status status = Play();
    EXPECT_TRUE(status.ok()) << status;
  }

  void ExpectItsFault(const std::string& what) {
    const absl::Status status = Play();
    EXPECT_EQ(status.code(), Code::kInternal) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("environment hostile: " + what));
    ExpectTheNextIsWhole();
  }

  DescribedFacts facts_;
  std::unique_ptr<HostileHost> host_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  EnvironmentClient client_{[this] { return address_; },
                            RemoteEnvironmentOptions()};
};

TEST_F(HostileHostTest, OneThatHangsIsGivenUpAtItsLimit) {
  host_->hangs = true;
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_EQ(Play().code(), Code::kDeadlineExceeded);
  const auto took = std::chrono::steady_clock::now() - begun;
  EXPECT_GE(took, std::chrono::milliseconds(kStepMs));
  EXPECT_LT(took, std::chrono::seconds(30)) << "not the limit of all hosts";
  ExpectTheNextIsWhole();
}

TEST_F(HostileHostTest, OneThatDiesIsFoundAgainElsewhere) {
  const auto episode = client_.NewEnvironment(&facts_.facts());
  ASSERT_TRUE(episode->Reset(ATask(), 1).ok());
  server_->Shutdown();
  server_.reset();
  EXPECT_EQ(episode->Step({}).status().code(), Code::kUnavailable);
  Start();
  ExpectTheNextIsWhole();
}

TEST_F(HostileHostTest, AFloodIsCutOff) {
  host_->step = [](StepResponse* response) {
    response->mutable_results(0)->set_content(
        std::string(kEnvironmentMessageBytesMax, 'x'));
  };
  EXPECT_EQ(Play().code(), Code::kResourceExhausted);
  ExpectTheNextIsWhole();
  host_->step = [](StepResponse* response) {
    response->mutable_results(0)->set_content(
        std::string(kToolResultBytesMax + 1, 'x'));
  };
  ExpectItsFault("a result has 65537 bytes, at most 65536");
  host_->grade = [](GradeResponse* response) {
    response->mutable_verdict()->set_detail(std::string(1 << 20, 'x'));
  };
  ExpectItsFault("a verdict's text has 1048576 bytes");
  host_->open = [](OpenResponse* response) {
    for (int i = 0; i < 1025; ++i) response->add_messages()->set_role("user");
  };
  ExpectItsFault("Reset gave 1026 messages, at most 1024");
  // Few of them, which would be made into tokens where all others are.
  host_->open = [](OpenResponse* response) {
    response->mutable_messages(0)->set_content(std::string(3 << 20, 'x'));
  };
  ExpectItsFault("Reset gave messages and tools of 31457");
  host_->open = [](OpenResponse* response) {
    Tool* const tool = response->add_tools();
    tool->set_name("tool");
    tool->set_function_json(R"({"name": "tool", "description": ")" +
                            std::string(3 << 20, 'x') + "\"}");
  };
  ExpectItsFault("Reset gave messages and tools of 31457");
}

TEST_F(HostileHostTest, AnswersToWhatWasNotAskedAreRefused) {
  host_->step = [](StepResponse* response) {
    response->add_results()->set_outcome(OUTCOME_OK);
  };
  ExpectItsFault("2 results of 1 calls");
  host_->step = [](StepResponse* response) { response->clear_results(); };
  ExpectItsFault("0 results of 1 calls");
  host_->step = [](StepResponse* response) {
    response->mutable_results(0)->set_outcome(OUTCOME_CANCELLED);
  };
  ExpectItsFault("a result has outcome 8");
  host_->grade = [](GradeResponse* response) {
    response->mutable_verdict()->set_outcome(OUTCOME_SANDBOX_ERROR);
  };
  ExpectItsFault("a verdict has outcome 6");
}

TEST_F(HostileHostTest, APromptThatCannotBeOneIsRefused) {
  host_->open = [](OpenResponse* response) { response->clear_messages(); };
  ExpectItsFault("Reset gave no message");
  host_->open = [](OpenResponse* response) {
    response->mutable_messages(0)->clear_role();
  };
  ExpectItsFault("a message has no role");
  for (const char* function : {"", "{", "[]", "{}", R"({"name": "other"})"}) {
    host_->open = [function](OpenResponse* response) {
      Tool* const tool = response->add_tools();
      tool->set_name("tool");
      tool->set_function_json(function);
    };
    ExpectItsFault("function_json of tool \"tool\"");
  }
  host_->open = [](OpenResponse* response) {
    for (int i = 0; i < 2; ++i) {
      Tool* const tool = response->add_tools();
      tool->set_name("tool");
      tool->set_function_json(R"({"name": "tool"})");
    }
  };
  ExpectItsFault("two tools are called tool");
}

// What Describe leaves out a host need not have: the default of a gRPC service.
TEST_F(HostileHostTest, AHostThatDoesNotDescribeItselfIsToldSo) {
  EXPECT_EQ(client_.Describe(std::chrono::seconds(10)).status().code(),
            Code::kUnimplemented);
}

}  // namespace
}  // namespace temper
