#include "proto/wire/loopback_channel.h"

#include "absl/synchronization/mutex.h"

namespace temper {

std::shared_ptr<grpc::Channel> NewLoopbackChannel(
    const std::string& address, grpc::ChannelArguments arguments) {
  // Debian's Abseil looks at every lock of gRPC's for cycles, which is a tenth
  // of what a call costs.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  // gRPC follows http_proxy even to 127.0.0.1, and a proxy answers for another
  // machine's loopback, or not at all.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(),
                                   arguments);
}

}  // namespace temper
