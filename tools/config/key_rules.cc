#include "tools/config/key_rules.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "tools/config/key_names.h"

namespace temper {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// A limit as a person writes it: 1000000, not 1e+06.
std::string LimitText(const ConfigLeaf& leaf, double limit) {
  if (leaf.field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
    return NumberText(limit);
  }
  // The double nearest to 2^64 - 1 is 2^64, which no uint64_t holds.
  if (limit >= 18446744073709551615.0) return "18446744073709551615";
  return absl::StrCat(static_cast<uint64_t>(limit));
}

// What to do about a name that is no key.
std::string Suggestion(const Descriptor* configuration,
                       const std::string& name) {
  const std::string later = LaterFeature(name);
  if (!later.empty()) {
    return absl::StrCat("; ", later, " is not in this version: remove it");
  }
  const std::string alias = KeyOfAlias(name);
  // Another system's name may be that of the other configuration's key.
  if (FindConfigLeaf(configuration, alias).field != nullptr) {
    return absl::StrCat("; here it is called ", alias);
  }
  const std::string last = name.substr(name.rfind('.') + 1);
  if (last != name && FindConfigLeaf(configuration, last).field != nullptr) {
    return absl::StrCat("; write ", last,
                        ": a key is named without its section");
  }
  // Sections too: they are misspelt as keys are.
  std::vector<std::string> names;
  for (const auto& [section, keys] : Sections(configuration)) {
    names.push_back(section);
  }
  for (const ConfigLeaf& leaf : ConfigLeaves(configuration)) {
    names.push_back(leaf.name());
  }
  const std::string nearest = Nearest(name, names);
  if (!nearest.empty()) return absl::StrCat("; did you mean ", nearest, "?");
  return "; `temper config explain` lists every key";
}

absl::Status CheckNumber(const ConfigKey& key, const ConfigLeaf& leaf,
                         const Message& parent) {
  const double value = LeafNumber(leaf, parent);
  // Written so that a NaN fails.
  if (value >= key.min && value <= key.max) return absl::OkStatus();
  const std::string text = LeafText(leaf, parent);
  if (key.min == key.max) {
    return absl::InvalidArgumentError(
        absl::StrCat(key.name, " ", text, " is not in this version; set it to ",
                     LimitText(leaf, key.min), ". ", key.meaning));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      key.name, " ", text, " is outside its limits ", LimitsText(key, leaf),
      "; set it within them (`temper config explain ", key.name,
      "` says what it does)"));
}

absl::Status ResolveLeaf(const ConfigKey& key, const ConfigLeaf& leaf,
                         Message* parent) {
  const Reflection* reflection = parent->GetReflection();
  const bool given = leaf.field->is_repeated()
                         ? reflection->FieldSize(*parent, leaf.field) > 0
                         : reflection->HasField(*parent, leaf.field);
  if (!given) {
    if (key.default_text == nullptr) {
      // Only train has --set.
      return absl::InvalidArgumentError(
          absl::StrCat(key.name, " is not set and has no default. ",
                       key.meaning, " Set it in the file",
                       key.of == KeyOf::kTrain
                           ? absl::StrCat(" or by --set ", key.name, "=...")
                           : "."));
    }
    RETURN_IF_ERROR(SetLeaf(leaf, key.default_text, parent));
  }
  return leaf.IsNumber() ? CheckNumber(key, leaf, *parent) : absl::OkStatus();
}

// Of a repeated section: which one it is, for a person: its first key is its
// name.
std::string PlaceText(const ConfigLeaf& leaf, int index,
                      const Message& element) {
  const ConfigLeaf name = {leaf.section->message_type()->field(0),
                           leaf.section};
  return absl::StrCat(leaf.section->name(), " ", index + 1, " (\"",
                      LeafText(name, element), "\"): ");
}

absl::Status ResolveRepeated(const ConfigKey& key, const ConfigLeaf& leaf,
                             Message* config) {
  const Reflection* reflection = config->GetReflection();
  for (int i = 0; i < reflection->FieldSize(*config, leaf.section); ++i) {
    Message* element =
        reflection->MutableRepeatedMessage(config, leaf.section, i);
    const absl::Status status = ResolveLeaf(key, leaf, element);
    if (status.ok()) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        PlaceText(leaf, i, *element), std::string(status.message())));
  }
  return absl::OkStatus();
}

// How the leaf differs, or "". Sections that come several times are as many in
// both.
std::string Difference(const ConfigLeaf& leaf, const Message& was,
                       const Message& now) {
  // As text, which is what a user wrote and will be shown; numbers are exact in
  // it.
  const auto compare = [&leaf](const Message& before, const Message& after) {
    const std::string old_text = LeafText(leaf, before);
    const std::string new_text = LeafText(leaf, after);
    if (old_text == new_text) return std::string();
    return absl::StrCat(leaf.name(), " is ", new_text, ", and began as ",
                        old_text);
  };
  if (!leaf.InRepeated()) return compare(Parent(leaf, was), Parent(leaf, now));
  const Reflection* reflection = was.GetReflection();
  for (int i = 0; i < reflection->FieldSize(was, leaf.section); ++i) {
    const Message& element =
        reflection->GetRepeatedMessage(now, leaf.section, i);
    const std::string difference =
        compare(reflection->GetRepeatedMessage(was, leaf.section, i), element);
    if (difference.empty()) continue;
    return absl::StrCat(PlaceText(leaf, i, element), difference);
  }
  return "";
}

