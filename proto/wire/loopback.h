// The one rule of what may be bound or connected to before transport security
// exists (DESIGN.md section 3).

#ifndef PROTO_WIRE_LOOPBACK_H_
#define PROTO_WIRE_LOOPBACK_H_

#include <string>

#include "absl/status/status.h"

namespace temper {

// OK for 127.0.0.1:PORT, localhost:PORT and [::1]:PORT, where PORT is a number
// up to 65535, or "*" as ZeroMQ has it for any free one. InvalidArgument
// otherwise, which names `address`.
absl::Status CheckLoopback(const std::string& address);

}  // namespace temper

#endif  // PROTO_WIRE_LOOPBACK_H_
