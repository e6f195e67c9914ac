#include "kernels/find_backend.h"

#include "kernels/base/status_macros.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/cpu_tier.h"

namespace temper {

std::vector<std::string> BackendNames() { return UsableCpuTiers(); }

absl::StatusOr<BackendChoice> ChooseBackend(const std::string& name) {
  ASSIGN_OR_RETURN(const TierChoice choice, ChooseCpuTier(name));
  return BackendChoice{choice.tier->name, choice.why};
}

absl::StatusOr<std::unique_ptr<Backend>> FindBackend(const BackendSpec& spec) {
  return NewCpuBackend(spec.name, spec.threads);
}

}  // namespace temper
