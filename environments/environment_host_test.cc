// The host and its client over a real loopback connection.

#include "environments/environment_host.h"

#include <atomic>
#include <thread>

#include "environments/described_facts.h"
#include "environments/registry.h"
#include "environments/remote_environment.h"
#include "environments/sandbox_test_main.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "kernels/base/mutex.h"
#include "proto/environment.grpc.pb.h"
#include "proto/wire/loopback_channel.h"
#include "proto/wire/testing/health_probe.h"

namespace temper {
namespace {

using ::testing::HasSubstr;

SandboxPool* sandboxes = nullptr;  // set in main

// One that every environment takes.
Task ATask() {
  Task task;
  task.set_id("t1");
  Message* message = task.add_messages();
  message->set_role("user");
  message->set_content("k7 -> *63+25");
  task.set_payload_json(R"({"answer": "3679"})");
  return task;
}

ToolCall Call(const std::string& name, const std::string& arguments_json) {
  ToolCall call;
  call.set_name(name);
  call.set_arguments_json(arguments_json);
  return call;
}

class EnvironmentHostTest : public testing::Test {
 protected:
  void SetUp() override { StartHost({}); }

  void StartHost(const EnvironmentHostOptions& options) {
    host_.reset();
    auto host = EnvironmentHostServer::Start(options, {.sandboxes = sandboxes},
                                             &clock_);
    ASSERT_TRUE(host.ok()) << host.status();
    host_ = *std::move(host);
    client_ = NewClient(RemoteEnvironmentOptions());
    ASSERT_TRUE(client_->WaitUntilReady(std::chrono::seconds(10)).ok());
  }

  std::unique_ptr<EnvironmentClient> NewClient(
      const RemoteEnvironmentOptions& options) {
    return std::make_unique<EnvironmentClient>(
        [address = host_->address()] { return address; }, options);
  }

  // A client that does not wait for room, nor say what it holds.
  std::unique_ptr<EnvironmentClient> NewHastyClient() {
    RemoteEnvironmentOptions options;
    options.open_max = std::chrono::seconds(1);
    options.hold_every = std::chrono::hours(1);
    return NewClient(options);
  }

  static absl::Status Reset(EnvironmentClient* client) {
    return (*client->NewEnvironment("math"))->Reset(ATask(), 1).status();
  }

  std::unique_ptr<Environment> New(const std::string& name) {
    return *client_->NewEnvironment(name);
  }

