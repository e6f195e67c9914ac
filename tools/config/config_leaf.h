// One leaf of RunConfig by its name alone, read and written as text: what
// --set, `config resolve` and the run's config.textproto share. Leaf names are
// unique over all sections, which a test holds.
//
// Functions without state; thread-safe.

#ifndef TOOLS_CONFIG_CONFIG_LEAF_H_
#define TOOLS_CONFIG_CONFIG_LEAF_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "proto/config.pb.h"

namespace temper {

struct ConfigLeaf {
  const google::protobuf::FieldDescriptor* field = nullptr;
  // The message field that holds it; null at the top.
  const google::protobuf::FieldDescriptor* section = nullptr;

  // Leaves of domain { } exist once per domain and have no single value.
  bool InRepeated() const {
    return section != nullptr && section->is_repeated();
  }
  // Everything but text, lists and true or false.
  bool IsNumber() const;
};

// Every leaf, in the order of proto/config.proto.
std::vector<ConfigLeaf> ConfigLeaves();

// `field` is null if there is no such leaf.
ConfigLeaf FindConfigLeaf(const std::string& name);

// The message that holds the leaf, which is not InRepeated.
google::protobuf::Message* MutableParent(const ConfigLeaf& leaf,
                                         RunConfig* config);
const google::protobuf::Message& Parent(const ConfigLeaf& leaf,
                                        const RunConfig& config);

// Sets the leaf; a list is given with commas. InvalidArgument, and `parent`
// unchanged, if `text` is not of the leaf's type.
absl::Status SetLeaf(const ConfigLeaf& leaf, const std::string& text,
                     google::protobuf::Message* parent);

// The value as SetLeaf takes it; numbers are exact.
std::string LeafText(const ConfigLeaf& leaf,
                     const google::protobuf::Message& parent);

// A number's value; exact up to 2^53.
double LeafNumber(const ConfigLeaf& leaf,
                  const google::protobuf::Message& parent);

// The type's name, for a person.
std::string LeafType(const ConfigLeaf& leaf);

// The shortest text that reads back as this number.
std::string NumberText(double value);

}  // namespace temper

#endif  // TOOLS_CONFIG_CONFIG_LEAF_H_
