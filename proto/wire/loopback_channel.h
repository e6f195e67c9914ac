// The one place where gRPC channels are made. All go to processes of this
// machine (DESIGN.md section 3), so none goes through the proxy that
// http_proxy and its like name for the rest of the world.

#ifndef PROTO_WIRE_LOOPBACK_CHANNEL_H_
#define PROTO_WIRE_LOOPBACK_CHANNEL_H_

#include <memory>
#include <string>

#include "grpcpp/grpcpp.h"

namespace temper {

// A channel to `address`, with what else `arguments` ask for. It connects when
// it is first used; whether the address is loopback is the caller's to check
// (proto/wire/loopback.h).
std::shared_ptr<grpc::Channel> NewLoopbackChannel(
    const std::string& address,
    grpc::ChannelArguments arguments = grpc::ChannelArguments());

}  // namespace temper

#endif  // PROTO_WIRE_LOOPBACK_CHANNEL_H_
