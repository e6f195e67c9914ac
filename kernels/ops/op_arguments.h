// What the operations of kernels/ops/backend.h are told (attention's stand in
// attention_arguments.h): which way round, constants, and for those of more
// than three tensors one struct an operation, inputs first. Plain data; views,
// so nothing here owns memory.
//
// Shape letters as in backend.h. What is marked `out` is overwritten, `+=`
// accumulated into, all else read.

#ifndef KERNELS_OPS_OP_ARGUMENTS_H_
#define KERNELS_OPS_OP_ARGUMENTS_H_

#include <cstdint>

#include "kernels/tensor/tensor.h"

namespace temper {

class Weight;  // kernels/ops/backend.h

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
  Tensor x;                     // [N, in], of each head [N, G, in]
  Tensor dy;                    // [N, out], [N, G, out]
  Tensor dw;                    // += [out, in], [G, out, in]
  DType operand = DType::kF32;  // what x and dy are rounded to
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

// --- Mixture of experts ------------------------------------------------------

struct MoeGateArgs {
  Tensor logits;  // [N, E]
  Tensor bias;    // [E]
  GateOptions options;
  Tensor scores;  // out [N, E]
  Tensor routes;  // i32 [N, A], in and out
  Tensor gates;   // out [N, A]
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

struct SampleArgs {
  Tensor logits;  // [n, V], V < 2^23
  Tensor words;   // i32 [n]: 32 random bits each
  SampleOptions options;
  Tensor ids;          // out i32 [n]
  Tensor logp;         // out [n]
  Tensor kept_ids;     // out i32 [n, kept_max]
  Tensor kept_counts;  // out i32 [n]
};

// --- Optimizer ---------------------------------------------------------------

struct AdamWArgs {
  AdamWOptions options;
  Tensor grad;  // all of one size
  Tensor p;     // in and out
  Tensor m;     // in and out
  Tensor v;     // in and out
};

}  // namespace temper

#endif  // KERNELS_OPS_OP_ARGUMENTS_H_
