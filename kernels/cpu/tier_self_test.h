// The test a tier passes before it is used: it must reproduce the scalar tier
// bit for bit on small directed inputs, denormals, signed zeros, infinities
// and the edges of exp included. Takes a few milliseconds.

#ifndef KERNELS_CPU_TIER_SELF_TEST_H_
#define KERNELS_CPU_TIER_SELF_TEST_H_

#include "absl/status/status.h"
#include "kernels/cpu/tier.h"

namespace temper {

// FailedPrecondition naming the first kernel that differs. The calling thread
// must have the float mode of kernels/base/float_mode.h.
absl::Status TestTier(const TierKernels& tier, const TierKernels& definition);

}  // namespace temper

#endif  // KERNELS_CPU_TIER_SELF_TEST_H_
