// The definition of every primitive: plain loops of explicit FMAs. Built with
// -mfma.

#include "kernels/cpu/attention_tier.h"

namespace temper {
namespace {

int64_t RowOf(const int32_t* index, int64_t i) {
  return index == nullptr ? i : index[i];
}

void RowsProductScalar(const RowsProduct& p) {
  for (int64_t i = 0; i < p.m; ++i) {
    float* y = p.y + RowOf(p.y_index, i) * p.y_row;
    const float* a = p.a + i * p.a_row;
    if (!p.accumulate) {
      for (int64_t c = 0; c < p.n; ++c) y[c] = 0;
    }
    for (int64_t k = 0; k < p.k; ++k) {
      const float* b = p.b + RowOf(p.b_index, k) * p.b_row;
      const float factor = a[k * p.a_col];
      for (int64_t c = 0; c < p.n; ++c) {
        y[c] = __builtin_fmaf(factor, b[c], y[c]);
      }
    }
  }
}

void GatherTransposedScalar(const float* keys, int64_t row_stride,
                            const int32_t* rows, int64_t count, int64_t dims,
                            float* out) {
  for (int64_t j = 0; j < count; ++j) {
    const float* key = keys + rows[j] * row_stride;
    for (int64_t d = 0; d < dims; ++d) out[d * kKeyBlock + j] = key[d];
  }
}

constexpr AttentionTier kTier = {RowsProductScalar, GatherTransposedScalar};

}  // namespace

const AttentionTier& ScalarAttentionTier() { return kTier; }

}  // namespace temper
