#include "environments/registry.h"

#include "absl/strings/str_cat.h"
#include "environments/code/code.h"
#include "environments/example/example.h"
#include "environments/interpreter/interpreter.h"
#include "environments/math/math.h"
#include "environments/search/search.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

struct Entry {
  const EnvironmentFacts* facts;
  absl::StatusOr<std::unique_ptr<Environment>> (*factory)(
      const EnvironmentContext&);
};

// By name. A table and no registration by static objects: the linker would drop
// those of a library that nobody calls.
constexpr Entry kEnvironments[] = {
    {&kCodeFacts, &NewCodeEnvironment},
    {&kExampleFacts, &NewExampleEnvironment},
    {&kInterpreterFacts, &NewInterpreterEnvironment},
    {&kMathFacts, &NewMathEnvironment},
    {&kSearchFacts, &NewSearchEnvironment},
};

const Entry* Find(const std::string& name) {
  for (const Entry& entry : kEnvironments) {
    if (name == entry.facts->name) return &entry;
  }
  return nullptr;
}

absl::Status Unknown(const std::string& name) {
  std::string known;
  for (const Entry& entry : kEnvironments) {
    absl::StrAppend(&known, known.empty() ? "" : ", ", entry.facts->name);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "there is no environment \"", name, "\"; there are ", known));
}

}  // namespace

std::vector<const EnvironmentFacts*> RegisteredEnvironments() {
  std::vector<const EnvironmentFacts*> all;
  for (const Entry& entry : kEnvironments) all.push_back(entry.facts);
  return all;
}

const EnvironmentFacts* FindEnvironment(const std::string& name) {
  const Entry* entry = Find(name);
  return entry == nullptr ? nullptr : entry->facts;
}

absl::StatusOr<std::unique_ptr<Environment>> NewEnvironment(
    const std::string& name, const EnvironmentContext& context) {
  const Entry* entry = Find(name);
  if (entry == nullptr) return Unknown(name);
  if (entry->facts->needs_sandbox && context.sandboxes == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        "environment ", name,
        " runs code and this process has no sandboxes; serve it by `temper "
        "env-host`"));
  }
  return entry->factory(context);
}

absl::StatusOr<Observation> ValidateTask(const Task& task) {
  const Entry* entry = Find(task.environment());
  if (entry == nullptr) return Unknown(task.environment());
  // Without a context: to look at a task needs no sandbox.
  ASSIGN_OR_RETURN(const auto environment, entry->factory({}));
  return environment->Validate(task);
}

}  // namespace temper
