#include "kernels/cpu/cpu_tier.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

constexpr CpuTier kTiers[] = {
    {.name = "scalar",
     .needs = "FMA",
     .cpu_has = [](const CpuFeatures& cpu) { return cpu.fma; },
     .set_kernels = SetScalarKernels,
     .base = nullptr,
     .lanes = 1},
    {.name = "avx2",
     .needs = "AVX2 and FMA",
     .cpu_has = [](const CpuFeatures& cpu) { return cpu.fma && cpu.avx2; },
     .set_kernels = SetAvx2Kernels,
     .base = "scalar",
     .lanes = 8},
    {.name = "avx512",
     .needs = "AVX-512 (F, BW, DQ, VL)",
     .cpu_has =
         [](const CpuFeatures& cpu) {
           return cpu.fma && cpu.avx2 && cpu.avx512;
         },
     .set_kernels = SetAvx512Kernels,
     .base = "avx2",
     .lanes = 16},
    {.name = "avx512_bf16",
     .needs = "AVX-512 (F, BW, DQ, VL) and AVX512_BF16",
     .cpu_has =
         [](const CpuFeatures& cpu) {
           return cpu.fma && cpu.avx2 && cpu.avx512 && cpu.avx512_bf16;
         },
     .set_kernels = SetAvx512Bf16Kernels,
     .base = "avx512",
     .lanes = 16,
     .pairs = PairsBy::kVdpbf16ps,
     .timed = true},  // VDPBF16PS is slower than FMAs on Intel's
    {.name = "amx",
     .needs =
         "AVX-512 (F, BW, DQ, VL, BF16, VBMI), AMX_TILE and AMX_BF16, and a "
         "kernel that lets it use tiles",
     .cpu_has =
         [](const CpuFeatures& cpu) {
           return cpu.fma && cpu.avx2 && cpu.avx512 && cpu.avx512_bf16 &&
                  cpu.amx;
         },
     .set_kernels = SetAmxKernels,
     .base = "avx512",
     .lanes = 16,
     .pairs = PairsBy::kTiles},
};

// CPUID leaf 7: bits 24 and 22 of edx. (There is none without VBMI.)
bool HasAmx() {
  if (__builtin_cpu_supports("avx512vbmi") == 0) return false;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  return (d >> 24 & 1) != 0 && (d >> 22 & 1) != 0;
}

// Tiles are 8 KiB of state a thread, which Linux gives to a process that asks.
// Kernels that do not know of them refuse.
bool MayUseTiles() {
  constexpr int kRequest = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;     // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

const CpuTier* TierCalled(const std::string& name) {
  for (const CpuTier& tier : kTiers) {
    if (name == tier.name) return &tier;
  }
  return nullptr;
}

// Seconds of the fastest of a few products of pairs that lie in L1.
double TimePairs(const TierKernels& kernels) {
  constexpr int64_t kRows = 12, kColumns = 32, kDepth = 256, kCalls = 20;
  constexpr int64_t kRow = kDepth * 4;
  std::vector<float> a(kRows * kDepth, 0.5f), packed(kRows * kDepth);
  std::vector<float> c(kRows * kColumns);
  std::vector<uint32_t> b(kColumns * kDepth / 2, 0x3f003f00u);
  kernels.pack_a(a.data(), kDepth, 1, kRows, kDepth, packed.data(), kRow);
  double best = HUGE_VAL;
  for (int round = 0; round < 12; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int64_t call = 0; call < kCalls; ++call) {
      kernels.pair_product({.rows = kRows,
                            .columns = kColumns,
                            .depth = kDepth,
                            .a = packed.data(),
                            .a_row = kRow,
                            .b = b.data(),
                            .b_panel = kDepth / 2 * 16,
                            .c = c.data(),
                            .c_row = kColumns});
    }
    const std::chrono::duration<double> took =
        std::chrono::steady_clock::now() - start;
    best = std::min(best, took.count());
  }
  return best;
}

constexpr char kFastest[] = "the fastest that this CPU has";

absl::StatusOr<TierChoice> FastestOfThisCpu() {
  TierTrial trial;
  trial.self_test = [](const CpuTier& tier) {
    return SelfTestTier(tier.name, KernelsOf(tier));
  };
  trial.seconds = [](const CpuTier& tier) {
    return TimePairs(KernelsOf(tier));
  };
  return ChooseFastestTier(ThisCpu(), trial);
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
  cpu.avx512_bf16 = __builtin_cpu_supports("avx512bf16") != 0;
  cpu.amx = HasAmx() && MayUseTiles();
  cpu.amx_denied = HasAmx() && !cpu.amx;
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

absl::StatusOr<const CpuTier*> CpuTierNamed(const std::string& name,
                                            const CpuFeatures& cpu) {
  const std::vector<std::string> usable = UsableCpuTiers(cpu);
  const CpuTier* tier = TierCalled(name);
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

absl::StatusOr<TierChoice> ChooseFastestTier(const CpuFeatures& cpu,
                                             const TierTrial& trial) {
  std::vector<std::string> usable = UsableCpuTiers(cpu);
  if (usable.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "this CPU lacks ", kTiers[0].needs,
        ", which every tier needs; use one of x86-64-v3 or later"));
  }
  std::string passed_over;
  if (cpu.amx_denied) {
    passed_over = "; it has AMX, but the kernel gives no tiles";
  }
  absl::Status refused;
  for (; !usable.empty(); usable.pop_back()) {
    const CpuTier& tier = *TierCalled(usable.back());
    const absl::Status tested = trial.self_test(tier);
    if (!tested.ok()) {
      absl::StrAppend(&passed_over, "; ", tested.message());
      refused.Update(tested);
      continue;
    }
    if (!tier.timed) return TierChoice{&tier, kFastest + passed_over};
    const CpuTier& base = *TierCalled(tier.base);
    const bool base_is_faster = trial.seconds(base) < trial.seconds(tier);
    if (base_is_faster && trial.self_test(base).ok()) {
      return TierChoice{&base, absl::StrCat("timed: faster here than ",
                                            tier.name, passed_over)};
    }
    return TierChoice{&tier, kFastest + passed_over};
  }
  return refused;
}

absl::StatusOr<TierChoice> ChooseCpuTier(const std::string& name) {
  if (!name.empty()) {
    ASSIGN_OR_RETURN(const CpuTier* tier, CpuTierNamed(name));
    return TierChoice{tier, "named"};
  }
  static const absl::StatusOr<TierChoice> fastest = FastestOfThisCpu();
  return fastest;
}

}  // namespace temper
