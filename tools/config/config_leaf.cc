#include "tools/config/config_leaf.h"

#include <charconv>
#include <cstdint>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "kernels/base/log.h"

namespace temper {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

bool IsMessage(const FieldDescriptor* field) {
  return field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
}

absl::Status NotA(const ConfigLeaf& leaf, const std::string& text) {
  // Without advice: only the table knows which of the others are for later.
  if (leaf.IsChoice()) {
    return absl::InvalidArgumentError(
        absl::StrCat(leaf.name(), " \"", text, "\" is none of ",
                     absl::StrJoin(leaf.Choices(), ", ")));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(leaf.name(), ": \"", text, "\" is not ",
                   leaf.IsNumber() ? "a " : "", LeafType(leaf)));
}

}  // namespace

std::vector<ConfigLeaf> ConfigLeaves(const Descriptor* configuration) {
  std::vector<ConfigLeaf> leaves;
  for (int i = 0; i < configuration->field_count(); ++i) {
    const FieldDescriptor* field = configuration->field(i);
    // Two levels, and no more: a section has leaves only, so that a leaf's name
    // alone finds it.
    if (!IsMessage(field)) {
      leaves.push_back({field, nullptr});
      continue;
    }
    for (int j = 0; j < field->message_type()->field_count(); ++j) {
      leaves.push_back({field->message_type()->field(j), field});
    }
  }
  return leaves;
}

ConfigLeaf FindConfigLeaf(const Descriptor* configuration,
                          const std::string& name) {
  // A few dozen leaves, a few times a run: a walk is fast enough.
  for (const ConfigLeaf& leaf : ConfigLeaves(configuration)) {
    if (leaf.name() == name) return leaf;
  }
  return {};
}

Message* MutableParent(const ConfigLeaf& leaf, Message* config) {
  if (leaf.section == nullptr) return config;
  return config->GetReflection()->MutableMessage(config, leaf.section);
}

const Message& Parent(const ConfigLeaf& leaf, const Message& config) {
  if (leaf.section == nullptr) return config;
  return config.GetReflection()->GetMessage(config, leaf.section);
}

absl::Status SetLeaf(const ConfigLeaf& leaf, const std::string& text,
                     Message* parent) {
  const FieldDescriptor* field = leaf.field;
  const std::string& name = field->name();
  const Reflection* reflection = parent->GetReflection();
  if (field->is_repeated()) {
    const std::vector<std::string> items =
        absl::StrSplit(text, ',', absl::SkipEmpty());
    // A list is replaced, not added to: --set says what is to be there.
    reflection->ClearField(parent, field);
    for (const std::string& item : items) {
      reflection->AddString(parent, field, item);
    }
    return absl::OkStatus();
  }
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      reflection->SetString(parent, field, text);
      return absl::OkStatus();
    case FieldDescriptor::CPPTYPE_BOOL:
      // Not 1, yes or on: the file's format has these two alone.
      if (text != "true" && text != "false") {
        return NotA(leaf, text);
      }
      reflection->SetBool(parent, field, text == "true");
      return absl::OkStatus();
    case FieldDescriptor::CPPTYPE_UINT32: {
      uint32_t value;
      if (!absl::SimpleAtoi(text, &value)) {
        return NotA(leaf, text);
      }
      reflection->SetUInt32(parent, field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_UINT64: {
      uint64_t value;
      if (!absl::SimpleAtoi(text, &value)) {
        return NotA(leaf, text);
      }
      reflection->SetUInt64(parent, field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      double value;
      if (!absl::SimpleAtod(text, &value)) return NotA(leaf, text);
      reflection->SetDouble(parent, field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_ENUM: {
      const EnumValueDescriptor* value =
          field->enum_type()->FindValueByName(text);
      if (value == nullptr) return NotA(leaf, text);
      reflection->SetEnum(parent, field, value);
      return absl::OkStatus();
    }
    default:
      // The proto is ours: whoever gives a key a new type gives it a case here.
      CHECK(false) << name << " has a type that no configuration key has";
      return absl::OkStatus();
  }
}

std::string LeafText(const ConfigLeaf& leaf, const Message& parent) {
  const FieldDescriptor* field = leaf.field;
  const Reflection* reflection = parent.GetReflection();
  if (field->is_repeated()) {
    std::vector<std::string> items;
    for (int i = 0; i < reflection->FieldSize(parent, field); ++i) {
      items.push_back(reflection->GetRepeatedString(parent, field, i));
    }
    return absl::StrJoin(items, ",");
  }
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection->GetString(parent, field);
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection->GetBool(parent, field) ? "true" : "false";
    case FieldDescriptor::CPPTYPE_UINT32:
      return absl::StrCat(reflection->GetUInt32(parent, field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrCat(reflection->GetUInt64(parent, field));
    case FieldDescriptor::CPPTYPE_ENUM:
      return reflection->GetEnum(parent, field)->name();
    default:
      return NumberText(reflection->GetDouble(parent, field));
  }
}

std::string LeafType(const ConfigLeaf& leaf) {
  const FieldDescriptor* field = leaf.field;
  if (field->is_repeated()) return "list of names";
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return "text";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case FieldDescriptor::CPPTYPE_ENUM:
      return "choice";
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return "number";
    default:
      return "whole number";
  }
}

bool ConfigLeaf::IsNumber() const {
  return !field->is_repeated() && !IsChoice() &&
         field->cpp_type() != FieldDescriptor::CPPTYPE_STRING &&
         field->cpp_type() != FieldDescriptor::CPPTYPE_BOOL;
}

bool ConfigLeaf::IsChoice() const {
  return field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM;
}

std::vector<std::string> ConfigLeaf::Choices() const {
  std::vector<std::string> choices;
  for (int i = 0; IsChoice() && i < field->enum_type()->value_count(); ++i) {
    choices.push_back(field->enum_type()->value(i)->name());
  }
  return choices;
}

double LeafNumber(const ConfigLeaf& leaf, const Message& parent) {
  const FieldDescriptor* field = leaf.field;
  const Reflection* reflection = parent.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_UINT32:
      return reflection->GetUInt32(parent, field);
    case FieldDescriptor::CPPTYPE_UINT64:
      // Limits are doubles for all; the seed alone is this wide, and any is
      // allowed.
      return static_cast<double>(reflection->GetUInt64(parent, field));
    default:
      return reflection->GetDouble(parent, field);
  }
}

std::string NumberText(double value) {
  char text[64];
  // Shortest that reads back: %g would lose digits, and a run is repeated from
  // its text.
  const auto end = std::to_chars(text, text + sizeof text, value);
  return std::string(text, end.ptr);
}

}  // namespace temper
