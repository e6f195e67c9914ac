// The FP8 loops of a tier beside kernels/tensor/fp8.h, the one home of codes
// and scales.
//
// A function without state; thread-safe.

#ifndef KERNELS_CPU_CODE_CHECK_H_
#define KERNELS_CPU_CODE_CHECK_H_

#include <string>

#include "kernels/cpu/tier.h"

namespace temper {

// The first loop that differs, with what it was given; empty: none does.
std::string DifferenceInCodes(const TierKernels& tier);

// The same of products of codes, against those of `definition`.
std::string DifferenceInCodeProducts(const TierKernels& tier,
                                     const TierKernels& definition);

}  // namespace temper

#endif  // KERNELS_CPU_CODE_CHECK_H_
