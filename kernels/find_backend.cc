#include "kernels/find_backend.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/status_macros.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/cpu_tier.h"
#if TEMPER_HAS_CUDA
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/gpu_runtime.h"
#endif
#include "kernels/tensor/device_name.h"

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
  const GpuSurvey none = SurveyGpus();
  return absl::FailedPreconditionError(
      absl::StrCat(none.missing, "; ", none.remedy));
}
#endif

// What CUDA's kernels do not have yet; empty: these numerics are there.
std::string LackOfCuda(const Numerics& numerics) {
  if (numerics == kFp32) return "";
  return absl::StrCat("cuda has no kernels of ", NameOf(numerics), " yet");
}

absl::StatusOr<BackendChoice> ChooseTier(const std::string& name,
                                         const std::string& note) {
  ASSIGN_OR_RETURN(const TierChoice choice, ChooseCpuTier(name));
  return BackendChoice{choice.tier->name, Device::kCpu, choice.why + note};
}

BackendChoice CudaOf(const GpuSurvey& found) {
  const GpuDevice& gpu = found.devices.front();
  return {kCuda, Device::kCuda,
          absl::StrCat(gpu.name, ", ", gpu.memory_bytes >> 20, " MiB, driver ",
                       found.driver),
          gpu.memory_bytes};
}

// Cuda or an error.
absl::StatusOr<BackendChoice> ChooseCuda(
    const BackendWish& wish, const std::function<GpuSurvey()>& survey) {
  if (const std::string lack = LackOfCuda(wish.numerics); !lack.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        lack, "; set numerics to ", NumericsThatRunOn(Device::kCuda), ", or ",
        wish.otherwise));
  }
  const GpuSurvey found = survey();
  if (found.missing.empty()) return CudaOf(found);
  return absl::InvalidArgumentError(absl::StrCat("device cuda: ", found.missing,
                                                 "; ", found.remedy, ", or ",
                                                 wish.otherwise));
}

// Cuda or the CPU, which then says why it is not cuda.
absl::StatusOr<BackendChoice> ChooseFreely(
    const Numerics& numerics, const std::function<GpuSurvey()>& survey) {
  if (const std::string lack = LackOfCuda(numerics); !lack.empty()) {
    return ChooseTier("", absl::StrCat("; ", lack));
  }
  const GpuSurvey found = survey();
  if (found.missing.empty()) return CudaOf(found);
  return ChooseTier("", absl::StrCat("; ", found.missing));
}

}  // namespace

std::vector<std::string> BackendNames() { return UsableCpuTiers(); }

std::string WordsOf(const GpuSurvey& survey) {
  std::vector<std::string> parts;
  for (const GpuDevice& gpu : survey.devices) {
    parts.push_back(absl::StrCat(
        gpu.name, ", ", gpu.memory_bytes >> 20, " MiB, ",
        gpu.lack.empty()
            ? absl::StrCat("computes in ", NumericsThatRunOn(Device::kCuda))
            : gpu.lack));
  }
  if (!survey.driver.empty()) {
    parts.push_back(absl::StrCat("driver ", survey.driver));
  }
  parts.push_back(survey.missing.empty()
                      ? "the first is computed on"
                      : absl::StrCat("none is computed on: ", survey.missing,
                                     "; ", survey.remedy));
  return absl::StrJoin(parts, "; ");
}

std::string NumericsThatRunOn(Device device) {
  return device == Device::kCuda ? "fp32" : "fp32, bf16, fp8";
}

absl::Status CheckBackendName(const std::string& name) {
  if (name.empty() || name == kCuda) return absl::OkStatus();
  return CpuTierNamed(name).status();
}

absl::StatusOr<BackendChoice> ChooseBackend(
    const BackendWish& wish, const std::function<GpuSurvey()>& survey) {
  RETURN_IF_ERROR(CheckBackendName(wish.name));
  const bool named = !wish.name.empty();
  const Device of_name = wish.name == kCuda ? Device::kCuda : Device::kCpu;
  if (named && wish.device.value_or(of_name) != of_name) {
    return absl::InvalidArgumentError(absl::StrCat(
        wish.name, " is named, of device ", NameOf(of_name), ", and device is ",
        NameOf(*wish.device), "; leave one of the two out"));
  }
  if (!named && !wish.device.has_value()) {
    return ChooseFreely(wish.numerics, survey);
  }
  if (named && of_name == Device::kCuda) {
    // The device that another key has is not what is in the way.
    BackendWish by_name = wish;
    by_name.otherwise = "name a tier of the CPU";
    return ChooseCuda(by_name, survey);
  }
  if (wish.device == Device::kCuda) return ChooseCuda(wish, survey);
  return ChooseTier(wish.name, "");
}

absl::StatusOr<BackendChoice> ChooseBackend(const BackendWish& wish) {
  return ChooseBackend(wish, SurveyGpus);
}

#if TEMPER_HAS_CUDA
GpuSurvey SurveyGpus() { return cuda::SurveyGpus(); }
#else
GpuSurvey SurveyGpus() {
  GpuSurvey survey;
  survey.missing = "this program was built without CUDA";
  survey.remedy =
      "build it with `bazel build --config=cuda //tools:temper`, where nvcc "
      "is, "
      "and run bazel-bin/tools/temper (tools/quickstart.sh builds it without)";
  return survey;
}
#endif

absl::StatusOr<std::unique_ptr<Backend>> FindBackend(const BackendSpec& spec) {
  if (spec.name == kCuda) return FindCuda();
  return NewCpuBackend(spec.name, spec.threads);
}

}  // namespace temper