  FakeClock clock_;
  std::unique_ptr<EnvironmentHostServer> host_;
  std::unique_ptr<EnvironmentClient> client_;
};

TEST_F(EnvironmentHostTest, AnEpisodeIsTheSameAsInTheProcess) {
  const auto remote = New("interpreter");
  EXPECT_STREQ(remote->facts().name, "interpreter");
  Task task = ATask();
  task.set_payload_json(R"({"answer": "3679", "table": {"k7": "58"}})");
  const auto observation = remote->Reset(task, 1);
  ASSERT_TRUE(observation.ok()) << observation.status();
  ASSERT_EQ(observation->tools.size(), 2u);
  EXPECT_EQ(observation->tools[0].name(), "python");
  const auto results = remote->Step({Call("lookup", R"({"key": "k7"})"),
                                     Call("python", R"({"code": "x = 58*63"})"),
                                     Call("python", R"({"code": "x + 25"})")});
  ASSERT_TRUE(results.ok()) << results.status();
  EXPECT_EQ(results->at(0).content(), "58");
  EXPECT_EQ(results->at(2).content(), "3679\n");
  Message answer;
  answer.set_role("assistant");
  answer.set_content("3679");
  const auto verdict = remote->Grade(OUTCOME_OK, {answer});
  ASSERT_TRUE(verdict.ok()) << verdict.status();
  EXPECT_TRUE(verdict->correct());
}

TEST_F(EnvironmentHostTest, ErrorsKeepTheirCodeAndEndTheEpisode) {
  Task bad = ATask();
  bad.set_payload_json("{}");
  EXPECT_EQ(New("math")->Reset(bad, 1).status().code(),
            absl::StatusCode::kInvalidArgument);
  const auto remote = New("math");
  ASSERT_TRUE(remote->Reset(ATask(), 1).ok());
  EXPECT_EQ(remote->Grade(OUTCOME_CANCELLED, {}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::IsUnavailable(remote->Step({}).status()));
  EXPECT_EQ(client_->NewEnvironment("maths").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(EnvironmentHostTest, ATaskIsValidatedThereAndOpensNoEpisode) {
  EnvironmentHostOptions options;
  options.episodes_max = 1;
  StartHost(options);
  const auto remote = New("interpreter");
  for (int i = 0; i < 3; ++i) {
    const auto known = remote->Validate(ATask());
    ASSERT_TRUE(known.ok()) << known.status();
    EXPECT_EQ(known->messages.size(), 1u);
    ASSERT_EQ(known->tools.size(), 2u);
    EXPECT_EQ(known->tools[1].name(), "lookup");
  }
  Task bad = ATask();
  bad.set_payload_json(R"({"answer": "3679", "tabel": {}})");
  const absl::Status refused = remote->Validate(bad).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("task t1: payload_json has the key \"tabel\"; its keys "
                        "are answer, table"));
  EXPECT_EQ(remote->Reset(bad, 1).status(), refused);
}

TEST_F(EnvironmentHostTest, CallsWithoutADeadlineAreRefused) {
  const auto stub =
      EnvironmentHost::NewStub(NewLoopbackChannel(host_->address()));
  OpenRequest open;
  open.set_wire_version(kEnvironmentWireVersion);
  *open.mutable_task() = ATask();
  open.mutable_task()->set_environment("math");
  ValidateRequest validate;
  validate.set_wire_version(kEnvironmentWireVersion);
  *validate.mutable_task() = open.task();
  ValidateResponse validated;
  OpenResponse opened;
  StepResponse stepped;
  GradeResponse graded;
  CloseResponse closed;
  grpc::ClientContext contexts[5];
  for (const grpc::Status& status :
       {stub->Open(&contexts[0], open, &opened),
        stub->Step(&contexts[1], StepRequest(), &stepped),
        stub->Grade(&contexts[2], GradeRequest(), &graded),
        stub->Close(&contexts[3], CloseRequest(), &closed),
        stub->Validate(&contexts[4], validate, &validated)}) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr("deadline"));
  }
}

// As what it is: InvalidArgument would be the task's fault (task_refusals.h).
TEST_F(EnvironmentHostTest, AnotherWireVersionIsRefused) {
  const auto stub =
      EnvironmentHost::NewStub(NewLoopbackChannel(host_->address()));
  const auto deadline =
      std::chrono::system_clock::now() + std::chrono::seconds(10);
  grpc::ClientContext opening, validating;
  opening.set_deadline(deadline);
  validating.set_deadline(deadline);
  OpenRequest open;
  open.set_wire_version(99);
  OpenResponse opened;
  ValidateRequest validate;
  validate.set_wire_version(99);
  ValidateResponse validated;
  for (const grpc::Status& status :
       {stub->Open(&opening, open, &opened),
        stub->Validate(&validating, validate, &validated)}) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_THAT(status.error_message(), HasSubstr("wire version 99"));
  }
}

TEST_F(EnvironmentHostTest, AnEpisodeWaitsForAFullHostNoLongerThanItsLimit) {
  EnvironmentHostOptions options;
  options.episodes_max = 2;
  StartHost(options);
  auto first = New("math");
  const auto second = New("math"), third = New("math");
  ASSERT_TRUE(first->Reset(ATask(), 1).ok());
  ASSERT_TRUE(second->Reset(ATask(), 1).ok());
  const absl::Status full = Reset(NewHastyClient().get());
  EXPECT_TRUE(absl::IsDeadlineExceeded(full)) << full;  // to be tried again
  EXPECT_THAT(std::string(full.message()),
              HasSubstr("2 episodes are open, at most 2"));
  std::thread closes([&first] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    first.reset();
  });
  EXPECT_TRUE(third->Reset(ATask(), 1).ok());
  closes.join();
}

