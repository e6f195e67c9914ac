#include "tools/run/compute.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/find_backend.h"

namespace temper {

int ComputeThreads(int threads) {
  if (threads > 0) return threads;
  // It may fail, with -1.
  return std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
}

absl::StatusOr<std::string> ComputeTierName() {
  // Below tools/ nothing reads the environment: what a run computes with is
  // handed down, and recorded.
  const char* named = getenv("TEMPER_ISA");
  const auto name = ChooseBackend(named == nullptr ? "" : named);
  if (name.ok()) return name;
  return absl::Status(name.status().code(),
                      absl::StrCat("TEMPER_ISA=", named == nullptr ? "" : named,
                                   ": ", name.status().message()));
}

absl::StatusOr<std::unique_ptr<Backend>> NewComputeBackend(int threads) {
  ASSIGN_OR_RETURN(const std::string name, ComputeTierName());
  return FindBackend({.name = name, .threads = ComputeThreads(threads)});
}

}  // namespace temper
