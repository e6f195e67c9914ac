// absl::Status to grpc::Status and back: the one place where they meet. Codes
// are the same numbers on both sides.

#ifndef PROTO_WIRE_GRPC_STATUS_H_
#define PROTO_WIRE_GRPC_STATUS_H_

#include "absl/status/status.h"
#include "grpcpp/support/status.h"

namespace temper {

// Messages longer than 2048 bytes are cut: gRPC sends them in a header, whose
// size peers limit. Payloads are not carried.
grpc::Status ToGrpcStatus(const absl::Status& status);

// A code that absl does not know becomes Unknown.
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace temper

#endif  // PROTO_WIRE_GRPC_STATUS_H_
