// One message a line, in proto3 JSON: tasks.jsonl and demonstrations.jsonl.
//
// Functions without state; thread-safe.

#ifndef PROTO_WIRE_JSON_LINE_H_
#define PROTO_WIRE_JSON_LINE_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "google/protobuf/message.h"

namespace temper {

// A line that such a file skips: nothing in it but spaces, tabs and the
// carriage return of a file of Windows.
inline bool IsBlankLine(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

// Reads `line` into `message`, which is empty. InvalidArgument in one line,
// begun with `where` ("FILE:LINE"): what is wrong and what was expected;
// `message` is unspecified then.
absl::Status ParseJsonLine(const std::string& line, const std::string& where,
                           google::protobuf::Message* message);

}  // namespace temper

#endif  // PROTO_WIRE_JSON_LINE_H_
