// A row of a tensor to a row of another: between f32 and bf16 it is rounded
// (nearest even, denormals to zero) or widened. Internal to the CPU backend.

#ifndef KERNELS_CPU_ROW_COPY_H_
#define KERNELS_CPU_ROW_COPY_H_

#include <cstdint>
#include <cstring>

#include "kernels/cpu/tier.h"
#include "kernels/ops/shape_check.h"
#include "kernels/tensor/tensor.h"

namespace temper {

// `elements` from `source` to `target`, which have the types given.
inline void CopyRow(const TierKernels& tier, DType from, const void* source,
                    DType to, void* target, int64_t elements) {
  if (from == to) {
    std::memcpy(target, source, static_cast<size_t>(elements) * DTypeBytes(to));
  } else if (to == DType::kBF16) {
    tier.round_bf16(static_cast<const float*>(source),
                    static_cast<uint16_t*>(target), elements);
  } else {
    tier.widen_bf16(static_cast<const uint16_t*>(source),
                    static_cast<float*>(target), elements);
  }
}

}  // namespace temper

#endif  // KERNELS_CPU_ROW_COPY_H_
