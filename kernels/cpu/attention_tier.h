// What attention, indexer and head need of a tier beside kernels/cpu/tier.h:
// products whose rows are found through an index, so that selected keys are
// read where they lie. Same rules: the scalar tier is the definition, every
// output is one chain of FMAs, from zero (or from y), k ascending; internal
// linkage throughout, no inline code that other files share. Thread-safe;
// nothing is allocated.

#ifndef KERNELS_CPU_ATTENTION_TIER_H_
#define KERNELS_CPU_ATTENTION_TIER_H_

#include <cstdint>

namespace temper {

struct TierKernels;  // kernels/cpu/tier.h

// y[i, c] = [y[i, c] +] sum_k a[i, k] b[k, c], where a[i, k] is
// a[i * a_row + k * a_col], row k of b is b + b_index[k] * b_row (k itself when
// b_index is null), and rows of y likewise. Nothing outside the named elements
// is read or written. y overlaps neither a nor b, y_index repeats no row.
struct RowsProduct {
  const float* a = nullptr;
  int64_t a_row = 0;
  int64_t a_col = 1;
  const float* b = nullptr;
  int64_t b_row = 0;
  const int32_t* b_index = nullptr;
  float* y = nullptr;
  int64_t y_row = 0;
  const int32_t* y_index = nullptr;
  int64_t m = 0;  // rows of a and y
  int64_t k = 0;  // reduction
  int64_t n = 0;  // columns of b and y
  bool accumulate = false;
};

// Columns of a transposed block of keys.
inline constexpr int64_t kKeyBlock = 64;

struct AttentionTier {
  void (*rows_product)(const RowsProduct& product);

  // out[d * kKeyBlock + j] = keys[rows[j] * row_stride + d], j < count <= 64.
  void (*gather_transposed)(const float* keys, int64_t row_stride,
                            const int32_t* rows, int64_t count, int64_t dims,
                            float* out);
};

// The member of the same tier as `kernels`.
const AttentionTier& AttentionTierOf(const TierKernels& kernels);

const AttentionTier& ScalarAttentionTier();  // needs FMA
const AttentionTier& Avx2AttentionTier();    // needs AVX2 and FMA

}  // namespace temper

#endif  // KERNELS_CPU_ATTENTION_TIER_H_
