// Reads a configuration file, proto3 text, and says what is wrong with it in
// our words: what `temper train` and `temper sft` share.
//
// A function without state; thread-safe.

#ifndef TOOLS_CONFIG_TEXT_CONFIG_H_
#define TOOLS_CONFIG_TEXT_CONFIG_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "google/protobuf/message.h"

namespace temper {

// What to say of a name that is no field of `section`, the message's type,
// where it stands.
using UnknownKeyText = std::function<std::string(const std::string& section,
                                                 const std::string& name)>;

// What a value of `key` may be, for a person ("a whole number from 1 to 64");
// "" where `key` is none.
using AllowedText = std::function<std::string(const std::string& key)>;

// Reads `text` into `config`, which is empty. InvalidArgument for the first
// thing that is wrong, its message begun with `source`, line and column, then
// the key whose value it is, if it is one, and ended with what may stand there;
// `config` is unspecified then.
absl::Status ParseTextConfig(const std::string& text, const std::string& source,
                             const UnknownKeyText& unknown_key,
                             google::protobuf::Message* config,
                             const AllowedText& allowed = nullptr);

}  // namespace temper

#endif  // TOOLS_CONFIG_TEXT_CONFIG_H_
