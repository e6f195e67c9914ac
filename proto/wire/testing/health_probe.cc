#include "proto/wire/testing/health_probe.h"

#include <chrono>

#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"
#include "kernels/base/status_macros.h"
#include "proto/wire/grpc_status.h"
#include "proto/wire/loopback_channel.h"

namespace temper {

absl::StatusOr<bool> IsServing(const std::string& address) {
  grpc::GenericStub stub(NewLoopbackChannel(address));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(10));
  grpc::CompletionQueue queue;
  const grpc::ByteBuffer request(nullptr, 0);  // of the server as a whole
  const auto call = stub.PrepareUnaryCall(
      &context, "/grpc.health.v1.Health/Check", request, &queue);
  call->StartCall();
  grpc::ByteBuffer reply;
  grpc::Status status;
  call->Finish(&reply, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  RETURN_IF_ERROR(FromGrpcStatus(status));
  grpc::Slice slice;
  RETURN_IF_ERROR(FromGrpcStatus(reply.DumpToSingleSlice(&slice)));
  return std::string(slice.begin(), slice.end()) == "\x08\x01";  // SERVING
}

}  // namespace temper
