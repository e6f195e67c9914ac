// The CPU tier that a process computes with: the best that this CPU has and
// this version builds, or the one that TEMPER_ISA names. Every tier gives the
// same bits (DESIGN.md section 6), so the choice is one of speed alone.
//
// Functions without state; thread-safe.

#ifndef TOOLS_ISA_H_
#define TOOLS_ISA_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace temper {

enum class Isa { kScalar, kAvx2 };

// What a tier needs of a CPU. The scalar tier is built with -mfma.
struct CpuFeatures {
  bool avx2 = false;
  bool fma = false;
};
CpuFeatures ThisCpu();

// Built and runnable with these features, slowest first.
std::vector<Isa> UsableTiers(const CpuFeatures& cpu);

// "scalar" or "avx2".
std::string IsaName(Isa isa);

// `requested` is TEMPER_ISA's value; null or empty chooses the best tier.
// InvalidArgument, naming the tiers there are, if it names none of them;
// FailedPrecondition if this CPU can run no tier.
absl::StatusOr<Isa> ChooseIsa(const char* requested, const CpuFeatures& cpu);

}  // namespace temper

#endif  // TOOLS_ISA_H_
