// One leaf of a configuration message (RunConfig, SftConfig) by its name alone,
// read and written as text: what --set, `config resolve` and the files of a
// run share. Leaf names are unique in a configuration over all its sections,
// which a test holds.
//
// Functions without state; thread-safe. `configuration` is the descriptor of
// RunConfig or SftConfig.

#ifndef TOOLS_CONFIG_CONFIG_LEAF_H_
#define TOOLS_CONFIG_CONFIG_LEAF_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

namespace temper {

struct ConfigLeaf {
  const google::protobuf::FieldDescriptor* field = nullptr;
  // The message field that holds it; null at the top.
  const google::protobuf::FieldDescriptor* section = nullptr;

  const std::string& name() const { return field->name(); }
  // Leaves of domain { } and stage { } exist once in each and have no single
  // value.
  bool InRepeated() const {
    return section != nullptr && section->is_repeated();
  }
  // Everything but text, lists, choices and true or false.
  bool IsNumber() const;
  // One of Choices().
  bool IsChoice() const;
  std::vector<std::string> Choices() const;
};

// Every leaf, in the order of the proto file.
std::vector<ConfigLeaf> ConfigLeaves(
    const google::protobuf::Descriptor* configuration);

// `field` is null if there is no such leaf.
ConfigLeaf FindConfigLeaf(const google::protobuf::Descriptor* configuration,
                          const std::string& name);

// The message that holds the leaf, which is not InRepeated.
google::protobuf::Message* MutableParent(const ConfigLeaf& leaf,
                                         google::protobuf::Message* config);
const google::protobuf::Message& Parent(
    const ConfigLeaf& leaf, const google::protobuf::Message& config);

// Sets the leaf; a list is given with commas. InvalidArgument, and `parent`
// unchanged, if `text` is not of the leaf's type, or none of its choices.
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
