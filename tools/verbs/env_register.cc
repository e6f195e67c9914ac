#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "environments/described_facts.h"
#include "environments/environment_set.h"
#include "environments/registration.h"
#include "environments/registry.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/cli/json_output.h"
#include "tools/cli/print.h"
#include "tools/verbs/env_verbs.h"

namespace temper {
namespace {

struct RegisterFlags {
  std::string name;
  std::string directory;
  std::string address;
  std::vector<std::string> command;
};

absl::StatusOr<Registration> FromFlags(const RegisterFlags& flags) {
  Registration registration;
  registration.set_name(flags.name);
  if (!flags.address.empty()) {
    if (!flags.command.empty() || !flags.directory.empty()) {
      return absl::InvalidArgumentError(
          "--address names what somebody else starts; leave out --directory "
          "and the command");
    }
    registration.set_address(flags.address);
    return registration;
  }
  const std::string directory =
      flags.directory.empty() ? flags.name : flags.directory;
  ASSIGN_OR_RETURN(*registration.mutable_directory(), AbsolutePath(directory));
  std::vector<std::string> command = flags.command;
  // What `temper env init` writes.
  if (command.empty()) command = {"python3", "environment.py"};
  *registration.mutable_command() = {command.begin(), command.end()};
  return registration;
}

// Those of the file with `added`, which takes the place of one of its name.
absl::Status Keep(const Registration& added) {
  ASSIGN_OR_RETURN(std::vector<Registration> all,
                   ReadRegistrations(kRegistryFile));
  bool replaced = false;
  for (Registration& registration : all) {
    if (registration.name() != added.name()) continue;
    registration = added;
    replaced = true;
  }
  if (!replaced) all.push_back(added);
  return WriteRegistrations(kRegistryFile, all);
}

absl::StatusOr<Registration> Register(const RegisterFlags& flags) {
  RETURN_IF_ERROR(CheckEnvironmentName(flags.name));
  ASSIGN_OR_RETURN(Registration registration, FromFlags(flags));
  // What can be refused without starting anything, first: a name that is taken.
  Registration described = registration;
  described.mutable_description()->set_name(flags.name);
  described.mutable_description()->set_description("?");
  RETURN_IF_ERROR(CheckRegistration(described));
  ASSIGN_OR_RETURN(registration, Described(registration));
  RETURN_IF_ERROR(CheckRegistration(registration));
  RETURN_IF_ERROR(Keep(registration));
  return registration;
}

}  // namespace

int RunEnvRegister(int argc, char** argv) {
  RegisterFlags values;
  Flags flags("env register",
              "Adds an environment of yours to the file environments.jsonl of "
              "this directory, or changes it there: asks it to describe "
              "itself first. Runs that are started here then know it.");
  flags.Text("NAME", &values.name, "As tasks are to say.");
  flags.Require();
  flags.TextList("COMMAND", &values.command,
                 "After a --: the words of the program that serves it; default "
                 "python3 environment.py. Its last argument will be the "
                 "address to serve at.");
  flags.Text("--directory", &values.directory,
             "Where the program runs, and all that it may read beside /usr; "
             "default NAME.");
  flags.Text("--address", &values.address,
             "Of a program that somebody else starts: 127.0.0.1:PORT.");
  if (const auto code = flags.Parse(argc, argv)) return *code;
  const auto registered = Register(values);
  if (!registered.ok()) {
    return ReportError("env register", registered.status());
  }
  PrintOut("%s: %s; served by %s\n", registered->name(),
           registered->description().description(), WhereServed(*registered));
  return kExitDone;
}

int RunEnvList(int argc, char** argv) {
  bool json = false;
  Flags flags("env list",
              "Lists the environments that tasks may name: those built in, and "
              "those that environments.jsonl of this directory registers.");
  AddJsonFlag(&flags, &json);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  const auto environments = EnvironmentSet::Open(kRegistryFile);
  if (!environments.ok()) {
    return ReportError("env list", environments.status());
  }
  Json rows = Json::array();
  const auto add = [&](const EnvironmentFacts& facts, const std::string& served,
                       const std::string& where) {
    rows.push_back({{"environment", facts.name},
                    {"description", facts.description},
                    {"deterministic", facts.deterministic},
                    {"served_in", served},
                    {"needs_sandbox", facts.needs_sandbox},
                    {"open_steps", facts.open_steps},
                    {"limits_ms",
                     {{"reset", facts.limits.reset_ms},
                      {"step", facts.limits.step_ms},
                      {"grade", facts.limits.grade_ms}}}});
    if (!where.empty()) rows.back()["where"] = where;
    if (json) return;
    PrintOut("%-14s %-13s %-10s %-8s %s%s\n", facts.name,
             facts.deterministic ? "deterministic" : "", served,
             facts.needs_sandbox ? "sandbox" : "", facts.description,
             where.empty() ? "" : absl::StrCat(" (", where, ")"));
  };
  for (const EnvironmentFacts* facts : RegisteredEnvironments()) {
    add(*facts, facts->served_in == ServedIn::kHost ? "env-host" : "worker",
        "");
  }
  for (const Registration& registration : (*environments)->registrations()) {
    add(*(*environments)->Find(registration.name()), "registered",
        WhereServed(registration));
  }
  if (json) PrintJson({{"environments", std::move(rows)}});
  return kExitDone;
}

}  // namespace temper
