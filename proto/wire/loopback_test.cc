#include "proto/wire/loopback.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

TEST(LoopbackTest, LoopbackWithAPortPasses) {
  for (const char* address : {"127.0.0.1:0", "127.0.0.1:65535", "localhost:80",
                              "[::1]:5555", "127.0.0.1:*"}) {
    EXPECT_TRUE(CheckLoopback(address).ok()) << address;
  }
}

TEST(LoopbackTest, EverythingElseIsRefusedByName) {
  for (const std::string address : {"",
                                    "0.0.0.0:0",
                                    "[::]:0",
                                    "*:80",
                                    "10.0.0.1:1",
                                    "example.com:1",
                                    "127.0.0.1",
                                    "127.0.0.1:",
                                    "127.0.0.1:65536",
                                    "127.0.0.1:-1",
                                    "127.0.0.1: 80",
                                    "127.0.0.1:8x",
                                    "127.0.0.1.example.org:1",
                                    "localhost.example.org:1",
                                    "localhost",
                                    "127.9.9.9:1",
                                    "[::1]",
                                    "[::1]9:1",
                                    "ipc:///tmp/x",
                                    "unix:x",
                                    "tcp://127.0.0.1:1"}) {
    const absl::Status status = CheckLoopback(address);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << address;
    EXPECT_THAT(std::string(status.message()),
                testing::HasSubstr("\"" + address + "\""));
  }
}

}  // namespace
}  // namespace temper
