// The CPU tiers there are, in one table: what each is called, what it needs of
// a CPU, and its loops (kernels/cpu/tier.h). Every tier gives the same bits
// (DESIGN.md section 6), so the choice is one of speed alone. A new tier is a
// file of loops and a line of the table.
//
// Functions without state; thread-safe.

#ifndef KERNELS_CPU_CPU_TIER_H_
#define KERNELS_CPU_CPU_TIER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/cpu/tier.h"

namespace temper {

struct CpuFeatures {
  bool fma = false;
  bool avx2 = false;
  bool avx512 = false;  // F, BW, DQ and VL
  bool avx512_bf16 = false;
  bool amx = false;         // AMX_TILE, AMX_BF16, and the kernel's leave
  bool amx_denied = false;  // all but the kernel's leave
};
CpuFeatures ThisCpu();

// By which instruction pairs of bf16 are multiplied.
enum class PairsBy : uint8_t { kFma, kVdpbf16ps, kTiles };

struct CpuTier {
  const char* name;   // in TEMPER_ISA, plans and messages
  const char* needs;  // of the CPU, in words
  bool (*cpu_has)(const CpuFeatures& cpu);
  void (*set_kernels)(TierKernels* kernels);
  const char* base;  // the tier whose loops stand where it sets none; or null
  int lanes;         // floats in a register
  PairsBy pairs = PairsBy::kFma;
  // Its base may multiply pairs faster, hence it is timed before it is chosen.
  bool timed = false;
};

// Slowest first; the first is the definition.
absl::Span<const CpuTier> CpuTiers();

// The tier's loops over those of its base.
TierKernels KernelsOf(const CpuTier& tier);

// Names of the tiers that a CPU with these features can run, slowest first.
std::vector<std::string> UsableCpuTiers(const CpuFeatures& cpu = ThisCpu());

// The tier called `name`. InvalidArgument, naming those there are, if there is
// no such tier or the CPU lacks it.
absl::StatusOr<const CpuTier*> CpuTierNamed(const std::string& name,
                                            const CpuFeatures& cpu = ThisCpu());

struct TierChoice {
  const CpuTier* tier = nullptr;
  std::string why;  // for a plan, after the tier's name
};

// How a tier is looked at before it is chosen.
struct TierTrial {
  std::function<absl::Status(const CpuTier&)> self_test;
  // What some products of pairs of bf16 take, in seconds.
  std::function<double(const CpuTier&)> seconds;
};

// Of the tiers that the CPU can run the last that passes its self-test; the
// base of one that is timed, where that is faster and passes too.
// FailedPrecondition if the CPU can run none, or none passes.
absl::StatusOr<TierChoice> ChooseFastestTier(const CpuFeatures& cpu,
                                             const TierTrial& trial);

// The tier called `name`, or for an empty name the fastest of this CPU, by
// SelfTestTier and some milliseconds of products, once a process: who asks
// twice is not told two names. Errors as above.
absl::StatusOr<TierChoice> ChooseCpuTier(const std::string& name);

// FailedPrecondition, naming the first loop that differs, unless `kernels`
// give the definition's bits on small directed inputs: denormals, signed
// zeros, infinities, the edges of exp, every loop. Some milliseconds. The
// calling thread must have the float mode of kernels/base/float_mode.h.
absl::Status SelfTestTier(const std::string& name, const TierKernels& kernels);

}  // namespace temper

#endif  // KERNELS_CPU_CPU_TIER_H_
