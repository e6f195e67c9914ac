// The inner loops of the CPU backend, once per instruction set ("tier"); which
// tiers there are stands in kernels/cpu/cpu_tier.h. All give the same bits; the
// scalar one is the definition (DESIGN.md section 6). A tier's .cc has its own
// compiler flags, internal linkage throughout, and includes nothing inline that
// another file includes too.
//
// Rules that make the bits equal:
// - lanes over outputs: each output is one fixed sequence of FMAs;
// - lanes along a row: 64 virtual lanes, lane j takes elements j, j + 64, ..,
//   the tail padded with zeros (-inf for a maximum) whose additions count, for
//   they turn a -0 to +0; then one fixed tree adds lane j + 32, 16, 8, 4, 2, 1.
//
// Arrays may be unaligned. Output may be the same array as an input, never
// overlap it otherwise. Thread-safe: pure functions of their arguments, in the
// float mode of kernels/base/float_mode.h.

#ifndef KERNELS_CPU_TIER_H_
#define KERNELS_CPU_TIER_H_

#include <cstdint>

#include "kernels/cpu/tier_products.h"

namespace temper {

// A softmax whose scores come in blocks: their maximum so far, and the sum of
// exp(s - largest).
struct RunningSoftmax {
  float largest = -__builtin_inff();
  float sum = 0;
};

struct AdamWFactors {
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float step_size;                 // learning_rate / bias_correction1
  float inverse_sqrt_correction2;  // 1 / sqrt(bias_correction2)
  float eps;
  float decay;  // learning_rate * weight_decay
  float grad_scale;
};

struct TierKernels {
  void (*gemm)(const GemmBlock& block);
  void (*rows_product)(const RowsProduct& product);
  // out[d * kKeyBlock + j] = keys[rows[j] * row_stride + d], j < count <= 64.
  void (*gather_transposed)(const float* keys, int64_t row_stride,
                            const int32_t* rows, int64_t count, int64_t dims,
                            float* out);

  void (*pair_product)(const PairBlock& block);
  // Rounds a[i a_row + k a_k], k < depth, zeros up to the end of the block,
  // into rows of `packed`, packed_row bytes apart: at least pack_a_bytes an
  // element.
  void (*pack_a)(const float* a, int64_t a_row, int64_t a_k, int64_t rows,
                 int64_t depth, void* packed, int64_t packed_row);
  int64_t pack_a_bytes;
  // The depth, whole blocks, and the rows at which pair_product is fastest: a
  // longer product is cut.
  int64_t pair_depth;
  int64_t pair_block_rows;
  int64_t code_block_rows;  // the same of a product of codes
  // Makes b of a PairBlock from rows along its columns: row k is x + k x_row,
  // or x + index[k] x_row; panels are `panel` dwords apart, pairs 16. Floats
  // are rounded.
  void (*pair_rows)(const uint16_t* x, int64_t x_row, const int32_t* index,
                    int64_t depth, int64_t columns, uint32_t* out,
                    int64_t panel);
  void (*pair_floats)(const float* x, int64_t x_row, int64_t depth,
                      int64_t columns, uint32_t* out, int64_t panel);
  // Makes it from keys along its depth: column j < count <= 64 is
  // keys + rows[j] row_stride; panels are 16 dwords apart, pairs kKeyBlock.
  void (*pair_keys)(const uint16_t* keys, int64_t row_stride,
                    const int32_t* rows, int64_t count, int64_t dims,
                    uint32_t* out);
  // y = x rounded to bf16: nearest even, denormals to zero, NaN quiet.
  void (*round_bf16)(const float* x, uint16_t* y, int64_t n);
  void (*widen_bf16)(const uint16_t* x, float* y, int64_t n);

  // FP8 (DESIGN.md section 6.6). Of n elements y is the e4m3 of x / scale, as
  // floats. The scale of a block with these, whose other magnitudes are at most
  // `at_least`, is returned: NaN, and y zeros, where it can have none. Then:
  // floats that e4m3 holds, to codes; codes times a scale to bf16, cut off.
  float (*quantise)(const float* x, float at_least, float* y, int64_t n);
  void (*store_codes)(const float* x, uint8_t* codes, int64_t n);
  void (*widen_codes)(const uint8_t* codes, float scale, uint16_t* y,
                      int64_t n);
  // Of a row of x, cut into blocks of 128 whose last may be short: the codes by
  // quantise as pack_a has them, block_bytes from one block to the next, and
  // the scales, scales_step apart.
  void (*pack_codes)(const float* x, int64_t depth, void* packed,
                     int64_t block_bytes, float* scales, int64_t scales_step);
  // n fours of packed codes, whole blocks of pairs, as b of code_product:
  // code_b_bytes an element.
  void (*widen_fours)(const uint8_t* codes, int64_t n, void* b);
  int64_t code_b_bytes;
  // As pair_product, into kScaled, for a by pack_codes and b by widen_fours, of
  // one block of codes.
  void (*code_product)(const PairBlock& block);
  void (*code_rows)(const CodeRows& product);

