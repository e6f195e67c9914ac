#include "kernels/cpu/attention_tier.h"

#include "kernels/cpu/tier.h"

namespace temper {

const AttentionTier& AttentionTierOf(const TierKernels& kernels) {
  return &kernels == ScalarKernels() ? ScalarAttentionTier()
                                     : Avx2AttentionTier();
}

}  // namespace temper
