// What the operations of kernels/ops/backend.h are told (attention's stand in
// attention_arguments.h): constants, and for those of more than three tensors
// one struct an operation, inputs first. Plain data; views that own nothing.
//
// Shape letters as in backend.h. What is marked `out` is overwritten, `+=`
// accumulated into, all else read.

#ifndef KERNELS_OPS_OP_ARGUMENTS_H_
#define KERNELS_OPS_OP_ARGUMENTS_H_

#include <cstdint>

#include "kernels/tensor/tensor.h"

namespace temper {

class Weight;  // kernels/ops/device_objects.h

// Whether a product uses W [out, in] as y = x W^T, or transposed as y = x W.
enum class Use : uint8_t { kForward, kTransposed };

// Which products a weight is packed for: a packing is as large as the weight.
// The forward of a model uses each matrix one way; backward uses most of them
// both ways.
enum class PackedFor : uint8_t { kForward, kTransposed, kBoth };

// A stack of `groups` matrices [out, in] of one compute type.
struct WeightSpec {
  int64_t groups = 1;
  int64_t out = 0;
  int64_t in = 0;
  DType dtype = DType::kF32;
  PackedFor packed_for = PackedFor::kBoth;
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

// The values here are for cases of tests; the optimizer sets every one.
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

// --- Products ----------------------------------------------------------------

struct GroupedLinearArgs {
  Tensor x;        // [rows, in]
  Tensor offsets;  // i32 [E + 1]
  const Weight* w = nullptr;
  Use use = Use::kForward;
  Tensor y;  // out [rows, out]
};

struct WeightGradArgs {
  Tensor x;   // [N, in], of each head [N, G, in]
  Tensor dy;  // [N, out], [N, G, out]
  Tensor dw;  // += [out, in], [G, out, in]
  // What x and dy are rounded to; f8e4m3 (without heads): x is quantised, dy
  // rounded to bf16.
  DType operand = DType::kF32;
};

struct GroupedLinearWeightGradArgs {
  Tensor x;        // [rows, in]
  Tensor dy;       // [rows, out]
  Tensor offsets;  // i32 [E + 1]
  Tensor dw;       // += [E, out, in]
  DType operand = DType::kF32;
};

// --- Pointwise ---------------------------------------------------------------

struct RmsNormBackwardArgs {
  Tensor x;  // [N, n]; rows may be strided
  Tensor w;  // [n]
  float eps = 0;
  Tensor dy;  // [N, n]
  Tensor dx;  // out [N, n], may be dy
  Tensor dw;  // += [n]
};

struct LayerNormArgs {
  Tensor x;  // [N, n]
  Tensor w;  // [n]
  Tensor b;  // [n]
  float eps = 0;
  Tensor y;  // out [N, n]
};

struct LayerNormBackwardArgs {
  Tensor x;  // [N, n]
  Tensor w;  // [n]
  float eps = 0;
  Tensor dy;  // [N, n]
  Tensor dx;  // out [N, n], may be dy
  Tensor dw;  // += [n]
  Tensor db;  // += [n]
};

struct SwiGluBackwardArgs {
  Tensor gate;   // [N, I]; rows may be strided
  Tensor up;     // [N, I]
  Tensor dh;     // [N, I]
  Tensor dgate;  // out [N, I]
  Tensor dup;    // out [N, I]
};

struct WriteKeysArgs {
  Tensor latent;        // [N, C + R]
  Tensor index_keys;    // [N, Di]
  Tensor slot;          // i32 [N]
  Tensor latent_strip;  // out [slots, C + R], rows of `slot`; or as
  Tensor index_strip;   // out [slots, Di]     kernels/ops/cache_rows.h says
  int64_t rope = 0;     // R, of an f8e4m3 strip
};

// --- Mixture of experts ------------------------------------------------------

struct MoeGateArgs {
  Tensor logits;  // [N, E]
  Tensor bias;    // [E]
  GateOptions options;
  bool live = false;  // choose in every row
  Tensor slot;        // i32 [N], or empty with the strip
  Tensor scores;      // out [N, E]
  Tensor routes;      // i32 [N, A], in and out
  Tensor gates;       // out [N, A]
  Tensor strip;       // out u8 or u16 [slots, A], or empty
};

struct MoeGateBackwardArgs {
  Tensor scores;  // [N, E]
  Tensor routes;  // i32 [N, A]
  GateOptions options;
  Tensor dgates;   // [N, A]
  Tensor dlogits;  // out [N, E]
};

struct MoePlanArgs {
  Tensor routes;   // i32 [N, A]
  Tensor offsets;  // out i32 [E + 1]
  Tensor rows;     // out i32 [N * A]
  Tensor place;    // out i32 [N, A]
};

struct MoeCombineArgs {
  Tensor x;      // [N * A, D]
  Tensor place;  // i32 [N, A]
  Tensor gates;  // [N, A], or empty: ones
  Tensor y;      // += [N, D]
};

struct MoeCombineBackwardArgs {
  Tensor x;       // [N * A, D]
  Tensor place;   // i32 [N, A]
  Tensor gates;   // [N, A]
  Tensor dy;      // [N, D]
  Tensor dx;      // out [N * A, D]
  Tensor dgates;  // out [N, A]
};

// --- Head --------------------------------------------------------------------

struct LogProbArgs {
  Tensor x;                   // [n, D]
  const Weight* w = nullptr;  // [1, V, D]
  Tensor rows;                // [V, D], what w was made of; of truncated rows
                              // the kept ones are read here; else may be empty
  Tensor targets;             // i32 [n]
  Tensor kept_offsets;        // i32 [n + 1]
  Tensor kept_ids;            // i32, ascending in a row
  float temperature = 1;
  Tensor logp;     // out [n]
  Tensor lse;      // out [n]
  Tensor entropy;  // out [n]
};

struct LogProbBackwardArgs {
  Tensor x;  // as the forward had them, lse its result
  const Weight* w = nullptr;
  Tensor rows;
  Tensor targets;
  Tensor kept_offsets;
  Tensor kept_ids;
  float temperature = 1;
  Tensor lse;
  Tensor dlogp;  // [n]
  Tensor dx;     // out [n, D]
  Tensor dw;     // += [V, D]
};

// --- Optimizer ---------------------------------------------------------------

// One parameter among all; its four are contiguous and of one size.
struct AdamWTensor {
  Tensor grad;
  Tensor p;  // in and out, as m and v
  Tensor m;
  Tensor v;
  bool decays = true;
};

}  // namespace temper

#endif  // KERNELS_OPS_OP_ARGUMENTS_H_
