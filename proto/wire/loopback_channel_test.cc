#include "proto/wire/loopback_channel.h"

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "grpcpp/health_check_service_interface.h"
#include "gtest/gtest.h"
#include "proto/learner.grpc.pb.h"
#include "proto/wire/testing/health_probe.h"

namespace temper {
namespace {

TEST(LoopbackChannelTest, NoProxyOfTheEnvironmentIsInTheWay) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &port);
  Learner::Service service;  // any will do
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);
  for (const char* name :
       {"grpc_proxy", "https_proxy", "http_proxy", "all_proxy", "GRPC_PROXY",
        "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"}) {
    // Nobody listens there.
    ASSERT_EQ(setenv(name, "http://127.0.0.1:1", /*overwrite=*/1), 0);
    const auto serving = IsServing(absl::StrCat("127.0.0.1:", port));
    EXPECT_TRUE(serving.ok() && *serving) << name << " " << serving.status();
    ASSERT_EQ(unsetenv(name), 0);
  }
}

}  // namespace
}  // namespace temper
