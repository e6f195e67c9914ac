// The AVX512_BF16 tier: products of pairs by VDPBF16PS, all else as in its
// base. The instruction computes fma(a0, b0, fma(a1, b1, c)), odd element
// first, so that a pair of elements (k + 2, k) is two steps of a chain over
// every other k (measured, 0 of 2.3 million differ from TDPBF16PS). Built with
// the flags of tier_avx512.cc and -mavx512bf16.

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/tier.h"

namespace temper {
namespace {

// Four k's at once: of each chain two.
constexpr int64_t kQuads = kPairBlock / 4;
constexpr int64_t kElementBytes = sizeof(uint16_t);

// From the pairs (k, k + 1) and (k + 2, k + 3) of 16 columns those of the two
// chains: (k + 2, k) and (k + 3, k + 1), the later in the low half.
struct Chosen {
  __m512bh even;
  __m512bh odd;
};

Chosen Choose(const uint32_t* pair, int64_t b_pair) {
  constexpr __mmask32 kLow = 0x55555555;
  const __m512i first = _mm512_loadu_si512(pair);
  const __m512i second = _mm512_loadu_si512(pair + b_pair);
  return {reinterpret_cast<__m512bh>(_mm512_mask_blend_epi16(
              kLow, _mm512_slli_epi32(first, 16), second)),
          reinterpret_cast<__m512bh>(_mm512_mask_blend_epi16(
              kLow, first, _mm512_srli_epi32(second, 16)))};
}

__m512bh Broadcast(const char* a) {
  return reinterpret_cast<__m512bh>(
      _mm512_set1_epi32(*reinterpret_cast<const int32_t*>(a)));
}

#include "kernels/cpu/pair_finish_avx512.inc"

// kRows x 16 kPanels outputs, at most 8 vectors of them: two chains and the
// total of each are 24 of the 32 registers, so that nothing but operands is
// read, and nothing written, until the depth is done. Of the last panel the
// lanes of `last` are the product's.
template <int kRows, int kPanels>
void Tile(const PairBlock& g, int64_t row, int64_t first, __mmask16 last) {
  static_assert(kRows * kPanels <= 8);
  const char* a = static_cast<const char*>(g.a) + row * g.a_row;
  const uint32_t* b = g.b + first / 16 * g.b_panel;
  float* const c = g.c + row * g.c_row + first;
  const int64_t a_row = g.a_row, b_pair = g.b_pair, b_panel = g.b_panel;
  __m512 total[kRows][kPanels];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kPanels; ++j) {
      const __mmask16 mask = j == kPanels - 1 ? last : __mmask16{0xffff};
      total[i][j] = g.into == Into::kContinue
                        ? _mm512_maskz_loadu_ps(mask, c + i * g.c_row + 16 * j)
                        : _mm512_setzero_ps();
    }
  }
  for (int64_t left = g.depth; left > 0; left -= kPairBlock) {
    // What is left out of a short block is padding, whose FMAs come to one
    // addition of +0 to each chain: of both to their sum's operands.
    const int64_t quads = left < kPairBlock ? (left + 3) / 4 : kQuads;
    __m512 even[kRows][kPanels], odd[kRows][kPanels];
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
      for (int j = 0; j < kPanels; ++j) {
        even[i][j] = odd[i][j] = _mm512_setzero_ps();
      }
    }
#pragma GCC unroll 2
    for (int64_t q = 0; q < quads; ++q) {
      Chosen pairs[kPanels];
#pragma GCC unroll 8
      for (int j = 0; j < kPanels; ++j) {
        pairs[j] = Choose(b + j * b_panel, b_pair);
      }
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
        const __m512bh for_even = Broadcast(a + i * a_row);
        const __m512bh for_odd = Broadcast(a + i * a_row + 4);
#pragma GCC unroll 8
        for (int j = 0; j < kPanels; ++j) {
          even[i][j] = _mm512_dpbf16_ps(even[i][j], for_even, pairs[j].even);
          odd[i][j] = _mm512_dpbf16_ps(odd[i][j], for_odd, pairs[j].odd);
        }
      }
      a += 4 * kElementBytes;
      b += 2 * b_pair;
    }
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
      for (int j = 0; j < kPanels; ++j) {
        if (quads < kQuads) {
          even[i][j] = _mm512_add_ps(even[i][j], _mm512_setzero_ps());
          odd[i][j] = _mm512_add_ps(odd[i][j], _mm512_setzero_ps());
        }
        total[i][j] =
            _mm512_add_ps(total[i][j], _mm512_add_ps(even[i][j], odd[i][j]));
      }
    }
  }
  Finish<kRows, kPanels>(g, row, first, last, total);
}

