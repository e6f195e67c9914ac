#include "environments/registry.h"

#include "absl/strings/str_cat.h"
#include "environments/example/example.h"
#include "environments/interpreter/interpreter.h"
#include "environments/math/math.h"

namespace temper {
namespace {

struct Entry {
  const EnvironmentFacts* facts;
  absl::StatusOr<std::unique_ptr<Environment>> (*factory)(
      const EnvironmentContext&);
};

constexpr Entry kEnvironments[] = {
    {&kExampleFacts, &NewExampleEnvironment},
    {&kInterpreterFacts, &NewInterpreterEnvironment},
    {&kMathFacts, &NewMathEnvironment},
};

}  // namespace

std::vector<const EnvironmentFacts*> RegisteredEnvironments() {
  std::vector<const EnvironmentFacts*> all;
  for (const Entry& entry : kEnvironments) all.push_back(entry.facts);
  return all;
}

const EnvironmentFacts* FindEnvironment(const std::string& name) {
  for (const Entry& entry : kEnvironments) {
    if (name == entry.facts->name) return entry.facts;
  }
  return nullptr;
}

absl::StatusOr<std::unique_ptr<Environment>> NewEnvironment(
    const std::string& name, const EnvironmentContext& context) {
  std::string known;
  for (const Entry& entry : kEnvironments) {
    if (name != entry.facts->name) {
      absl::StrAppend(&known, known.empty() ? "" : ", ", entry.facts->name);
      continue;
    }
    if (entry.facts->needs_sandbox && context.sandboxes == nullptr) {
      return absl::FailedPreconditionError(absl::StrCat(
          "environment ", name,
          " runs code and this process has no sandboxes; serve it by `temper "
          "env-host`"));
    }
    return entry.factory(context);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "there is no environment \"", name, "\"; there are ", known));
}

}  // namespace temper
