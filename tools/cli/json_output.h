// How a verb prints with --json: one JSON document on stdout and nothing else.
// A verb makes a value, then prints it as text or so.

#ifndef TOOLS_CLI_JSON_OUTPUT_H_
#define TOOLS_CLI_JSON_OUTPUT_H_

#include "nlohmann/json_fwd.hpp"
#include "tools/cli/flags.h"

namespace temper {

using Json = nlohmann::ordered_json;  // members in the order of insertion

// The switch --json.
void AddJsonFlag(Flags* flags, bool* json);

// The document and a newline; bytes that are not UTF-8 become U+FFFD, numbers
// that are not finite null.
void PrintJson(const Json& document);

}  // namespace temper

#endif  // TOOLS_CLI_JSON_OUTPUT_H_