  // Reductions over n elements, by the 64 lanes.
  float (*dot)(const float* a, const float* b, int64_t n);
  float (*sum)(const float* x, int64_t n);
  float (*max)(const float* x, int64_t n);  // -inf for n = 0

  // keys[i] = x[i] as an integer of the same order: -0 as +0, any NaN as 0,
  // below -infinity. Zeros follow up to a multiple of kKeyBlock.
  void (*order)(const float* x, uint32_t* keys, int64_t n);
  // How many of n keys are at least `threshold`; n is a multiple of kKeyBlock.
  int64_t (*count_at_least)(const uint32_t* keys, int64_t n,
                            uint32_t threshold);

  // Elementwise over n elements.
  void (*add)(const float* y, float* x, int64_t n);    // x += y
  void (*scale)(float factor, float* x, int64_t n);    // x *= factor
  void (*divide)(float divisor, float* x, int64_t n);  // x /= divisor
  void (*axpy)(float alpha, const float* x, float* y,
               int64_t n);  // y = fma(alpha, x, y)
  // y = fma(alpha, max(x, 0), y)
  void (*relu_axpy)(float alpha, const float* x, float* y, int64_t n);
  // y = exp(x - shift). 0 below x - shift = -86.5.
  void (*exp)(const float* x, float shift, float* y, int64_t n);
  // As exp, and returns the sum of y by the 64 lanes.
  float (*exp_sum)(const float* x, float shift, float* y, int64_t n);
  // One block of n <= kKeyBlock scores: s = exp(scale * s - m) with m the new
  // maximum; returns c = exp(old maximum - m) and makes sum
  // fma(sum, c, the block's sum by the 64 lanes).
  float (*softmax_block)(float scale, float* s, int64_t n, RunningSoftmax* run);
  // ds = (p * (ds - delta)) * scale
  void (*softmax_grad)(const float* p, float delta, float scale, float* ds,
                       int64_t n);
  void (*sigmoid)(const float* x, float* y, int64_t n);
  // h = gate * sigmoid(gate) * up
  void (*swiglu)(const float* gate, const float* up, float* h, int64_t n);
  void (*swiglu_backward)(const float* gate, const float* up, const float* dh,
                          float* dgate, float* dup, int64_t n);

  // One row of n. `inverse` is 1 / sqrt(mean(x^2) + eps), returned by the
  // forward and taken by the rest.
  float (*rms_inverse)(const float* x, float eps, int64_t n);
  void (*rms_norm)(const float* x, const float* w, float inverse, float* y,
                   int64_t n);  // y = (x * inverse) * w
  void (*rms_norm_backward)(const float* x, const float* w, float inverse,
                            const float* dy, float* dx, int64_t n);
  float (*mean)(const float* x, int64_t n);
  // 1 / sqrt(mean((x - mean)^2) + eps)
  float (*layer_inverse)(const float* x, float mean, float eps, int64_t n);
  void (*layer_norm)(const float* x, const float* w, const float* b, float mean,
                     float inverse, float* y, int64_t n);
  void (*layer_norm_backward)(const float* x, const float* w, float mean,
                              float inverse, const float* dy, float* dx,
                              int64_t n);
  // dw = fma(dy, (x - mean) * inverse, dw): one row's share, for both norms.
  void (*norm_weight_grad)(const float* x, float mean, float inverse,
                           const float* dy, float* dw, int64_t n);

  // Rotates the n pairs (a[i], b[i]) by the angle whose cos and sin are given.
  void (*rotate)(const float* cos, const float* sin, float* a, float* b,
                 int64_t n);

  void (*adamw)(const AdamWFactors& factors, const float* grad, float* p,
                float* m, float* v, int64_t n);
};

// Each writes the loops that its tier does otherwise than the tier it builds on
// (kernels/cpu/cpu_tier.h); the scalar tier, the definition, writes all.
void SetScalarKernels(TierKernels* kernels);  // needs FMA
void SetAvx2Kernels(TierKernels* kernels);    // needs AVX2 and FMA
// Needs AVX-512 F, BW, DQ and VL; transposes keys by the loop of its base.
void SetAvx512Kernels(TierKernels* kernels);
// Only their products of pairs, and pack_a for them.
void SetAvx512Bf16Kernels(TierKernels* kernels);  // needs AVX512_BF16 too
// Needs AVX512_VBMI, AMX_TILE and AMX_BF16 too, and the kernel's leave to use
// tiles.
void SetAmxKernels(TierKernels* kernels);

// The bf16 loops of a tier, which its function above sets too.
void SetScalarPairs(TierKernels* kernels);
void SetAvx2Pairs(TierKernels* kernels);
void SetAvx512Pairs(TierKernels* kernels);
// The FP8 loops.
void SetScalarCodes(TierKernels* kernels);
void SetAvx2Codes(TierKernels* kernels);
void SetAvx512Codes(TierKernels* kernels);
// Those that read packed codes.
void SetAvx2CodeRows(TierKernels* kernels);
void SetAvx512CodeRows(TierKernels* kernels);
void SetAmxCodeRows(TierKernels* kernels);

}  // namespace temper

#endif  // KERNELS_CPU_TIER_H_