TEST_F(EnvironmentHostTest, EpisodesOfAClientThatIsSilentAreGivenBack) {
  EnvironmentHostOptions options;
  options.episodes_max = 1;
  StartHost(options);
  const auto dead = NewHastyClient(), alive = NewHastyClient();
  const auto orphan = *dead->NewEnvironment("math");
  ASSERT_TRUE(orphan->Reset(ATask(), 1).ok());
  clock_.AdvanceMicros(1'000'000ll * (options.client_silence_max.count() - 1));
  EXPECT_FALSE(Reset(alive.get()).ok());
  clock_.AdvanceMicros(1'000'000);
  EXPECT_TRUE(Reset(alive.get()).ok());
  const auto late = orphan->Step({});
  EXPECT_TRUE(absl::IsUnavailable(late.status()));
  EXPECT_THAT(std::string(late.status().message()), HasSubstr("not here"));
}

TEST_F(EnvironmentHostTest, AClientWhoseCallRunsIsNotSilent) {
  EnvironmentHostOptions options;
  StartHost(options);
  const auto busy = NewHastyClient(), other = NewHastyClient();
  const auto episode = *busy->NewEnvironment("interpreter");
  ASSERT_TRUE(episode->Reset(ATask(), 1).ok());
  std::thread steps([&episode] {
    const auto results = episode->Step(
        {Call("python", R"x({"code": "import time; time.sleep(1.5)"})x")});
    EXPECT_TRUE(results.ok()) << results.status();
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(700));
  clock_.AdvanceMicros(1'000'000ll * options.client_silence_max.count());
  EXPECT_TRUE(Reset(other.get()).ok());  // closes silent ones
  steps.join();
  // Its silence begins with the call's end.
  clock_.AdvanceMicros(1'000'000ll * (options.client_silence_max.count() - 1));
  EXPECT_TRUE(Reset(other.get()).ok());
  const auto still = episode->Step({});
  EXPECT_TRUE(still.ok()) << still.status();
}

// The calls of one client, by hand.
class EnvironmentWireTest : public EnvironmentHostTest {
 protected:
  void SetUp() override {
    EnvironmentHostTest::SetUp();
    stub_ = EnvironmentHost::NewStub(NewLoopbackChannel(host_->address()));
  }

  template <typename Method, typename Request, typename Response>
  bool Call(Method method, Request request, Response response) {
    request.set_client(7);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::seconds(10));
    return (stub_.get()->*method)(&context, request, &response).ok();
  }
  bool Open(uint64_t episode) {
    OpenRequest request;
    request.set_wire_version(kEnvironmentWireVersion);
    *request.mutable_task() = ATask();
    request.mutable_task()->set_environment("math");
    request.set_episode(episode);
    return Call(&EnvironmentHost::Stub::Open, request, OpenResponse());
  }
  bool IsOpen(uint64_t episode) {
    StepRequest request;
    request.set_episode(episode);
    return Call(&EnvironmentHost::Stub::Step, request, StepResponse());
  }
  bool Hold(uint64_t episode_next, const std::vector<uint64_t>& episodes) {
    HoldRequest request;
    request.set_episode_next(episode_next);
    for (const uint64_t episode : episodes) request.add_episodes(episode);
    return Call(&EnvironmentHost::Stub::Hold, request, HoldResponse());
  }

  std::unique_ptr<EnvironmentHost::Stub> stub_;
};

TEST_F(EnvironmentWireTest, WhatIsHeldIsKeptHoweverLongATurnTakes) {
  ASSERT_TRUE(Open(1));
  for (int i = 0; i < 100; ++i) {  // 5000 s
    clock_.AdvanceMicros(50'000'000);
    ASSERT_TRUE(Hold(2, {1}));
  }
  EXPECT_TRUE(IsOpen(1));
}

