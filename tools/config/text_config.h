// Reads a configuration file, proto3 text, and says what is wrong with it in
// our words: what `temper train` and `temper sft` share.
//
// A function without state; thread-safe.

#ifndef TOOLS_CONFIG_TEXT_CONFIG_H_
#define TOOLS_CONFIG_TEXT_CONFIG_H_

#include <string>

#include "absl/status/status.h"
#include "google/protobuf/message.h"

namespace temper {

// Reads `text` into `config`, an empty RunConfig or SftConfig. A choice may
// stand in quotes: so it did before it was an enum, and so files of runs have
// it. InvalidArgument for the first thing that is wrong, its message begun with
// `source`, line and column, then the key whose value it is, if it is one, and
// ended with what may stand there; `config` is unspecified then.
absl::Status ParseTextConfig(const std::string& text, const std::string& source,
                             google::protobuf::Message* config);

}  // namespace temper

#endif  // TOOLS_CONFIG_TEXT_CONFIG_H_
