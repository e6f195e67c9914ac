#include "kernels/find_backend.h"

#include <utility>

#include "kernels/base/status_macros.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/cpu_tier.h"
#if TEMPER_HAS_CUDA
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/gpu_runtime.h"
#endif

namespace temper {

namespace {

constexpr char kCuda[] = "cuda";

#if TEMPER_HAS_CUDA
absl::StatusOr<std::unique_ptr<Backend>> FindCuda() {
  ASSIGN_OR_RETURN(std::unique_ptr<cuda::Runtime> runtime,
                   cuda::NewGpuRuntime());
  return NewCudaBackend(std::move(runtime));
}
#else
absl::StatusOr<std::unique_ptr<Backend>> FindCuda() {
  return absl::FailedPreconditionError(
      "this program was built without CUDA; build it with `bazel build "
      "--config=cuda //tools:temper`, where nvcc is, or compute on the CPU");
}
#endif

}  // namespace

std::vector<std::string> BackendNames() { return UsableCpuTiers(); }

absl::StatusOr<BackendChoice> ChooseBackend(const std::string& name) {
  if (name == kCuda) return BackendChoice{name, "named"};
  ASSIGN_OR_RETURN(const TierChoice choice, ChooseCpuTier(name));
  return BackendChoice{choice.tier->name, choice.why};
}

absl::StatusOr<std::unique_ptr<Backend>> FindBackend(const BackendSpec& spec) {
  if (spec.name == kCuda) return FindCuda();
  return NewCpuBackend(spec.name, spec.threads);
}

}  // namespace temper
