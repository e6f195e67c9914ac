#include "tools/config/config.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/text_format.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "tools/config/config_keys.h"
#include "tools/config/config_leaf.h"
#include "tools/config/key_rules.h"
#include "tools/config/text_config.h"

namespace temper {
namespace {

const google::protobuf::Descriptor* Keys() { return RunConfig::descriptor(); }

absl::Status CheckName(const std::string& name) {
  bool good = name.size() <= 100;
  for (const char c : name) {
    good &= isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' ||
            c == '.';
  }
  if (good && (name.empty() || name[0] != '.')) return absl::OkStatus();
  // It is a directory's name and stands in commands that we print: what a shell
  // or a path reads otherwise is left out.
  return absl::InvalidArgumentError(
      absl::StrCat("name \"", name,
                   "\" cannot name a directory; use at most 100 letters, "
                   "digits, '-', '_' and '.', and no '.' in front"));
}

// Each names a domain of its own, and all have a weight or none; the numbers
// themselves are checked by then.
absl::Status CheckDomains(const RunConfig& config) {
  std::vector<std::string> seen;
  std::string with_weight, without;
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
    (domain.domain_weight() > 0 ? with_weight : without) = name;
  }
  if (with_weight.empty() || without.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("domain ", without, " has no domain_weight, and domain ",
                   with_weight, " has one; give it to each, or to none"));
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
  const ConfigLeaf leaf = FindConfigLeaf(Keys(), name);
  const std::string text = LeafText(leaf, Parent(leaf, config));
  if (text == KeyOfLeaf(Keys(), leaf).default_text) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " ", text, " has no effect: ", why));
}

// Into which the prompts of a step can be split, with commas.
std::string Divisors(uint32_t prompts) {
  std::vector<std::string> divisors;
  const auto max =
      static_cast<uint32_t>(FindConfigKey(Keys(), "minibatches")->max);
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
  // Groups are dealt whole, so that a prompt is computed once where its samples
  // are.
  if (config.workers() > objective.prompts_per_step()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "workers ", config.workers(), " exceeds prompts_per_step ",
        objective.prompts_per_step(),
        ": a worker takes whole groups, so some would idle; lower workers"));
  }
  // What makes a key idle is another key: so these come after every key has its
  // value.
  const bool truncated =
      sampling.top_p() < 1 || sampling.top_k() > 0 || sampling.min_p() > 0;
  const bool length = rewards.length_weight() > 0;
  if (length && sampling.max_tokens() == 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("length_weight ", rewards.length_weight(),
                     " with max_tokens 1: no length_target_tokens lies below "
                     "it; raise max_tokens or set length_weight to 0"));
  }
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
  // The last one: a domain's name may have some.
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

}  // namespace

absl::StatusOr<RunConfig> ParseConfig(const std::string& text,
                                      const std::string& source) {
  RunConfig config;
  RETURN_IF_ERROR(ParseTextConfig(text, source, &config));
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
  const ConfigLeaf leaf = FindConfigLeaf(Keys(), name);
  const auto sections = Sections(Keys());
  if (const auto it = sections.find(name); it != sections.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is a section; set its keys by their own names: ",
                     absl::StrJoin(it->second, ", ")));
  }
  if (leaf.field == nullptr) {
    return absl::InvalidArgumentError(UnknownKeyText(Keys(), name));
  }
  if (leaf.InRepeated()) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, " is one domain's; write ",
        name == "domain_kl_coef" ? "--set domain=NAME:KL_COEF, or " : "",
        "domain { } in the file"));
  }
  RETURN_IF_ERROR(CheckChoice(leaf, text));
  // A copy, so that a refusal changes nothing: MutableParent makes the section.
  RunConfig changed = *config;
  const absl::Status set = SetLeaf(leaf, text, MutableParent(leaf, &changed));
  if (!set.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        std::string(set.message()), "; give it ", AllowedText(Keys(), name)));
  }
  *config = changed;
  return absl::OkStatus();
}

absl::Status ResolveConfig(RunConfig* config) {
  // First each by itself, then together: what is said of two keys may rely on
  // each of them.
  RETURN_IF_ERROR(ResolveKeys(config));
  RETURN_IF_ERROR(CheckName(config->name()));
  RETURN_IF_ERROR(CheckDomains(*config));
  return CheckTogether(*config);
}

absl::Status CheckResume(const RunConfig& was, const RunConfig& now) {
  const std::string change = ForbiddenChange(was, now);
  if (change.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(change, "; leave it as it was, or start a new run"));
}

std::string FormatConfig(const RunConfig& config) {
  std::string text;
  CHECK(google::protobuf::TextFormat::PrintToString(config, &text));
  return text;
}

}  // namespace temper
