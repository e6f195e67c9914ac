#include "tools/config/key_view.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "proto/config.pb.h"
#include "proto/sft_config.pb.h"
#include "tools/config/config_keys.h"
#include "tools/config/config_leaf.h"
#include "tools/config/key_rules.h"

namespace temper {
namespace {

constexpr char kSft[] = "sft";

void Explain(const char* verb,
             const google::protobuf::Descriptor* configuration,
             std::vector<KeyView>* views) {
  for (const ConfigLeaf& leaf : ConfigLeaves(configuration)) {
    const ConfigKey& key = KeyOfLeaf(configuration, leaf);
    KeyView view;
    view.verb = verb;
    view.name = key.name;
    if (leaf.section != nullptr) view.section = leaf.section->name();
    view.type = LeafType(leaf);
    if (key.default_text != nullptr) view.default_text = key.default_text;
    view.limits = LimitsText(key, leaf);
    view.resume_may_change = key.on_resume == OnResume::kMayChange;
    view.meaning = key.meaning;
    views->push_back(view);
  }
}

}  // namespace

absl::StatusOr<std::vector<KeyView>> ExplainKey(const std::string& name) {
  std::vector<KeyView> views;
  // In both configurations it may have other defaults and limits.
  for (const KeyView& view : ExplainKeys()) {
    if (view.name == name) views.push_back(view);
  }
  if (!views.empty()) return views;
  return absl::InvalidArgumentError(
      // Other systems' names are of training by reinforcement.
      UnknownKeyText(RunConfig::descriptor(), name));
}

std::vector<KeyView> ExplainKeys() {
  std::vector<KeyView> views;
  Explain("train", RunConfig::descriptor(), &views);
  Explain(kSft, SftConfig::descriptor(), &views);
  return views;
}

std::string FormatKey(const KeyView& key) {
  const std::string default_text =
      !key.default_text.has_value() ? "none: it must be given"
      : key.default_text->empty()   ? "empty"
                                    : *key.default_text;
  return absl::StrCat(
      key.name,
      key.section.empty() ? "" : absl::StrCat(" (in ", key.section, ")"),
      "\n  verb     ", key.verb, "\n  type     ", key.type, "\n  default  ",
      default_text, "\n  limits   ", key.limits, "\n  resume   ",
      key.resume_may_change ? "may change" : "stays as it began",
      "\n  meaning  ", key.meaning, "\n");
}

std::string FormatKeys(const std::vector<KeyView>& keys) {
  std::string text, verb = "train";
  for (const KeyView& key : keys) {
    if (key.verb != verb) {
      absl::StrAppend(&text, "\nOf temper ", key.verb, ":\n");
      verb = key.verb;
    }
    std::string name = key.name;
    // Columns fit the longest key of today; a longer one moves its own line
    // alone.
    name.resize(std::max<size_t>(name.size(), 26), ' ');
    std::string value = key.default_text.value_or("(required)");
    value.resize(std::max<size_t>(value.size(), 20), ' ');
    absl::StrAppend(&text, name, " ", value, " ", key.meaning, "\n");
  }
  return text;
}

}  // namespace temper
