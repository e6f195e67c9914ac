#include "tools/isa.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/log.h"

namespace temper {
namespace {

std::string UsableNames(const CpuFeatures& cpu) {
  std::vector<std::string> names;
  for (const Isa isa : UsableTiers(cpu)) names.push_back(IsaName(isa));
  return absl::StrJoin(names, ", ");
}

}  // namespace

CpuFeatures ThisCpu() {
  CpuFeatures cpu;
  cpu.avx2 = __builtin_cpu_supports("avx2") != 0;
  cpu.fma = __builtin_cpu_supports("fma") != 0;
  return cpu;
}

std::vector<Isa> UsableTiers(const CpuFeatures& cpu) {
  std::vector<Isa> tiers;
  if (cpu.fma) tiers.push_back(Isa::kScalar);
  if (cpu.fma && cpu.avx2) tiers.push_back(Isa::kAvx2);
  return tiers;
}

std::string IsaName(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
  }
  CHECK(false) << "isa " << static_cast<int>(isa);
  return "";
}

absl::StatusOr<Isa> ChooseIsa(const char* requested, const CpuFeatures& cpu) {
  const std::vector<Isa> usable = UsableTiers(cpu);
  if (usable.empty()) {
    return absl::FailedPreconditionError(
        "this CPU has no FMA; every tier needs it (x86-64-v3)");
  }
  const std::string name = requested == nullptr ? "" : requested;
  if (name.empty()) return usable.back();
  for (const Isa isa : usable) {
    if (name == IsaName(isa)) return isa;
  }
  const char* why = "is no tier";
  if (name == "avx2") why = "is not on this CPU";
  if (name == "avx512" || name == "avx512_bf16") {
    why = "is not in this version";
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "TEMPER_ISA=", name, " ", why, "; there are ", UsableNames(cpu)));
}

}  // namespace temper
