#include "kernels/find_backend.h"

#include "kernels/base/status_macros.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/cpu_tier.h"

namespace temper {

std::vector<std::string> BackendNames() { return UsableCpuTiers(); }

absl::StatusOr<std::string> ChooseBackend(const std::string& name) {
  ASSIGN_OR_RETURN(const CpuTier* tier, ChooseCpuTier(name));
  return tier->name;
}

absl::StatusOr<std::unique_ptr<Backend>> FindBackend(const BackendSpec& spec) {
  return NewCpuBackend(spec.name, spec.threads);
}

}  // namespace temper
