// Products of bf16 operands in the AVX-512 tier, as kernels/cpu/pairs_avx2.cc
// has them, in wider registers; what packs operands is that tier's. Built with
// the flags of tier_avx512.cc.

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/tier.h"

namespace temper {
namespace {

constexpr int64_t kPairs = kPairBlock / 2;

// Of 16 columns: the even k's element of each pair as a float, or the odd k's.
template <bool kOdd>
__m512 Chosen(const uint32_t* pair) {
  const __m512i both = _mm512_loadu_si512(pair);
  return _mm512_castsi512_ps(
      kOdd ? _mm512_and_si512(both, _mm512_set1_epi32(-65536))
           : _mm512_slli_epi32(both, 16));
}

// One of the two chains of a block, for kRows x 16 kPanels outputs in
// registers. Of a short block only its pairs are multiplied: the padding's FMAs
// come to one addition of +0. The chain over even k comes first and is left in
// `even`; the one over odd k makes of it what the totals take.
template <int kRows, int kPanels, bool kOdd>
void Chain(const char* a, int64_t a_row, const uint32_t* b, int64_t b_panel,
           int64_t b_pair, int64_t pairs, __m512 (*even)[kPanels],
           __m512 (*total)[kPanels]) {
  __m512 sum[kRows][kPanels];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kPanels; ++j) sum[i][j] = _mm512_setzero_ps();
  }
  a += kOdd ? sizeof(float) : 0;
  for (int64_t p = 0; p < pairs; ++p) {
    __m512 row[kPanels];
#pragma GCC unroll 8
    for (int j = 0; j < kPanels; ++j) row[j] = Chosen<kOdd>(b + j * b_panel);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const __m512 value =
          _mm512_set1_ps(*reinterpret_cast<const float*>(a + i * a_row));
#pragma GCC unroll 8
      for (int j = 0; j < kPanels; ++j) {
        sum[i][j] = _mm512_fmadd_ps(value, row[j], sum[i][j]);
      }
    }
    a += 2 * sizeof(float);
    b += b_pair;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kPanels; ++j) {
      if (pairs < kPairs) {
        sum[i][j] = _mm512_add_ps(sum[i][j], _mm512_setzero_ps());
      }
      if (kOdd) {
        total[i][j] =
            _mm512_add_ps(total[i][j], _mm512_add_ps(even[i][j], sum[i][j]));
      } else {
        even[i][j] = sum[i][j];
      }
    }
  }
}

#include "kernels/cpu/pair_finish_avx512.inc"

// Totals rest in memory, in L1, while the chains have the registers; of the
// last panel the lanes of `last` are the product's.
template <int kRows, int kPanels>
void Tile(const PairBlock& g, int64_t row, int64_t first, __mmask16 last) {
  const char* a = static_cast<const char*>(g.a) + row * g.a_row;
  const uint32_t* b = g.b + first / 16 * g.b_panel;
  float* c = g.c + row * g.c_row + first;
  __m512 total[kRows][kPanels], even[kRows][kPanels];
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kPanels; ++j) {
      const __mmask16 mask = j == kPanels - 1 ? last : __mmask16{0xffff};
      total[i][j] = g.into == Into::kContinue
                        ? _mm512_maskz_loadu_ps(mask, c + i * g.c_row + 16 * j)
                        : _mm512_setzero_ps();
    }
  }
  for (int64_t k = 0; k < g.depth; k += kPairBlock) {
    const int64_t left = (g.depth - k + 1) / 2;
    const int64_t pairs = left < kPairs ? left : kPairs;
    Chain<kRows, kPanels, false>(a, g.a_row, b, g.b_panel, g.b_pair, pairs,
                                 even, total);
    Chain<kRows, kPanels, true>(a, g.a_row, b, g.b_panel, g.b_pair, pairs, even,
                                total);
    a += kPairBlock * sizeof(float);
    b += kPairBlock / 2 * g.b_pair;
  }
  Finish<kRows, kPanels>(g, row, first, last, total);
}

constexpr int64_t kTileRows = 12;
using TileFunction = void (*)(const PairBlock&, int64_t, int64_t, __mmask16);
constexpr TileFunction kOnePanel[] = {
    Tile<1, 1>, Tile<2, 1>, Tile<3, 1>, Tile<4, 1>,  Tile<5, 1>,  Tile<6, 1>,
    Tile<7, 1>, Tile<8, 1>, Tile<9, 1>, Tile<10, 1>, Tile<11, 1>, Tile<12, 1>};
constexpr TileFunction kTwoPanels[] = {
    Tile<1, 2>, Tile<2, 2>, Tile<3, 2>, Tile<4, 2>,  Tile<5, 2>,  Tile<6, 2>,
    Tile<7, 2>, Tile<8, 2>, Tile<9, 2>, Tile<10, 2>, Tile<11, 2>, Tile<12, 2>};

#include "kernels/cpu/pair_product_avx512.inc"

}  // namespace

void SetAvx512Pairs(TierKernels* kernels) {
  kernels->pair_product = PairProduct;
  kernels->code_product = PairProduct;
}

}  // namespace temper
