#include "proto/wire/loopback_channel.h"

namespace temper {

std::shared_ptr<grpc::Channel> NewLoopbackChannel(
    const std::string& address, grpc::ChannelArguments arguments) {
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(),
                                   arguments);
}

}  // namespace temper
