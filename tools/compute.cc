#include "tools/compute.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "kernels/base/status_macros.h"
#include "kernels/cpu/cpu_backend.h"
#include "tools/isa.h"

namespace temper {

int ComputeThreads(int threads) {
  if (threads > 0) return threads;
  return std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
}

absl::StatusOr<std::string> ComputeTierName() {
  ASSIGN_OR_RETURN(const Isa isa, ChooseIsa(getenv("TEMPER_ISA"), ThisCpu()));
  return IsaName(isa);
}

absl::StatusOr<std::unique_ptr<Backend>> NewComputeBackend(int threads) {
  ASSIGN_OR_RETURN(const std::string name, ComputeTierName());
  ASSIGN_OR_RETURN(const Tier tier, ParseTier(name));
  return NewCpuBackend(tier, ComputeThreads(threads));
}

}  // namespace temper
