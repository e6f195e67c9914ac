// Launches of attention and of the indexer's scores over keys of bf16. Their
// products are chains of a tensor core's sums, 16 of the depth at a time, as
// product.h has them; what is added to z begins with what is there. All enqueue
// and return; operands were checked.

#ifndef KERNELS_CUDA_NARROW_ATTENTION_H_
#define KERNELS_CUDA_NARROW_ATTENTION_H_

#include <cstdint>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/launch.h"
#include "kernels/ops/rows.h"

namespace temper::cuda {

// MlaForward, of keys in bf16, to which q and the exponentials are rounded.
struct NarrowMla {
  GroupedRows<const float> q;
  Rows<const uint16_t> keys;
  Keys map;
  Rows<const int32_t> selected;
  float scale = 1;
  GroupedRows<float> z;
  Rows<float> lse;
};
// By whichever of the two kernels suits: their bits are the same.
void SparseMla(const NarrowMla& args, Stream stream);
// Any heads, widths and strides.
void PlainMla(const NarrowMla& args, Stream stream);
// Of up to 512 + 64 columns, in rows that begin 16 bytes aligned; else false.
bool WideMla(const NarrowMla& args, Stream stream);

// scores[i][s] of queries first + i and of their keys, in order, as SelectArgs
// has them; q is rounded.
struct NarrowScores {
  GroupedRows<const float> q;
  Rows<const float> w;
  Rows<const uint16_t> keys;
  Keys map;
  int64_t first = 0;
  int64_t queries = 0;
  int64_t top_k = 0;   // queries of no more keys are passed over
  bool tap = false;    // but not then
  Rows<float> scores;  // [queries, keys at most]
};
// By whichever of the two kernels suits: their bits are the same.
void IndexScores(const NarrowScores& args, Stream stream);
// Any heads, dimensions and strides.
void PlainScores(const NarrowScores& args, Stream stream);
// Of up to 64 heads of 128, over rows that begin 16 bytes aligned; else false.
bool WideScores(const NarrowScores& args, Stream stream);

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_NARROW_ATTENTION_H_
