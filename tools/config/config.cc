#include "tools/config/config.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <map>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "google/protobuf/text_format.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "tools/config/config_keys.h"
#include "tools/config/config_leaf.h"
#include "tools/config/text_config.h"

namespace temper {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// The keys of each section, by its name.
std::map<std::string, std::vector<std::string>> Sections() {
  std::map<std::string, std::vector<std::string>> sections;
  for (const ConfigLeaf& leaf : ConfigLeaves()) {
    if (leaf.section == nullptr) continue;
    sections[leaf.section->name()].push_back(leaf.field->name());
  }
  return sections;
}

// A limit as a person writes it: 1000000, not 1e+06.
std::string LimitText(const ConfigLeaf& leaf, double limit) {
  if (leaf.field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
    return NumberText(limit);
  }
  if (limit >= 18446744073709551615.0) return "18446744073709551615";
  return absl::StrCat(static_cast<uint64_t>(limit));
}

std::string Limits(const ConfigKey& key, const ConfigLeaf& leaf) {
  if (key.choices != nullptr) {
    std::string limits =
        absl::StrJoin(absl::StrSplit(key.choices, '|'), " or ");
    if (key.later != nullptr) {
      absl::StrAppend(&limits, " (not in this version: ",
                      absl::StrJoin(absl::StrSplit(key.later, '|'), ", "), ")");
    }
    return limits;
  }
  if (leaf.IsNumber()) {
    const std::string min = LimitText(leaf, key.min);
    if (key.min == key.max) return absl::StrCat(min, " alone");
    return absl::StrCat(min, " to ", LimitText(leaf, key.max));
  }
  const bool choice = leaf.field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL;
  return choice ? "true or false" : "any";
}

// What may stand where a value of the key is meant, in a file or after --set.
std::string Allowed(const std::string& name) {
  const ConfigLeaf leaf = FindConfigLeaf(name);
  if (leaf.field == nullptr) {
    const auto sections = Sections();
    const auto it = sections.find(name);
    if (it == sections.end()) return "";
    return absl::StrCat("as a section: ", name, " { ", it->second[0],
                        ": ... }");
  }
  const ConfigKey& key = *FindConfigKey(name);
  if (leaf.IsNumber()) {
    return absl::StrCat("as a ", LeafType(leaf), ", ", Limits(key, leaf));
  }
  if (leaf.field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL) {
    return "as true or false";
  }
  return absl::StrCat(
      "as text in quotes",
      key.choices == nullptr ? "" : absl::StrCat(", ", Limits(key, leaf)));
}

// What to say of a name that is no key. Empty if nothing resembles it.
std::string Suggestion(const std::string& name) {
  const std::string later = LaterFeature(name);
  if (!later.empty()) {
    return absl::StrCat("; ", later, " is not in this version: remove it");
  }
  const std::string alias = KeyOfAlias(name);
  if (!alias.empty()) return absl::StrCat("; here it is called ", alias);
  const std::string last = name.substr(name.rfind('.') + 1);
  if (last != name && FindConfigLeaf(last).field != nullptr) {
    return absl::StrCat("; write ", last,
                        ": a key is named without its section");
  }
  std::vector<std::string> names;
  for (const auto& [section, keys] : Sections()) names.push_back(section);
  for (const ConfigKey& key : ConfigKeys()) names.push_back(key.name);
  const std::string nearest = Nearest(name, names);
  if (!nearest.empty()) return absl::StrCat("; did you mean ", nearest, "?");
  return "; `temper config explain` lists every key";
}

// What to say of a name that is no key where it stands in a file.
std::string UnknownKey(const std::string& section, const std::string& name) {
  // As DESIGN.md has it, no two keys share a name, so a domain's bear its own.
  const std::string of_domain = "domain_" + name;
  if (section == DomainConfig::descriptor()->name() &&
      FindConfigLeaf(of_domain).InRepeated()) {
    return absl::StrCat(name, " is called ", of_domain,
                        " in domain { }; rename it");
  }
  const ConfigLeaf leaf = FindConfigLeaf(name);
  if (leaf.field == nullptr) {
    return absl::StrCat("unknown key ", name, Suggestion(name));
  }
  if (leaf.section == nullptr) {
    return absl::StrCat(name, " belongs outside every section; move it there");
  }
  return absl::StrCat(name, " belongs in ", leaf.section->name(),
                      " { }; move it there");
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
      key.name, " ", text, " is outside its limits ", Limits(key, leaf),
      "; set it within them (`temper config explain ", key.name,
      "` says what it does)"));
}

