// What tools/config/config_keys.h's table says of a configuration's keys, done:
// defaults set, limits held, differences found; and what to tell a user who
// wrote something else. The same for RunConfig and SftConfig.
//
// Functions without state; thread-safe. `configuration` is the descriptor of
// one of the two, a Message is one of them.

#ifndef TOOLS_CONFIG_KEY_RULES_H_
#define TOOLS_CONFIG_KEY_RULES_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "tools/config/config_keys.h"
#include "tools/config/config_leaf.h"

namespace temper {

// The keys of each section, by its name.
std::map<std::string, std::vector<std::string>> Sections(
    const google::protobuf::Descriptor* configuration);

// The key of a leaf of `configuration`: each leaf has one.
const ConfigKey& KeyOfLeaf(const google::protobuf::Descriptor* configuration,
                           const ConfigLeaf& leaf);

// What the key's value may be, in few words ("1 to 64", "none or std").
std::string LimitsText(const ConfigKey& key, const ConfigLeaf& leaf);

// What may stand where a value of `name`, a key or a section, is meant, in a
// file or after --set: "as a whole number, 1 to 64". "" where it is neither.
std::string AllowedText(const google::protobuf::Descriptor* configuration,
                        const std::string& name);

// What to say of a name that is no key of `configuration`.
std::string UnknownKeyText(const google::protobuf::Descriptor* configuration,
                           const std::string& name);

// The same of a name in a file that is no field of `section`, a message's type.
std::string MisplacedKeyText(const google::protobuf::Descriptor* configuration,
                             const std::string& section,
                             const std::string& name);

// InvalidArgument if the leaf is a choice and `word` none of them.
absl::Status CheckChoice(const ConfigLeaf& leaf, const std::string& word);

// Gives each key that is unset its default, those of every domain { } and
// stage { } too, and checks each by itself. InvalidArgument names key, value,
// limits and next step; `config` is unspecified then.
absl::Status ResolveKeys(google::protobuf::Message* config);

// The first key in which two resolved configurations differ and that a resume
// may not change, with both values and the keys that it may; "" if there is
// none.
std::string ForbiddenChange(const google::protobuf::Message& was,
                            const google::protobuf::Message& now);

}  // namespace temper

#endif  // TOOLS_CONFIG_KEY_RULES_H_
