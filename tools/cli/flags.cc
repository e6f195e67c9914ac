#include "tools/cli/flags.h"

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "tools/cli/exit_code.h"
#include "tools/cli/print.h"

namespace temper {
namespace {

// Says nothing of itself in the help, where the limits stand in words.
template <typename T>
CLI::Validator Within(T min, T max) {
  CLI::Range range(min, max);
  range.description("");
  return range;
}

}  // namespace

struct Flags::App {
  explicit App(const std::string& help) : cli(help) {}
  CLI::App cli;
  // What Require speaks of.
  CLI::Option* last = nullptr;
};

Flags::Flags(const std::string& verb, const std::string& help)
    : verb_(verb), app_(std::make_unique<App>(help)) {
  app_->cli.name(absl::StrCat("temper ", verb));
  // CLI11's own has -h too; our flags are long (DESIGN.md section 8).
  app_->cli.set_help_flag("--help", "Prints this and ends.");
}

Flags::~Flags() = default;

void Flags::Text(const std::string& name, std::string* value,
                 const std::string& help) {
  app_->last = app_->cli.add_option(name, *value, help);
}

void Flags::Text(const std::string& name, std::optional<std::string>* value,
                 const std::string& help) {
  app_->last = app_->cli.add_option(name, *value, help);
}

void Flags::TextList(const std::string& name, std::vector<std::string>* values,
                     const std::string& help) {
  app_->last = app_->cli.add_option(name, *values, help);
  const bool positional = name.rfind("--", 0) != 0;
  // One value a flag, or `--set a=1 CONFIG` would swallow CONFIG.
  if (!positional) app_->last->expected(1)->take_all();
}

void Flags::Number(const std::string& name, int64_t* value, int64_t min,
                   int64_t max, const std::string& help) {
  const std::string limits =
      max == INT64_MAX ? "" : absl::StrCat(" ", min, " to ", max, ".");
  app_->last = app_->cli.add_option(name, *value, help + limits)
                   ->check(Within(min, max))
                   ->type_name("N");
}

void Flags::Real(const std::string& name, double* value, double min, double max,
                 const std::string& help) {
  app_->last = app_->cli
                   .add_option(name, *value,
                               absl::StrCat(help, " ", min, " to ", max, "."))
                   ->check(Within(min, max))
                   ->type_name("X");
}

void Flags::Switch(const std::string& name, bool* value,
                   const std::string& help) {
  app_->last = app_->cli.add_flag(name, *value, help);
}

void Flags::Require() {
  CHECK(app_->last != nullptr) << "no flag was added";
  app_->last->required();
}

std::optional<int> Flags::Parse(int argc, char** argv) {
  try {
    app_->cli.parse(argc, argv);
    // The one library here that throws: no exception leaves this function.
  } catch (const CLI::CallForHelp&) {
    PrintOut("%s", Lines{app_->cli.help()});
    return kExitDone;
  } catch (const CLI::ParseError& error) {
    PrintErr("temper %s: %s; `temper %s --help` lists the flags\n", verb_,
             error.what(), verb_);
    return kExitMisused;
  }
  return std::nullopt;
}

}  // namespace temper