std::string FirstDifference(const Message& was, const Message& now) {
  const Descriptor* configuration = was.GetDescriptor();
  // First the sections' numbers: their leaves are compared one to one.
  for (int f = 0; f < configuration->field_count(); ++f) {
    const FieldDescriptor* field = configuration->field(f);
    if (!field->is_repeated() ||
        field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      continue;
    }
    const int before = was.GetReflection()->FieldSize(was, field);
    const int after = now.GetReflection()->FieldSize(now, field);
    if (before == after) continue;
    return absl::StrCat("there are ", after, " of ", field->name(),
                        ", and it began with ", before);
  }
  for (const ConfigLeaf& leaf : ConfigLeaves(configuration)) {
    if (KeyOfLeaf(configuration, leaf).on_resume == OnResume::kMayChange) {
      continue;
    }
    const std::string difference = Difference(leaf, was, now);
    if (!difference.empty()) return difference;
  }
  return "";
}

}  // namespace

std::map<std::string, std::vector<std::string>> Sections(
    const Descriptor* configuration) {
  std::map<std::string, std::vector<std::string>> sections;
  for (const ConfigLeaf& leaf : ConfigLeaves(configuration)) {
    if (leaf.section == nullptr) continue;
    sections[leaf.section->name()].push_back(leaf.name());
  }
  return sections;
}

const ConfigKey& KeyOfLeaf(const Descriptor* configuration,
                           const ConfigLeaf& leaf) {
  const ConfigKey* key = FindConfigKey(configuration, leaf.name());
  CHECK(key != nullptr) << leaf.name()
                        << " is not in tools/config/config_keys.cc";
  return *key;
}

std::string LimitsText(const ConfigKey& key, const ConfigLeaf& leaf) {
  if (leaf.IsChoice()) {
    return absl::StrJoin(leaf.Choices(), " or ");
  }
  if (leaf.IsNumber()) {
    const std::string min = LimitText(leaf, key.min);
    if (key.min == key.max) return absl::StrCat(min, " alone");
    return absl::StrCat(min, " to ", LimitText(leaf, key.max));
  }
  const bool choice = leaf.field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL;
  return choice ? "true or false" : "any";
}

std::string AllowedText(const Descriptor* configuration,
                        const std::string& name) {
  const ConfigLeaf leaf = FindConfigLeaf(configuration, name);
  if (leaf.field == nullptr) {
    const auto sections = Sections(configuration);
    const auto it = sections.find(name);
    if (it == sections.end()) return "";
    return absl::StrCat("as a section: ", name, " { ", it->second[0],
                        ": ... }");
  }
  const std::string limits = LimitsText(KeyOfLeaf(configuration, leaf), leaf);
  if (leaf.IsNumber() || leaf.IsChoice()) {
    return absl::StrCat("as a ", LeafType(leaf), ", ", limits);
  }
  const bool truth = leaf.field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL;
  return truth ? "as true or false" : "as text in quotes";
}

std::string UnknownKeyText(const Descriptor* configuration,
                           const std::string& name) {
  return absl::StrCat("unknown key ", name, Suggestion(configuration, name));
}

std::string MisplacedKeyText(const Descriptor* configuration,
                             const std::string& section,
                             const std::string& name) {
  // As DESIGN.md has it, no two keys share a name, so a domain's bear its own.
  const std::string of_domain = "domain_" + name;
  const ConfigLeaf inner = FindConfigLeaf(configuration, of_domain);
  if (inner.field != nullptr &&
      inner.section->message_type()->name() == section) {
    return absl::StrCat(name, " is called ", of_domain,
                        " in domain { }; rename it");
  }
  const ConfigLeaf leaf = FindConfigLeaf(configuration, name);
  if (leaf.field == nullptr) return UnknownKeyText(configuration, name);
  if (leaf.section == nullptr) {
    return absl::StrCat(name, " belongs outside every section; move it there");
  }
  return absl::StrCat(name, " belongs in ", leaf.section->name(),
                      " { }; move it there");
}

absl::Status CheckChoice(const ConfigLeaf& leaf, const std::string& word) {
  if (!leaf.IsChoice()) return absl::OkStatus();
  const std::vector<std::string> choices = leaf.Choices();
  for (const std::string& choice : choices) {
    if (word == choice) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(leaf.name(), " \"", word, "\" is none of ",
                   absl::StrJoin(choices, ", "), "; set it to one of them"));
}

absl::Status ResolveKeys(Message* config) {
  const Descriptor* configuration = config->GetDescriptor();
  for (const ConfigLeaf& leaf : ConfigLeaves(configuration)) {
    const ConfigKey& key = KeyOfLeaf(configuration, leaf);
    // In the order of the proto file: the first thing that is wrong there is
    // told.
    RETURN_IF_ERROR(leaf.InRepeated()
                        ? ResolveRepeated(key, leaf, config)
                        : ResolveLeaf(key, leaf, MutableParent(leaf, config)));
  }
  return absl::OkStatus();
}

std::string ForbiddenChange(const Message& was, const Message& now) {
  const std::string difference = FirstDifference(was, now);
  if (difference.empty()) return "";
  const Descriptor* configuration = was.GetDescriptor();
  std::vector<std::string> may_change;
  for (const ConfigLeaf& leaf : ConfigLeaves(configuration)) {
    if (KeyOfLeaf(configuration, leaf).on_resume == OnResume::kMayChange) {
      may_change.push_back(leaf.name());
    }
  }
  return absl::StrCat(difference, "; a resume may change only ",
                      absl::StrJoin(may_change, ", "));
}

}  // namespace temper
