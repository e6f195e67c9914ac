#include "proto/wire/zmq_socket.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "zmq.h"

namespace temper {
namespace {

TEST(ZmqSocketTest, OnlyLoopbackIsBoundAndTheRefusalSaysWhy) {
  ZmqContext context;
  auto socket = *ZmqSocket::Create(context, ZMQ_PUB, 1000, 10);
  for (const char* endpoint :
       {"tcp://*:5555", "tcp://0.0.0.0:*", "tcp://10.0.0.1:1", "ipc:///tmp/x",
        "tcp://127.0.0.1:", "tcp://127.0.0.1.example.org:1"}) {
    const absl::Status status = socket->Bind(endpoint);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << endpoint;
    EXPECT_THAT(std::string(status.message()),
                testing::HasSubstr("not loopback"));
  }
  ASSERT_TRUE(socket->Bind("tcp://127.0.0.1:*").ok());
  EXPECT_THAT(*socket->Endpoint(),
              testing::MatchesRegex("tcp://127.0.0.1:[0-9]+"));
}

TEST(ZmqSocketTest, TooManyOpenFilesAreSaidAsSuch) {
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
  close(next);
  // Of a few more, ZeroMQ ends the process: `temper train` looks before.
  const rlimit none = {static_cast<rlim_t>(next), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  ZmqContext context;
  const absl::Status status =
      ZmqSocket::Create(context, ZMQ_PUB, 1000, 10).status();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("ulimit -n"));
}

TEST(ZmqSocketTest, PartsArriveAndTooManyAreDropped) {
  ZmqContext context;
  Wakeup wakeup;
  auto router = *ZmqSocket::Create(context, ZMQ_ROUTER, 1000, 10);
  ASSERT_TRUE(router->Bind("tcp://127.0.0.1:*").ok());
  auto dealer = *ZmqSocket::Create(context, ZMQ_DEALER, 1000, 10);
  ASSERT_TRUE(dealer->Connect(*router->Endpoint()).ok());
  ASSERT_TRUE(dealer->Send({"a", "b", "c"}));
  ASSERT_TRUE(dealer->Send({"d"}));
  std::optional<std::vector<std::string>> parts;
  for (int i = 0; i < 100 && !parts.has_value(); ++i) {
    ZmqWait({router.get()}, &wakeup, 100);
    parts = router->Receive(2);
  }
  ASSERT_TRUE(parts.has_value());
  EXPECT_EQ((*parts)[1], "d");
}

TEST(ZmqSocketTest, AWakeupEndsAWaitFromAnotherThread) {
  Wakeup wakeup;
  std::thread other([&] { wakeup.Signal(); });
  const auto start = std::chrono::steady_clock::now();
  ZmqWait({}, &wakeup, 60'000);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
  other.join();
}

}  // namespace
}  // namespace temper
