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
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

bool IsMessage(const FieldDescriptor* field) {
  return field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
}

absl::Status NotA(const ConfigLeaf& leaf, const std::string& text) {
  return absl::InvalidArgumentError(
      absl::StrCat(leaf.field->name(), ": \"", text, "\" is not ",
                   leaf.IsNumber() ? "a " : "", LeafType(leaf)));
}

}  // namespace

std::vector<ConfigLeaf> ConfigLeaves() {
  std::vector<ConfigLeaf> leaves;
  const Descriptor* run = RunConfig::descriptor();
  for (int i = 0; i < run->field_count(); ++i) {
    const FieldDescriptor* field = run->field(i);
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

ConfigLeaf FindConfigLeaf(const std::string& name) {
  for (const ConfigLeaf& leaf : ConfigLeaves()) {
    if (leaf.field->name() == name) return leaf;
  }
  return {};
}

Message* MutableParent(const ConfigLeaf& leaf, RunConfig* config) {
  if (leaf.section == nullptr) return config;
  return config->GetReflection()->MutableMessage(config, leaf.section);
}

const Message& Parent(const ConfigLeaf& leaf, const RunConfig& config) {
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
    default:
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
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return "number";
    default:
      return "whole number";
  }
}

bool ConfigLeaf::IsNumber() const {
  return !field->is_repeated() &&
         field->cpp_type() != FieldDescriptor::CPPTYPE_STRING &&
         field->cpp_type() != FieldDescriptor::CPPTYPE_BOOL;
}

double LeafNumber(const ConfigLeaf& leaf, const Message& parent) {
  const FieldDescriptor* field = leaf.field;
  const Reflection* reflection = parent.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_UINT32:
      return reflection->GetUInt32(parent, field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return static_cast<double>(reflection->GetUInt64(parent, field));
    default:
      return reflection->GetDouble(parent, field);
  }
}

std::string NumberText(double value) {
  char text[64];
  const auto end = std::to_chars(text, text + sizeof text, value);
  return std::string(text, end.ptr);
}

}  // namespace temper
