#include "tools/cli/cli.h"

#include <cstdint>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/fault_list.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "tools/cli/next_step.h"
#include "tools/cli/print.h"
#include "tools/config/config.h"
#include "tools/config/key_names.h"

namespace temper {
namespace {

constexpr uint64_t kConfigBytesMax = 1 << 20;

}  // namespace

int RunVerb(const std::string& verb, const std::vector<Verb>& verbs, int argc,
            char** argv) {
  const std::string program = verb.empty() ? "temper" : "temper " + verb;
  const std::string name = argc < 2 ? "" : argv[1];
  for (const Verb& candidate : verbs) {
    if (name == candidate.name) return candidate.run(argc - 1, argv + 1);
  }
  // Without a verb it is misuse, and help for a person; asked for, it is the
  // result.
  if (argc < 2 || name == "--help" || name == "help") {
    FILE* out = argc < 2 ? stderr : stdout;
    PrintTo(out, "usage: %s VERB [--help] ...\n\n", program);
    for (const Verb& candidate : verbs) {
      PrintTo(out, "  %-10s %s\n", candidate.name, candidate.help);
    }
    return argc < 2 ? kExitMisused : kExitDone;
  }
  std::vector<std::string> names;
  for (const Verb& candidate : verbs) names.push_back(candidate.name);
  const std::string nearest = Nearest(name, names);
  const std::string next =
      nearest.empty() ? absl::StrCat("`", program, " --help` lists them")
                      : absl::StrCat("did you mean ", nearest, "?");
  PrintErr("%s: unknown verb %s; %s\n", program, name, next);
  return kExitMisused;
}

int ReportError(const std::string& verb, const absl::Status& status) {
  PrintErr("temper %s: %s\n", verb, Lines{ShownMessage(status)});
  return absl::IsInvalidArgument(status) || absl::IsNotFound(status)
             ? kExitMisused
             : kExitFailed;
}

void AddConfigFlags(Flags* flags, ConfigFlags* values) {
  flags->Text("CONFIG", &values->path, "Configuration file (proto3 text).");
  flags->TextList("--set", &values->sets,
                  "key=value, over what the file says; may be repeated. "
                  "`temper config explain` lists the keys.");
  flags->Text("--seed", &values->seed, "As --set seed=...");
}

void AddRunFlags(Flags* flags, ConfigFlags* values) {
  flags->Text("--name", &values->name, "As --set name=...");
  flags->Text("--runs-dir", &values->runs_dir, "As --set runs_dir=...");
  flags->Text("--steps", &values->steps, "As --set steps=...");
}

absl::StatusOr<RunConfig> LoadConfig(const ConfigFlags& flags) {
  RunConfig config;
  if (!flags.path.empty()) {
    const auto text = ReadFile(flags.path, kConfigBytesMax);
    RETURN_IF_ERROR(IfUnusable(
        text.status(),
        "name a configuration file, or give every key by --set; `temper config "
        "explain` lists them"));
    ASSIGN_OR_RETURN(config, ParseConfig(*text, flags.path));
  }
  // In the order that they were given: the last one wins, as in a shell.
  for (const std::string& assignment : flags.sets) {
    RETURN_IF_ERROR(SetConfigValue(assignment, &config));
  }
  // Behind --set: a flag of its own is the more deliberate.
  const std::pair<const char*, const std::optional<std::string>*> shortcuts[] =
      {{"name", &flags.name},
       {"runs_dir", &flags.runs_dir},
       {"seed", &flags.seed},
       {"steps", &flags.steps}};
  for (const auto& [key, value] : shortcuts) {
    if (!value->has_value()) continue;
    RETURN_IF_ERROR(SetConfigValue(absl::StrCat(key, "=", **value), &config));
  }
  return config;
}

}  // namespace temper