TEST_F(EnvironmentWireTest, WhatIsNotHeldIsGivenBack) {
  for (const uint64_t episode : {1, 2, 3}) ASSERT_TRUE(Open(episode));
  // 1 is an Open whose answer came too late; 3 was opened since this was said.
  ASSERT_TRUE(Hold(3, {2}));
  EXPECT_FALSE(IsOpen(1));
  EXPECT_TRUE(IsOpen(2));
  EXPECT_TRUE(IsOpen(3));
}

TEST_F(EnvironmentWireTest, AnOpenMadeAgainTakesTheFirstOnesPlace) {
  EnvironmentHostOptions options;
  options.episodes_max = 1;
  StartHost(options);
  stub_ = EnvironmentHost::NewStub(NewLoopbackChannel(host_->address()));
  EXPECT_TRUE(Open(1));
  EXPECT_TRUE(Open(1));
  CloseRequest close;
  close.set_episode(1);
  EXPECT_TRUE(Call(&EnvironmentHost::Stub::Close, close, CloseResponse()));
  EXPECT_TRUE(Open(2));
}

TEST_F(EnvironmentWireTest, BesideAsManyCallsAsMayRunAClientIsHeard) {
  EnvironmentHostOptions options;
  options.calls_max = 2;
  StartHost(options);
  stub_ = EnvironmentHost::NewStub(NewLoopbackChannel(host_->address()));
  constexpr int kCalls = 12;
  std::atomic<int> refused = 0;
  std::vector<std::unique_ptr<Environment>> episodes;
  for (int i = 0; i < kCalls; ++i) {
    episodes.push_back(New("interpreter"));
    ASSERT_TRUE(episodes.back()->Reset(ATask(), 1).ok());
  }
  std::vector<std::thread> threads;
  for (const auto& episode : episodes) {
    threads.emplace_back([&episode, &refused] {
      const absl::Status status =
          episode
              ->Step({temper::Call(
                  "python", R"x({"code": "import time; time.sleep(3)"})x")})
              .status();
      if (status.ok()) return;
      EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
      EXPECT_THAT(std::string(status.message()),
                  HasSubstr("2 calls are running, at most 2"));
      ++refused;
    });
  }
  for (int i = 0; i < 200 && refused < kCalls - 2; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(refused, kCalls - 2);
  EXPECT_TRUE(Hold(1, {}));
  for (std::thread& thread : threads) thread.join();
}

TEST_F(EnvironmentHostTest, AClientSaysWhatItHolds) {
  EnvironmentHostOptions options;
  options.episodes_max = 1;
  options.client_silence_max = std::chrono::seconds(3);
  host_ = *EnvironmentHostServer::Start(options, {.sandboxes = sandboxes},
                                        SystemClock());
  RemoteEnvironmentOptions remote;
  remote.hold_every = std::chrono::milliseconds(50);
  const auto client = NewClient(remote);
  const auto episode = *client->NewEnvironment("math");
  ASSERT_TRUE(episode->Reset(ATask(), 1).ok());
  std::this_thread::sleep_for(std::chrono::seconds(4));
  EXPECT_FALSE(Reset(NewHastyClient().get()).ok());  // closes silent ones
  EXPECT_TRUE(episode->Step({}).ok());
}

TEST_F(EnvironmentHostTest, AHostThatComesBackElsewhereIsFound) {
  Mutex mutex;
  std::string address = host_->address();
  EnvironmentClient client(
      [&]() -> absl::StatusOr<std::string> {
        MutexLock lock(&mutex);
        return address;
      },
      RemoteEnvironmentOptions());
  ASSERT_TRUE(client.WaitUntilReady(std::chrono::seconds(10)).ok());
  const auto elsewhere =
      *EnvironmentHostServer::Start({}, {.sandboxes = sandboxes}, &clock_);
  host_.reset();
  {
    MutexLock lock(&mutex);
    address = elsewhere->address();
  }
  EXPECT_TRUE(Reset(&client).ok());
}

TEST_F(EnvironmentHostTest, AHostWhoseAddressComesLaterIsWaitedFor) {
  const auto begin = std::chrono::steady_clock::now();
  EnvironmentClient late(
      [&]() -> std::string {
        const auto waited = std::chrono::steady_clock::now() - begin;
        return waited < std::chrono::milliseconds(500) ? "" : host_->address();
      },
      RemoteEnvironmentOptions());
  const absl::Status ready = late.WaitUntilReady(std::chrono::seconds(10));
  EXPECT_TRUE(ready.ok()) << ready;
  EnvironmentClient never([] { return std::string(); },
                          RemoteEnvironmentOptions());
  EXPECT_EQ(never.WaitUntilReady(std::chrono::seconds(1)),
            absl::UnavailableError("the environment host's address is not "
                                   "known yet; waited 1 s"));
}

TEST_F(EnvironmentHostTest, AsManyCallsAsMayRunAreServedAtOnce) {
  EnvironmentHostOptions options;
  options.calls_max = 24;
  StartHost(options);
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < options.calls_max; ++i) {
    threads.emplace_back([this] {
      const auto episode = New("interpreter");
      ASSERT_TRUE(episode->Reset(ATask(), 1).ok());
      const auto results = episode->Step(
          {Call("python", R"x({"code": "import time; time.sleep(1)"})x")});
      EXPECT_TRUE(results.ok()) << results.status();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(EnvironmentHostTest, AHostThatIsGoneIsUnavailable) {
  const auto remote = New("math");
  ASSERT_TRUE(remote->Reset(ATask(), 1).ok());
  host_.reset();
  EXPECT_TRUE(absl::IsUnavailable(remote->Step({}).status()));
}

TEST_F(EnvironmentHostTest, AnEpisodeWaitsForAHostThatRestarts) {
  RemoteEnvironmentOptions options;
  options.open_max = std::chrono::seconds(1);
  const auto client = NewClient(options);
  ASSERT_TRUE(client->WaitUntilReady(std::chrono::seconds(10)).ok());
  host_.reset();
  const auto remote = client->NewEnvironment("math");
  ASSERT_TRUE(remote.ok()) << remote.status();
  const auto reset = (*remote)->Reset(ATask(), 1);
  EXPECT_TRUE(absl::IsDeadlineExceeded(reset.status())) << reset.status();
}

TEST_F(EnvironmentHostTest, DescribesWhatItServes) {
  const auto served = client_->Describe(std::chrono::seconds(10));
  ASSERT_TRUE(served.ok()) << served.status();
  const auto table = RegisteredEnvironments();
  ASSERT_EQ(served->size(), table.size());
  for (size_t i = 0; i < table.size(); ++i) {
    const DescribedFacts said((*served)[i]);
    EXPECT_STREQ(said.facts().name, table[i]->name);
    EXPECT_STREQ(said.facts().description, table[i]->description);
    EXPECT_EQ(said.facts().deterministic, table[i]->deterministic);
    EXPECT_EQ(said.facts().needs_sandbox, table[i]->needs_sandbox);
    EXPECT_EQ(said.facts().limits.step_ms, table[i]->limits.step_ms);
  }
}

TEST_F(EnvironmentHostTest, AnswersTheStandardHealthCheck) {
  const auto serving = IsServing(host_->address());
  ASSERT_TRUE(serving.ok()) << serving.status();
  EXPECT_TRUE(*serving);
}

TEST(EnvironmentHostAddressTest, OnlyLoopbackIsBound) {
  EnvironmentHostOptions options;
  for (const char* address : {"0.0.0.0:0", "[::]:0", "example.com:1", ""}) {
    options.address = address;
    const auto status =
        EnvironmentHostServer::Start(options, {}, SystemClock()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << address;
  }
}

TEST(EnvironmentHostAddressTest, ATakenPortIsReported) {
  const auto first = EnvironmentHostServer::Start({}, {}, SystemClock());
  ASSERT_TRUE(first.ok());
  EnvironmentHostOptions options;
  options.address = (*first)->address();
  const auto second = EnvironmentHostServer::Start(options, {}, SystemClock());
  EXPECT_TRUE(absl::IsUnavailable(second.status())) << second.status();
}

}  // namespace
}  // namespace temper

int main(int argc, char** argv) {
  return temper::RunTestsWithSandboxes(argc, argv, &temper::sandboxes);
}
