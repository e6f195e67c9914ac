#include "tools/run/compute.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

constexpr char kVariable[] = "TEMPER_ISA";

}  // namespace

int ComputeThreads(int threads) {
  if (threads > 0) return threads;
  // It may fail, with -1.
  return std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
}

absl::StatusOr<BackendChoice> ChooseComputeBackend() {
  // Below tools/ nothing reads the environment: what a run computes with is
  // handed down, and recorded.
  const char* named = getenv(kVariable);
  auto choice = ChooseBackend(named == nullptr ? "" : named);
  if (!choice.ok()) {
    return absl::Status(
        choice.status().code(),
        absl::StrCat(kVariable, "=", named == nullptr ? "" : named, ": ",
                     choice.status().message()));
  }
  if (named != nullptr && *named != '\0') {
    choice->why = absl::StrCat("named by ", kVariable);
  }
  return choice;
}

void HandDownBackend(const std::string& name) {
  CHECK_EQ(setenv(kVariable, name.c_str(), /*overwrite=*/1), 0);
}

absl::StatusOr<std::unique_ptr<Backend>> NewComputeBackend(int threads) {
  ASSIGN_OR_RETURN(const BackendChoice choice, ChooseComputeBackend());
  return FindBackend({.name = choice.name, .threads = ComputeThreads(threads)});
}

}  // namespace temper
