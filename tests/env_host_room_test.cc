// `temper env-host` has the room that its flags name, each for what it says.

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "environments/remote_environment.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "tests/temper_process.h"
#include "tests/trial_run.h"

namespace temper {
namespace {

using testing::HasSubstr;

constexpr int64_t kDeadlineMs = 60'000;

class EnvHostRoomTest : public testing::Test {
 protected:
  EnvHostRoomTest() {
    task_.set_id("t");
    Message* const user = task_.add_messages();
    user->set_role("user");
    user->set_content("2+3");
    task_.set_payload_json(R"({"answer": "5"})");
  }

  void Start(const std::vector<std::string>& room) {
    const std::string file = TrialPath("host.address");
    std::vector<std::string> args = {"env-host", "--address-file", file};
    args.insert(args.end(), room.begin(), room.end());
    host_ =
        std::make_unique<TemperProcess>(kTemper, args, TrialPath("env-host"));
    ASSERT_TRUE(Eventually(kDeadlineMs, [&] {
      return ReadFile(file, 256).ok();
    })) << host_->err();
    RemoteEnvironmentOptions options;
    options.open_max = std::chrono::seconds(1);
    client_ = std::make_unique<EnvironmentClient>(
        [file] { return ReadFile(file, 256); }, options);
    ASSERT_TRUE(client_->WaitUntilReady(std::chrono::seconds(30)).ok());
  }

  // An open episode of the interpreter, or null; the error is in said_.
  std::unique_ptr<Environment> Open() {
    auto episode = *client_->NewEnvironment("interpreter");
    const absl::Status status = episode->Reset(task_, 1).status();
    said_ = std::string(status.message());
    return status.ok() ? std::move(episode) : nullptr;
  }

  // A Step that takes a second and more.
  static absl::Status Sleep(Environment* episode) {
    ToolCall call;
    call.set_name("python");
    call.set_arguments_json(
        R"x({"code": "import time; time.sleep(1.5); 'slept'"})x");
    return episode->Step({call}).status();
  }

  Task task_;
  std::unique_ptr<TemperProcess> host_;
  std::unique_ptr<EnvironmentClient> client_;
  std::string said_;
};

TEST_F(EnvHostRoomTest, EpisodesAreThoseThatMayBeOpen) {
  Start({"--sandboxes", "3", "--episodes", "2", "--calls", "5"});
  const auto first = Open(), second = Open();
  ASSERT_NE(first, nullptr) << said_;
  ASSERT_NE(second, nullptr) << said_;
  EXPECT_EQ(Open(), nullptr);
  EXPECT_THAT(said_, HasSubstr("2 episodes are open, at most 2"));
}

TEST_F(EnvHostRoomTest, CallsAreThoseThatMayRun) {
  Start({"--sandboxes", "3", "--episodes", "5", "--calls", "1"});
  const auto first = Open(), second = Open();
  ASSERT_NE(first, nullptr) << said_;
  ASSERT_NE(second, nullptr) << said_;
  std::thread sleeps([&] { EXPECT_TRUE(Sleep(first.get()).ok()); });
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  EXPECT_THAT(std::string(Sleep(second.get()).message()),
              HasSubstr("1 calls are running, at most 1"));
  sleeps.join();
}

TEST_F(EnvHostRoomTest, SandboxesAreThoseThatMayBeUsed) {
  Start({"--sandboxes", "3"});
  EXPECT_TRUE(Eventually(kDeadlineMs, [&] {
    return host_->err().find("sandboxes: ") != std::string::npos;
  }));
  // An ordinary user without a pids cgroup has one, whatever is asked for.
  const std::string said = host_->err();
  EXPECT_TRUE(said.find("sandboxes: 3,") != std::string::npos ||
              (said.find("sandboxes: 1,") != std::string::npos &&
               said.find("in a user namespace") != std::string::npos))
      << said;
}

}  // namespace
}  // namespace temper
