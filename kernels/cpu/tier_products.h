// The products of kernels/cpu/tier.h: what they are given, and in which order
// each of their outputs is added up.

#ifndef KERNELS_CPU_TIER_PRODUCTS_H_
#define KERNELS_CPU_TIER_PRODUCTS_H_

#include <cstdint>

namespace temper {

// c[i, j] = (accumulate ? c[i, j] : 0) + sum over k ascending of
//   a[i a_row + k a_k] * b[(j / 16) b_panel + 16 k + j % 16],
// one chain of FMAs per (i, j). b is read in whole panels of 16 columns (the
// last one padded by its owner; what the padding holds does not matter);
// c is written for j < columns only.
struct GemmBlock {
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t depth = 0;
  const float* a = nullptr;
  int64_t a_row = 0;
  int64_t a_k = 1;
  const float* b = nullptr;
  int64_t b_panel = 0;  // elements from one panel to the next
  float* c = nullptr;
  int64_t c_row = 0;
  bool accumulate = false;
};

// What a product does with what is in its output.
enum class Into : uint8_t {
  kStore,     // the chain from +0 replaces it
  kContinue,  // the chain goes on from it
  kAdd,       // the chain from +0 is added to it, in one rounding
  // Of code_product alone, which writes whole pairs of panels of c, whose
  // rows are kTotalsRow apart:
  kScaled,     // fma(the chain from +0, factors[i], +0) replaces it
  kAddScaled,  // fma(the chain from +0, factors[i], c) replaces it
};

// y[i, c] = sum_k a[i, k] b[k, c], as `into` says, where a[i, k] is
// a[i * a_row + k * a_col], row k of b is b + b_index[k] * b_row (k itself when
// b_index is null), and rows of y likewise: selected keys are read where they
// lie. Nothing outside the named elements is read or written. y overlaps
// neither a nor b, y_index repeats no row.
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
  Into into = Into::kStore;
};

// Keys of a block of attention, and columns of a transposed block of keys.
inline constexpr int64_t kKeyBlock = 64;

// Products of bf16 operands (DESIGN.md section 6.2) take the depth in blocks of
// 32, padded with zeros: in a block one chain over even k and one over odd k,
// each from +0; then total += even + odd.
inline constexpr int64_t kPairBlock = 32;

// b comes in pairs along the depth: dword (k / 2, j) of panel j / 16 has
// element k, which is even, in its low half and k + 1 in its high one, and
// zeros up to the end of the depth's last block. That is what TDPBF16PS reads,
// and one instruction from the floats of either chain. Whole panels are read;
// what the columns beyond `columns` hold does not matter. a is what the same
// tier's pack_a made.
struct PairBlock {
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t depth = 0;
  const void* a = nullptr;
  int64_t a_row = 0;  // bytes from one row to the next
  const uint32_t* b = nullptr;
  int64_t b_panel = 0;  // dwords from one panel to the next
  int64_t b_pair = 16;  // dwords from one pair of k to the next
  float* c = nullptr;
  int64_t c_row = 0;
  Into into = Into::kStore;        // kContinue: the total goes on from c
  const float* factors = nullptr;  // of kScaled and kAddScaled, one a row
};

// Columns of a block of codes that share their scales, at most, and so from one
// row of what they come to to the next.
inline constexpr int64_t kTotalsRow = 128;

// Codes of e4m3 are packed by fours of the depth: of 16 columns 64 bytes, in
// which (k, j) is at j / 4 * 16 + k % 4 / 2 * 8 + j % 4 * 2 + k % 2, so that
// pairs come of them with no lane crossed; then the next four of k, with zeros
// up to a multiple of kPairBlock.
inline constexpr int64_t kCodeFour = 64;

// A few rows of an FP8 product (DESIGN.md section 6.2): y[i, j] = the chain
// over blocks of 128 of fma(sum, x_scales * scales, chain), which begins at +0
// or, to accumulate, at y. All columns share their scales.
struct CodeRows {
  int64_t rows = 0;  // kCodeRowsMax at most
  int64_t columns = 0;
  int64_t depth = 0;
  // e4m3 as floats, by fours of the depth, zeros up to a block of pairs: (i, k)
  // is at (k / 4 * rows + i) * 4 + k % 4.
  const float* x = nullptr;
  const float* x_scales = nullptr;  // of a row one a block, scales_row apart
  int64_t scales_row = 0;
  const uint8_t* codes = nullptr;  // whole panels
  int64_t panel = 0;               // bytes from one panel to the next
  const float* scales = nullptr;   // one a block
  float* y = nullptr;
  int64_t y_row = 0;
  bool accumulate = false;
};
inline constexpr int64_t kCodeRowsMax = 8;

}  // namespace temper

#endif  // KERNELS_CPU_TIER_PRODUCTS_H_
