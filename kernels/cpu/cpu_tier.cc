#include "kernels/cpu/cpu_tier.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace temper {
namespace {

constexpr CpuTier kTiers[] = {
    {.name = "scalar",
     .needs = "FMA",
     .cpu_has = [](const CpuFeatures& cpu) { return cpu.fma; },
     .set_kernels = SetScalarKernels,
     .base = nullptr},
    {.name = "avx2",
     .needs = "AVX2 and FMA",
     .cpu_has = [](const CpuFeatures& cpu) { return cpu.fma && cpu.avx2; },
     .set_kernels = SetAvx2Kernels,
     .base = "scalar"},
    {.name = "avx512",
     .needs = "AVX-512 (F, BW, DQ, VL)",
     .cpu_has =
         [](const CpuFeatures& cpu) {
           return cpu.fma && cpu.avx2 && cpu.avx512;
         },
     .set_kernels = SetAvx512Kernels,
     .base = "avx2"},
};

const CpuTier* TierCalled(const std::string& name) {
  for (const CpuTier& tier : kTiers) {
    if (name == tier.name) return &tier;
  }
  return nullptr;
}

}  // namespace

CpuFeatures ThisCpu() {
  CpuFeatures cpu;
  cpu.fma = __builtin_cpu_supports("fma") != 0;
  cpu.avx2 = __builtin_cpu_supports("avx2") != 0;
  cpu.avx512 = __builtin_cpu_supports("avx512f") != 0 &&
               __builtin_cpu_supports("avx512bw") != 0 &&
               __builtin_cpu_supports("avx512dq") != 0 &&
               __builtin_cpu_supports("avx512vl") != 0;
  return cpu;
}

absl::Span<const CpuTier> CpuTiers() { return kTiers; }

TierKernels KernelsOf(const CpuTier& tier) {
  TierKernels kernels = {};
  if (tier.base != nullptr) kernels = KernelsOf(*TierCalled(tier.base));
  tier.set_kernels(&kernels);
  return kernels;
}

std::vector<std::string> UsableCpuTiers(const CpuFeatures& cpu) {
  std::vector<std::string> names;
  for (const CpuTier& tier : kTiers) {
    if (tier.cpu_has(cpu)) names.push_back(tier.name);
  }
  return names;
}

absl::StatusOr<const CpuTier*> ChooseCpuTier(const std::string& name,
                                             const CpuFeatures& cpu) {
  const std::vector<std::string> usable = UsableCpuTiers(cpu);
  if (usable.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "this CPU lacks ", kTiers[0].needs,
        ", which every tier needs; use one of x86-64-v3 or later"));
  }
  const CpuTier* tier = TierCalled(name.empty() ? usable.back() : name);
  if (tier == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("no CPU tier is called \"", name, "\"; this CPU can run ",
                     absl::StrJoin(usable, ", ")));
  }
  if (!tier->cpu_has(cpu)) {
    return absl::InvalidArgumentError(
        absl::StrCat("this CPU lacks what tier ", name, " needs (", tier->needs,
                     "); it can run ", absl::StrJoin(usable, ", ")));
  }
  return tier;
}

}  // namespace temper
