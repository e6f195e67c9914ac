// The one table of configuration keys: default, limits and meaning of every
// leaf of RunConfig (`temper train`) and of SftConfig (`temper sft`). `temper
// config explain`, the resolution of both and the rule of what a resume may
// change all read it; a test holds it against the two proto files, so neither
// has a key that the other lacks. What a choice may be says the proto's enum.
//
// Everything here is constant and thread-safe.

#ifndef TOOLS_CONFIG_CONFIG_KEYS_H_
#define TOOLS_CONFIG_CONFIG_KEYS_H_

#include <string>
#include <vector>

#include "google/protobuf/descriptor.h"

namespace temper {

// Whether what is resumed may have another value than it began with.
enum class OnResume { kFixed, kMayChange };

// Whose configuration has the key.
enum class KeyOf { kTrain, kSft, kBoth };

struct ConfigKey {
  KeyOf of;
  const char* name;          // the leaf's name, unique in its configuration
  const char* default_text;  // as SetLeaf takes it; null: must be given
  OnResume on_resume;
  double min;           // numbers, inclusive
  double max;           // numbers, inclusive
  const char* meaning;  // one or two sentences, with the unit
};

// Every row of the table.
const std::vector<ConfigKey>& ConfigKeys();

// The key of this name in `configuration`, RunConfig's or SftConfig's
// descriptor; null if there is none.
const ConfigKey* FindConfigKey(
    const google::protobuf::Descriptor* configuration, const std::string& name);

}  // namespace temper

#endif  // TOOLS_CONFIG_CONFIG_KEYS_H_
