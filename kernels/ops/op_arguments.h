// What an operation of kernels/ops/backend.h is told beside the tensors it
// reads and writes: which way round, where keys lie, constants. Plain data.

#ifndef KERNELS_OPS_OP_ARGUMENTS_H_
#define KERNELS_OPS_OP_ARGUMENTS_H_

#include <cstdint>

#include "kernels/tensor/tensor.h"

namespace temper {

// Whether a product uses W [out, in] as y = x W^T, or transposed as y = x W.
enum class Use : uint8_t { kForward, kTransposed };

// Where the keys of each query lie. Key j of sequence s is row
// blocks[s, j / page_tokens] * page_tokens + j % page_tokens of a key strip.
// A sampler's cache has pages of 64; a training batch has pages of one token,
// so that a segment's table can name its parents' rows.
struct KeyMap {
  Tensor sequence;  // i32 [N]: row of `blocks`
  Tensor position;  // i32 [N]: the query sees keys 0 .. position
  Tensor blocks;    // i32 [sequences, blocks_max]
  int32_t page_tokens = 64;
};

// The widest row that Rope takes.
inline constexpr int64_t kRopeDimsMax = 512;

enum class RopeStyle : uint8_t { kInterleaved, kHalfSplit };
enum class RopeDirection : uint8_t { kForward, kBackward };

struct GateOptions {
  int32_t n_group = 1;
  int32_t topk_group = 1;
  float routed_scaling_factor = 1;
};

// How each row is sampled. Order of truncation: temperature, top-k, top-p,
// min-p; ties in probability go to the lower id; a 0 switches a rule off.
struct SampleOptions {
  float temperature = 1;
  int32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  int32_t kept_max = 512;
};

struct AdamWOptions {
  float learning_rate = 0;
  float beta1 = 0.9f;
  float beta2 = 0.95f;
  float eps = 1e-8f;
  float weight_decay = 0;
  float bias_correction1 = 1;  // 1 - beta1^step
  float bias_correction2 = 1;  // 1 - beta2^step
  float grad_scale = 1;        // the clipping factor
};

}  // namespace temper

#endif  // KERNELS_OPS_OP_ARGUMENTS_H_
