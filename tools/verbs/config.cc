#include "tools/config/config.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_split.h"
#include "environments/environment_set.h"
#include "environments/registration.h"
#include "google/protobuf/descriptor.h"
#include "nlohmann/json.hpp"
#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/cli/json_output.h"
#include "tools/cli/print.h"
#include "tools/config/config_leaf.h"
#include "tools/config/key_view.h"
#include "tools/run/task_check.h"
#include "tools/verbs/verbs.h"

namespace temper {
namespace {

using google::protobuf::FieldDescriptor;

// Keys by their names alone, which are unique; domains as they are written.
Json ToJson(const RunConfig& config) {
  Json values = Json::object();
  for (const ConfigLeaf& leaf : ConfigLeaves(RunConfig::descriptor())) {
    if (leaf.InRepeated()) continue;
    const std::string text = LeafText(leaf, Parent(leaf, config));
    Json& value = values[leaf.field->name()];
    if (leaf.field->is_repeated()) {
      value = text.empty()
                  ? std::vector<std::string>()
                  : std::vector<std::string>(absl::StrSplit(text, ','));
      continue;
    }
    value = text;
    const bool text_alone =
        leaf.IsChoice() ||
        leaf.field->cpp_type() == FieldDescriptor::CPPTYPE_STRING;
    if (text_alone) continue;
    // A number or true or false; "inf" stays text, as JSON has none.
    Json parsed = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!parsed.is_discarded()) value = std::move(parsed);
  }
  Json& domains = values["domain"] = Json::array();
  for (const DomainConfig& domain : config.domain()) {
    domains.push_back({{"domain_name", domain.domain_name()},
                       {"domain_kl_coef", domain.domain_kl_coef()},
                       {"domain_weight", domain.domain_weight()}});
  }
  return values;
}

Json ToJson(const KeyView& key) {
  return {
      {"verb", key.verb},
      {"name", key.name},
      {"section", key.section.empty() ? Json(nullptr) : Json(key.section)},
      {"type", key.type},
      {"default", key.default_text ? Json(*key.default_text) : Json(nullptr)},
      {"limits", key.limits},
      {"resume_may_change", key.resume_may_change},
      {"meaning", key.meaning}};
}

int Resolve(int argc, char** argv) {
  ConfigFlags values;
  bool json = false;
  Flags flags("config resolve",
              "Prints every key with the value that a run would have.");
  AddConfigFlags(&flags, &values);
  AddRunFlags(&flags, &values);
  AddJsonFlag(&flags, &json);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  absl::StatusOr<RunConfig> config = LoadConfig(values);
  if (!config.ok()) return ReportError("config resolve", config.status());
  // Of what needs a model or tasks, only what the file alone can show is asked
  // here: the verb starts nothing.
  absl::Status status = ResolveConfig(&*config);
  const auto environments = EnvironmentSet::Open(kRegistryFile);
  if (status.ok()) status = environments.status();
  if (status.ok()) status = CheckWithoutTasks(*config, **environments);
  if (!status.ok()) return ReportError("config resolve", status);
  if (json) {
    PrintJson(ToJson(*config));
  } else {
    // What only the start of a run settles.
    // They would print as empty, and a file of them would mean it.
    const bool named = !config->name().empty();
    if (!named) config->clear_name();
    PrintOut("%s", Lines{FormatConfig(*config)});
    if (!named) PrintOut("# name: the file's name and the time of the start\n");
    if (config->environments().empty()) {
      PrintOut("# environments: those that the tasks use\n");
    }
  }
  return kExitDone;
}

int Explain(int argc, char** argv) {
  std::string name;
  bool json = false;
  Flags flags("config explain",
              "Prints a key's type, default, limits and meaning, in "
              "train's configuration and in sft's.");
  flags.Text("KEY", &name, "The key; all of them, a line each, if left out.");
  AddJsonFlag(&flags, &json);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  std::vector<KeyView> keys = ExplainKeys();
  if (!name.empty()) {
    const absl::StatusOr<std::vector<KeyView>> found = ExplainKey(name);
    if (!found.ok()) return ReportError("config explain", found.status());
    keys = *found;
  }
  if (json) {
    Json rows = Json::array();
    for (const KeyView& key : keys) rows.push_back(ToJson(key));
    PrintJson({{"keys", std::move(rows)}});
  } else if (name.empty()) {
    PrintOut("%s", Lines{FormatKeys(keys)});
  } else {
    for (const KeyView& key : keys) PrintOut("%s", Lines{FormatKey(key)});
  }
  return kExitDone;
}

}  // namespace

int RunConfigVerb(int argc, char** argv) {
  return RunVerb(
      "config",
      {{"resolve", "print the whole resolved configuration", Resolve},
       {"explain", "print what a key means", Explain}},
      argc, argv);
}

}  // namespace temper