absl::Status CheckChoice(const ConfigKey& key, const std::string& text) {
  const std::vector<std::string> choices = absl::StrSplit(key.choices, '|');
  for (const std::string& choice : choices) {
    if (text == choice) return absl::OkStatus();
  }
  if (key.later != nullptr) {
    const std::vector<std::string> laters = absl::StrSplit(key.later, '|');
    for (const std::string& later : laters) {
      if (text == later) {
        return absl::InvalidArgumentError(
            absl::StrCat(key.name, " ", text, " is not in this version; set ",
                         key.name, " to ", absl::StrJoin(choices, " or ")));
      }
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat(key.name, " \"", text, "\" is none of ",
                   absl::StrJoin(choices, ", "), "; set it to one of them"));
}

absl::Status CheckLeaf(const ConfigLeaf& leaf, const Message& parent) {
  const ConfigKey& key = *FindConfigKey(leaf.field->name());
  if (leaf.IsNumber()) return CheckNumber(key, leaf, parent);
  if (key.choices == nullptr) return absl::OkStatus();
  return CheckChoice(key, LeafText(leaf, parent));
}

absl::Status CheckName(const std::string& name) {
  bool good = name.size() <= 100;
  for (const char c : name) {
    good &= isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' ||
            c == '.';
  }
  if (good && (name.empty() || name[0] != '.')) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("name \"", name,
                   "\" cannot name a directory; use at most 100 letters, "
                   "digits, '-', '_' and '.', and no '.' in front"));
}

absl::Status CheckDomains(const RunConfig& config) {
  const ConfigLeaf kl = FindConfigLeaf("domain_kl_coef");
  std::vector<std::string> seen;
  for (const DomainConfig& domain : config.domain()) {
    const std::string& name = domain.domain_name();
    if (name.empty()) {
      return absl::InvalidArgumentError(
          "domain without domain_name; name the domain of the tasks that it is "
          "for, or set kl_coef, which is the default domain's");
    }
    for (const std::string& other : seen) {
      if (other == name) {
        return absl::InvalidArgumentError(
            absl::StrCat("domain ", name, " is given twice; keep one"));
      }
    }
    seen.push_back(name);
    const absl::Status coefficient =
        CheckNumber(*FindConfigKey("domain_kl_coef"), kl, domain);
    if (!coefficient.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "domain ", name, ": ", std::string(coefficient.message())));
    }
  }
  return absl::OkStatus();
}

bool AnyKl(const RunConfig& config) {
  bool any = config.objective().kl_coef() > 0;
  for (const DomainConfig& domain : config.domain()) {
    any |= domain.domain_kl_coef() > 0;
  }
  return any;
}

// A key whose value another key makes idle. At its default it is not
// something that the user asked for, so only other values are refused.
absl::Status CheckEffect(const RunConfig& config, const char* name, bool idle,
                         const std::string& why) {
  if (!idle) return absl::OkStatus();
  const ConfigLeaf leaf = FindConfigLeaf(name);
  const std::string text = LeafText(leaf, Parent(leaf, config));
  if (text == FindConfigKey(name)->default_text) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " ", text, " has no effect: ", why));
}

// Into which the prompts of a step can be split, with commas.
std::string Divisors(uint32_t prompts) {
  std::vector<std::string> divisors;
  const auto max = static_cast<uint32_t>(FindConfigKey("minibatches")->max);
  for (uint32_t n = 1; n <= std::min(prompts, max); ++n) {
    if (prompts % n == 0) divisors.push_back(absl::StrCat(n));
  }
  return absl::StrJoin(divisors, ", ");
}

