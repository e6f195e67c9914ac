// What the sampling operations of kernels/ops/backend.h are told: the rules, a
// row as it lies on the device, and their tensors. Plain data; views that own
// nothing.

#ifndef KERNELS_OPS_SAMPLE_ARGUMENTS_H_
#define KERNELS_OPS_SAMPLE_ARGUMENTS_H_

#include <cstdint>

#include "kernels/tensor/tensor.h"

namespace temper {

// Ids that a truncated row may keep at most (DESIGN.md section 5, `kept_max`):
// what records, wires and the door lay out for and check.
inline constexpr int32_t kKeptMax = 512;

// How each row is sampled. With e = exp(z - max z) after temperature, the mass
// of an id is floor(e 2^40), an integer, and its rank is by z descending, then
// id ascending. In this order: top-k keeps the first k by rank; of those top-p
// takes ids by rank until their mass reaches floor(total floor(top_p 2^40) /
// 2^40), at least one; of those min-p keeps the masses of at least
// floor(min_p 2^40); of those the first kept_max by rank stay. A 0 switches a
// rule off.
struct SampleOptions {
  float temperature = 1;
  int32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  int32_t kept_max = kKeptMax;
};

// A row to be sampled: the name of its random bits, by which what is sampled at
// the same time does not matter, and how. As it lies on the device.
struct SampleRow {
  uint64_t seed = 0;
  uint64_t group = 0;
  uint32_t sample = 0;
  uint32_t ordinal = 0;  // of the sampled token in its episode
  SampleOptions options;
  // What is recorded of a truncated row: its kept set and the log-probability
  // over it; or (0) no set, and that over the whole vocabulary.
  int32_t keep = 1;
};
inline constexpr int64_t kSampleRowInts = 12;
static_assert(sizeof(SampleRow) == kSampleRowInts * sizeof(int32_t));

struct SampleArgs {
  Tensor logits;       // [n, V], V < 2^23
  Tensor rows;         // i32 [n, kSampleRowInts]: a SampleRow each
  Tensor words;        // i32 [n]: 32 random bits each
  Tensor ids;          // out i32 [n]
  Tensor logp;         // out [n]
  Tensor kept_ids;     // out i32 [n, at least every row's kept_max]
  Tensor kept_counts;  // out i32 [n]
};

}  // namespace temper

#endif  // KERNELS_OPS_SAMPLE_ARGUMENTS_H_
