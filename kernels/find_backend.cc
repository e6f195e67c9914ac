#include "kernels/find_backend.h"

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/cpu_tier.h"

namespace temper {

std::vector<std::string> BackendNames() { return UsableCpuTiers(); }

absl::StatusOr<std::unique_ptr<Backend>> FindBackend(const BackendSpec& spec) {
  return NewCpuBackend(spec.name, spec.threads);
}

}  // namespace temper