absl::Status CheckTogether(const RunConfig& config) {
  const ObjectiveConfig& objective = config.objective();
  const SamplingConfig& sampling = config.sampling();
  const RewardConfig& rewards = config.rewards();
  if (objective.prompts_per_step() % objective.minibatches() != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("minibatches ", objective.minibatches(),
                     " does not divide "
                     "prompts_per_step ",
                     objective.prompts_per_step(),
                     ", and a minibatch is whole groups; set it to one of ",
                     Divisors(objective.prompts_per_step())));
  }
  if (config.workers() > objective.prompts_per_step()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "workers ", config.workers(), " exceeds prompts_per_step ",
        objective.prompts_per_step(),
        ": a worker takes whole groups, so some would idle; lower workers"));
  }
  const bool truncated =
      sampling.top_p() < 1 || sampling.top_k() > 0 || sampling.min_p() > 0;
  const bool length = rewards.length_weight() > 0;
  if (length && (rewards.length_target_tokens() == 0 ||
                 rewards.length_target_tokens() >= sampling.max_tokens())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "length_target_tokens ", rewards.length_target_tokens(),
        " with length_weight ", rewards.length_weight(),
        ": set it from 1 to max_tokens - 1 (", sampling.max_tokens() - 1, ")"));
  }
  RETURN_IF_ERROR(CheckEffect(config, "kl_estimator", !AnyKl(config),
                              "every kl_coef is 0; raise one or remove it"));
  RETURN_IF_ERROR(CheckEffect(config, "keep_sampling_mask", !truncated,
                              "top_p, top_k and min_p are all off; remove it"));
  RETURN_IF_ERROR(CheckEffect(config, "length_target_tokens", !length,
                              "length_weight is 0; raise it or remove this"));
  // In synchronous mode a step's first update is on-policy.
  for (const char* key :
       {"clip_ratio_low", "clip_ratio_high", "off_policy_mask_threshold"}) {
    RETURN_IF_ERROR(CheckEffect(
        config, key, objective.minibatches() == 1,
        "with minibatches 1 every ratio is 1; raise minibatches or remove it"));
  }
  return CheckEffect(config, "eval_interval",
                     config.schedule().eval_tasks() == 0,
                     "eval_tasks is 0; raise it or remove this");
}

absl::Status SetDomain(const std::string& text, RunConfig* config) {
  const size_t colon = text.rfind(':');
  double kl_coef;
  if (colon == std::string::npos || colon == 0 ||
      !absl::SimpleAtod(text.substr(colon + 1), &kl_coef)) {
    return absl::InvalidArgumentError(
        absl::StrCat("domain: \"", text,
                     "\" is not NAME:KL_COEF; write it as --set "
                     "domain=math:0.001"));
  }
  const std::string name = text.substr(0, colon);
  DomainConfig* domain = nullptr;
  for (DomainConfig& other : *config->mutable_domain()) {
    if (other.domain_name() == name) domain = &other;
  }
  if (domain == nullptr) domain = config->add_domain();
  domain->set_domain_name(name);
  domain->set_domain_kl_coef(kl_coef);
  return absl::OkStatus();
}

KeyView Explain(const ConfigKey& key) {
  const ConfigLeaf leaf = FindConfigLeaf(key.name);
  KeyView view;
  view.name = key.name;
  if (leaf.section != nullptr) view.section = leaf.section->name();
  view.type = LeafType(leaf);
  if (key.default_text != nullptr) view.default_text = key.default_text;
  view.limits = Limits(key, leaf);
  view.resume_may_change = key.on_resume == OnResume::kMayChange;
  view.meaning = key.meaning;
  return view;
}

}  // namespace

absl::StatusOr<RunConfig> ParseConfig(const std::string& text,
                                      const std::string& source) {
  RunConfig config;
  RETURN_IF_ERROR(ParseTextConfig(text, source, UnknownKey, &config, Allowed));
  return config;
}

absl::Status SetConfigValue(const std::string& assignment, RunConfig* config) {
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--set ", assignment, ": write it as key=value"));
  }
  const std::string name = assignment.substr(0, equals);
  const std::string text = assignment.substr(equals + 1);
  if (name == "domain") return SetDomain(text, config);
  const ConfigLeaf leaf = FindConfigLeaf(name);
  const auto sections = Sections();
  if (const auto it = sections.find(name); it != sections.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is a section; set its keys by their own names: ",
                     absl::StrJoin(it->second, ", ")));
  }
  if (leaf.field == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("unknown key ", name, Suggestion(name)));
  }
  if (leaf.InRepeated()) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, " is one domain's; write --set domain=NAME:KL_COEF"));
  }
  RunConfig changed = *config;
  const absl::Status set = SetLeaf(leaf, text, MutableParent(leaf, &changed));
  if (!set.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(std::string(set.message()), "; give it ", Allowed(name)));
  }
  *config = changed;
  return absl::OkStatus();
}