constexpr int64_t kTileRows = 4;
using TileFunction = void (*)(const PairBlock&, int64_t, int64_t, __mmask16);
constexpr TileFunction kOnePanel[] = {Tile<1, 1>, Tile<2, 1>, Tile<3, 1>,
                                      Tile<4, 1>};
constexpr TileFunction kTwoPanels[] = {Tile<1, 2>, Tile<2, 2>, Tile<3, 2>,
                                       Tile<4, 2>};

#include "kernels/cpu/pair_product_avx512.inc"

// Rounds 16 floats to bf16: kernels/tensor/bf16.h in the words of this tier.
// The bf16 lie in the upper halves; what the lower ones hold does not matter.
__m512i Rounded(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd =
      _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i out =
      _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 tiny =
      _mm512_testn_epi32_mask(bits, _mm512_set1_epi32(0x7f800000));
  out = _mm512_mask_and_epi32(out, tiny, bits, _mm512_set1_epi32(INT32_MIN));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_mask_or_epi32(out, nan, bits, _mm512_set1_epi32(0x400000));
}

// 16 of a row's elements from k on, zeros from `depth` on.
__m512 LoadSome(const float* row, int64_t a_k, int64_t k, int64_t depth) {
  const int64_t left = depth - k;
  if (left <= 0) return _mm512_setzero_ps();
  const auto there =
      static_cast<__mmask16>(left >= 16 ? 0xffff : (1 << left) - 1);
  if (a_k == 1) return _mm512_maskz_loadu_ps(there, row + k);
  alignas(64) float part[16] = {};
  for (int64_t j = 0; j < 16 && j < left; ++j) part[j] = row[(k + j) * a_k];
  return _mm512_load_ps(part);
}

// 16 floats k, .., k + 15 of a row as 8 dwords: of each four the pairs
// (k + 2, k), then (k + 3, k + 1).
void PackSixteen(__m512 x, uint32_t* to) {
  const __m512i out = Rounded(x);
  // In each lane of four: elements 2, 3 into the low halves of 0, 1.
  const __m512i late = _mm512_srli_epi32(
      _mm512_shuffle_epi32(out, static_cast<_MM_PERM_ENUM>(0x0e)), 16);
  const __m512i pairs = _mm512_mask_blend_epi16(0x55555555, out, late);
  // The first two dwords of each lane. (A compressing store would be one
  // instruction, and a hundred cycles of microcode on Zen 4.)
  const __m512i order =
      _mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 0, 0, 0, 0, 0, 0, 0, 0);
  _mm256_storeu_si256(
      reinterpret_cast<__m256i*>(to),
      _mm512_castsi512_si256(_mm512_permutexvar_epi32(order, pairs)));
}

void PackA(const float* a, int64_t a_row, int64_t a_k, int64_t rows,
           int64_t depth, void* packed, int64_t packed_row) {
  for (int64_t i = 0; i < rows; ++i) {
    auto* to = reinterpret_cast<uint32_t*>(static_cast<char*>(packed) +
                                           i * packed_row);
    for (int64_t k = 0; k < depth || k % kPairBlock != 0; k += 16) {
      PackSixteen(LoadSome(a + i * a_row, a_k, k, depth), to + k / 2);
    }
  }
}

#include "kernels/cpu/code_scales.inc"
#include "kernels/cpu/quantise_avx512.inc"

void PackCodes(const float* x, int64_t depth, void* packed, int64_t block_bytes,
               float* scales, int64_t scales_step) {
  QuantiseRow(x, depth, scales, scales_step,
              [=](int64_t block, int64_t i, __m512 low, __m512 high) {
                auto* to = reinterpret_cast<uint32_t*>(
                    static_cast<char*>(packed) + block * block_bytes +
                    i * kElementBytes);
                PackSixteen(low, to);
                PackSixteen(high, to + 8);
              });
}

}  // namespace

void SetAvx512Bf16Kernels(TierKernels* kernels) {
  kernels->pair_product = PairProduct;
  kernels->code_product = PairProduct;
  kernels->pack_a = PackA;
  kernels->pack_codes = PackCodes;
  kernels->pack_a_bytes = kElementBytes;
}

}  // namespace temper
