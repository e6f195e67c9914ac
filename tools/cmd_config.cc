#include "tools/cmd_config.h"

#include <cstdio>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/cli.h"
#include "tools/config.h"
#include "tools/flags.h"

namespace temper {

namespace {

int Resolve(int argc, char** argv) {
  ConfigFlags values;
  Flags flags("config resolve",
              "Prints every key with the value that a run would have.");
  AddConfigFlags(&flags, &values);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  absl::StatusOr<RunConfig> config = LoadConfig(values);
  if (!config.ok()) return ReportError("config resolve", config.status());
  const absl::Status status = ResolveConfig(&*config);
  if (!status.ok()) return ReportError("config resolve", status);
  printf("%s", FormatConfig(*config).c_str());
  return kExitDone;
}

int Explain(int argc, char** argv) {
  std::string key;
  Flags flags("config explain",
              "Prints a key's type, default, limits and meaning.");
  flags.Text("KEY", &key, "The key; all of them, a line each, if left out.");
  if (const auto code = flags.Parse(argc, argv)) return *code;
  const absl::StatusOr<std::string> text =
      key.empty() ? ListKeys() : ExplainKey(key);
  if (!text.ok()) return ReportError("config explain", text.status());
  printf("%s", text->c_str());
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
