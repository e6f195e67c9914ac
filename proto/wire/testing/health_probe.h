// Asks a server the standard health check (grpc.health.v1).

#ifndef PROTO_WIRE_TESTING_HEALTH_PROBE_H_
#define PROTO_WIRE_TESTING_HEALTH_PROBE_H_

#include <string>

#include "absl/status/statusor.h"

namespace temper {

// Whether the server at `address` as a whole is SERVING. The error of the call
// is the error here; it ends within 10 s.
absl::StatusOr<bool> IsServing(const std::string& address);

}  // namespace temper

#endif  // PROTO_WIRE_TESTING_HEALTH_PROBE_H_
