#include "proto/wire/grpc_status.h"

#include <string>

namespace temper {
namespace {

// gRPC's own limit for all metadata of a call is 8 KiB, and a message may be
// escaped to three times its size.
constexpr size_t kMessageBytesMax = 2048;

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(
      static_cast<grpc::StatusCode>(status.code()),
      std::string(status.message().substr(0, kMessageBytesMax)));
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const int code = static_cast<int>(status.error_code());
  // Cast unseen, an unknown number would be an absl code without a name.
  const bool known = code > 0 && code <= 16;  // CANCELLED to UNAUTHENTICATED
  return absl::Status(
      known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown,
      status.error_message());
}

}  // namespace temper