absl::Status ResolveConfig(RunConfig* config) {
  for (const ConfigLeaf& leaf : ConfigLeaves()) {
    if (leaf.InRepeated() || leaf.field->is_repeated()) continue;
    const ConfigKey& key = *FindConfigKey(leaf.field->name());
    Message* parent = MutableParent(leaf, config);
    if (!parent->GetReflection()->HasField(*parent, leaf.field)) {
      if (key.default_text == nullptr) {
        return absl::InvalidArgumentError(absl::StrCat(
            key.name, " is not set and has no default. ", key.meaning,
            " Set it in the file or by --set ", key.name, "=..."));
      }
      RETURN_IF_ERROR(SetLeaf(leaf, key.default_text, parent));
    }
    RETURN_IF_ERROR(CheckLeaf(leaf, *parent));
  }
  const ConfigLeaf kl = FindConfigLeaf("domain_kl_coef");
  for (DomainConfig& domain : *config->mutable_domain()) {
    if (domain.has_domain_kl_coef()) continue;
    RETURN_IF_ERROR(
        SetLeaf(kl, FindConfigKey("domain_kl_coef")->default_text, &domain));
  }
  RETURN_IF_ERROR(CheckName(config->name()));
  RETURN_IF_ERROR(CheckDomains(*config));
  return CheckTogether(*config);
}

absl::Status CheckResume(const RunConfig& was, const RunConfig& now) {
  std::vector<std::string> may_change;
  for (const ConfigKey& key : ConfigKeys()) {
    if (key.on_resume == OnResume::kMayChange) may_change.push_back(key.name);
  }
  const std::string rule = absl::StrCat(
      "; leave it as it was, or start a new run: a resume may "
      "change only ",
      absl::StrJoin(may_change, ", "));
  for (const ConfigLeaf& leaf : ConfigLeaves()) {
    if (leaf.InRepeated()) continue;
    const ConfigKey& key = *FindConfigKey(leaf.field->name());
    if (key.on_resume == OnResume::kMayChange) continue;
    const std::string before = LeafText(leaf, Parent(leaf, was));
    const std::string after = LeafText(leaf, Parent(leaf, now));
    if (before != after) {
      return absl::InvalidArgumentError(absl::StrCat(
          key.name, " ", after, " differs from the run's ", before, rule));
    }
  }
  bool same = was.domain_size() == now.domain_size();
  for (int i = 0; same && i < was.domain_size(); ++i) {
    same =
        was.domain(i).SerializeAsString() == now.domain(i).SerializeAsString();
  }
  if (!same) {
    return absl::InvalidArgumentError(
        absl::StrCat("domain differs from the run's", rule));
  }
  return absl::OkStatus();
}

std::string FormatConfig(const RunConfig& config) {
  std::string text;
  CHECK(google::protobuf::TextFormat::PrintToString(config, &text));
  return text;
}

absl::StatusOr<KeyView> ExplainKey(const std::string& name) {
  const ConfigKey* key = FindConfigKey(name);
  if (key == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("unknown key ", name, Suggestion(name)));
  }
  return Explain(*key);
}

std::vector<KeyView> ExplainKeys() {
  std::vector<KeyView> views;
  for (const ConfigKey& key : ConfigKeys()) views.push_back(Explain(key));
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
      "\n  type     ", key.type, "\n  default  ", default_text, "\n  limits   ",
      key.limits, "\n  resume   ",
      key.resume_may_change ? "may change" : "stays as the run began",
      "\n  meaning  ", key.meaning, "\n");
}

std::string FormatKeys(const std::vector<KeyView>& keys) {
  std::string text;
  for (const KeyView& key : keys) {
    std::string name = key.name;
    name.resize(std::max<size_t>(name.size(), 26), ' ');
    std::string value = key.default_text.value_or("(required)");
    value.resize(std::max<size_t>(value.size(), 20), ' ');
    absl::StrAppend(&text, name, " ", value, " ", key.meaning, "\n");
  }
  return text;
}

}  // namespace temper
