#include "environments/cpp_compiler.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "environments/sandbox_policy.h"

namespace temper {

absl::Status CanCompileCpp() {
  // A group is made to see that one can be: not again for each of a run's
  // tasks.
  static const absl::Status* const can =
      new absl::Status(CanCompileCppBy(kCompilerPath, DetectCgroups()));
  return *can;
}

absl::Status CanCompileCppBy(const std::string& compiler,
                             const CgroupHierarchy& cgroups) {
  if (access(compiler.c_str(), X_OK) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(compiler, ": ", strerror(errno), "; install g++"));
  }
  if (cgroups.holds_memory()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "no cgroup holds the memory of a sandbox here, so each of its processes "
      "has too little for a C++ compiler; run as root, or let this user make "
      "memory cgroups");
}

}  // namespace temper
