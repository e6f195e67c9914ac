#include "tools/run/compute.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "proto/wire/run_numerics.h"
#include "tools/cli/print.h"

namespace temper {
namespace {

constexpr char kVariable[] = "TEMPER_ISA";

// Below tools/ nothing reads the environment: what a run computes with is
// handed down, and recorded.
std::string NamedBackend() {
  const char* named = getenv(kVariable);
  return named == nullptr ? "" : named;
}

// With the variable's name in front, if it is set.
absl::Status OfVariable(const absl::Status& status) {
  if (status.ok() || !BackendIsNamed()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(kVariable, "=", NamedBackend(), ": ",
                                   std::string(status.message())));
}

}  // namespace

int ComputeThreads(int threads) {
  if (threads > 0) return threads;
  // It may fail, with -1.
  return std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
}

std::optional<Device> DeviceOf(RunConfig::Device key) {
  if (key == RunConfig::cpu) return Device::kCpu;
  if (key == RunConfig::cuda) return Device::kCuda;
  return std::nullopt;
}

RunConfig::Device KeyOf(Device device) {
  return device == Device::kCuda ? RunConfig::cuda : RunConfig::cpu;
}

absl::StatusOr<std::optional<Device>> DeviceNamed(const std::string& text) {
  RunConfig::Device key;
  if (RunConfig::Device_Parse(text, &key)) return DeviceOf(key);
  return absl::InvalidArgumentError(
      absl::StrCat("--device ", text, " is none of auto | cpu | cuda"));
}

ComputeWish WishOf(const RunConfig& config) {
  return {.device = DeviceOf(config.device()),
          .numerics = NumericsOf(config),
          .threads = static_cast<int>(config.threads())};
}

ComputeWish WishOf(const SftConfig& config) {
  return {.device = DeviceOf(config.device()),
          .threads = static_cast<int>(config.threads())};
}

ComputeWish ToGoOn(ComputeWish wish) {
  wish.otherwise =
      "go on where there is such a GPU: it began on cuda and stays there; or "
      "begin anew on the CPU";
  return wish;
}

bool BackendIsNamed() { return !NamedBackend().empty(); }

absl::Status CheckNamedBackend() {
  return OfVariable(CheckBackendName(NamedBackend()));
}

absl::StatusOr<BackendChoice> ChooseComputeBackend(const ComputeWish& wish) {
  BackendWish named;
  named.name = wish.tier.empty() ? NamedBackend() : wish.tier;
  named.device = wish.device;
  named.numerics = wish.numerics;
  named.otherwise = wish.otherwise;
  auto choice = ChooseBackend(named);
  if (!wish.tier.empty()) return choice;
  RETURN_IF_ERROR(OfVariable(choice.status()));
  if (choice->device == Device::kCpu && BackendIsNamed()) {
    choice->why = absl::StrCat("named by ", kVariable);
  }
  return choice;
}

std::string VariableNaming(const std::string& name) {
  return absl::StrCat(kVariable, "=", name);
}

absl::StatusOr<std::unique_ptr<Backend>> NewComputeBackend(
    const ComputeWish& wish) {
  ASSIGN_OR_RETURN(const BackendChoice choice, ChooseComputeBackend(wish));
  return FindBackend(
      {.name = choice.name, .threads = ComputeThreads(wish.threads)});
}

absl::StatusOr<std::unique_ptr<Backend>> NewComputeBackendSayingWhy(
    const ComputeWish& wish) {
  ASSIGN_OR_RETURN(const BackendChoice choice, ChooseComputeBackend(wish));
  const int threads = ComputeThreads(wish.threads);
  PrintErr("computing on %s (%s), %d threads\n", choice.name, choice.why,
           threads);
  return FindBackend({.name = choice.name, .threads = threads});
}

}  // namespace temper
