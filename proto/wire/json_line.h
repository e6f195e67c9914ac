// One message a line, in proto3 JSON: tasks.jsonl and demonstrations.jsonl.
//
// A function without state; thread-safe.

#ifndef PROTO_WIRE_JSON_LINE_H_
#define PROTO_WIRE_JSON_LINE_H_

#include <google/protobuf/message.h>

#include <string>

#include "absl/status/status.h"

namespace temper {

// Reads `line` into `message`, which is empty. InvalidArgument in one line,
// begun with `where` ("FILE:LINE"): what is wrong and what was expected;
// `message` is unspecified then.
absl::Status ParseJsonLine(const std::string& line, const std::string& where,
                           google::protobuf::Message* message);

}  // namespace temper

#endif  // PROTO_WIRE_JSON_LINE_H_
