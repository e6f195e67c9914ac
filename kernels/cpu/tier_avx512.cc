// The AVX-512 tier: 16 lanes are one register, so the 64 of a row are four.
// Built with -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma. Keys are
// transposed by the AVX2 tier's loop: that one is bound by memory, not lanes.

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/tier.h"

namespace temper {
namespace {

// Adding this rounds to an integer, left in the low bits of the mantissa.
constexpr float kRound = 12582912.0f;  // 1.5 * 2^23

using V16 = __m512;

// The first n of 16 lanes.
__mmask16 FirstOf(int64_t n) {
  return static_cast<__mmask16>((uint32_t{1} << n) - 1);
}

V16 Load(const float* x) { return _mm512_loadu_ps(x); }

V16 LoadPart(const float* x, int64_t n) {
  return _mm512_maskz_loadu_ps(FirstOf(n), x);
}

V16 FirstLanes(int64_t n, V16 a, V16 b) {
  return _mm512_mask_blend_ps(FirstOf(n), b, a);
}

void Store(float* x, V16 v) { _mm512_storeu_ps(x, v); }

void StorePart(float* x, int64_t n, V16 v) {
  _mm512_mask_storeu_ps(x, FirstOf(n), v);
}

V16 Splat(float x) { return _mm512_set1_ps(x); }
V16 Add(V16 a, V16 b) { return _mm512_add_ps(a, b); }
V16 Sub(V16 a, V16 b) { return _mm512_sub_ps(a, b); }
V16 Mul(V16 a, V16 b) { return _mm512_mul_ps(a, b); }
V16 Div(V16 a, V16 b) { return _mm512_div_ps(a, b); }
V16 Fma(V16 a, V16 b, V16 c) { return _mm512_fmadd_ps(a, b, c); }
V16 Sqrt(V16 a) { return _mm512_sqrt_ps(a); }

// VMAXPS is a > b ? a : b, NaN included.
V16 Max(V16 a, V16 b) { return _mm512_max_ps(a, b); }

V16 ZeroWhereLess(V16 a, V16 b, V16 x) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ), x);
}

V16 HalfPowerOfTwo(V16 t) {
  // 126 less the bits of kRound.
  const __m512i bias = _mm512_set1_epi32(126 - 0x4b400000);
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_add_epi32(_mm512_castps_si512(t), bias), 23));
}

__m256 HighHalf(V16 v) { return _mm512_extractf32x8_ps(v, 1); }

float ReduceAdd(V16 v) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), HighHalf(v));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight),
                                 _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

float ReduceMax(V16 v) {
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(v), HighHalf(v));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight),
                                 _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// One tile of kRows x 16 kPanels outputs, all in registers; of the last panel
// the lanes of `last`. 24 chains of the 32 registers: twice what hides the
// latency of an FMA on two ports, and enough use of each load of b.
// `next` is a panel that will be read soon: a line of it is fetched for each k.
template <int kRows, int kPanels>
void Tile(const GemmBlock& g, const float* a, const float* b, float* c,
          __mmask16 last, const float* next) {
  // Every loop over the tile is unrolled: an index known only at run time
  // would put the chains in memory.
  __m512 chain[kRows][kPanels];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kPanels; ++j) {
      const __mmask16 mask = j == kPanels - 1 ? last : __mmask16{0xffff};
      chain[i][j] = g.accumulate
                        ? _mm512_maskz_loadu_ps(mask, c + i * g.c_row + 16 * j)
                        : _mm512_setzero_ps();
    }
  }
  const int64_t a_row = g.a_row, a_k = g.a_k;
  const int64_t b_panel = g.b_panel;
  // Two k a turn: counting takes slots of the ports that the FMAs need.
#pragma GCC unroll 2
  for (int64_t k = g.depth; k > 0; --k) {
    __m512 row[kPanels];
#pragma GCC unroll 8
    for (int j = 0; j < kPanels; ++j) row[j] = _mm512_loadu_ps(b + j * b_panel);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const __m512 value = _mm512_set1_ps(a[i * a_row]);
#pragma GCC unroll 8
      for (int j = 0; j < kPanels; ++j) {
        chain[i][j] = _mm512_fmadd_ps(value, row[j], chain[i][j]);
      }
    }
    _mm_prefetch(next, _MM_HINT_T0);
    next += 16;
    a += a_k;
    b += 16;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kPanels; ++j) {
      const __mmask16 mask = j == kPanels - 1 ? last : __mmask16{0xffff};
      _mm512_mask_storeu_ps(c + i * g.c_row + 16 * j, mask, chain[i][j]);
    }
  }
}

using TileFunction = void (*)(const GemmBlock&, const float*, const float*,
                              float*, __mmask16, const float*);

constexpr int64_t kTileRows = 12;
constexpr TileFunction kOnePanel[] = {
    Tile<1, 1>, Tile<2, 1>, Tile<3, 1>, Tile<4, 1>,  Tile<5, 1>,  Tile<6, 1>,
    Tile<7, 1>, Tile<8, 1>, Tile<9, 1>, Tile<10, 1>, Tile<11, 1>, Tile<12, 1>};
constexpr TileFunction kTwoPanels[] = {
    Tile<1, 2>, Tile<2, 2>, Tile<3, 2>, Tile<4, 2>,  Tile<5, 2>,  Tile<6, 2>,
    Tile<7, 2>, Tile<8, 2>, Tile<9, 2>, Tile<10, 2>, Tile<11, 2>, Tile<12, 2>};
// With few rows more panels keep enough FMAs in flight.
constexpr TileFunction kFourPanels[] = {Tile<1, 4>, Tile<2, 4>, Tile<3, 4>,
                                        Tile<4, 4>, Tile<5, 4>};

// All rows, of kPanels panels from column `first` on.
void RowBlocks(const GemmBlock& g, const TileFunction* tiles, int64_t blocks,
               int64_t panels, int64_t first, __mmask16 last) {
  const float* panel = g.b + first / 16 * g.b_panel;
  int64_t row = 0;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t rows = (g.rows - row + blocks - block - 1) / (blocks - block);
    tiles[rows - 1](g, g.a + row * g.a_row, panel, g.c + row * g.c_row + first,
                    last, panel + (panels + block % panels) * g.b_panel);
    row += rows;
  }
}

void Gemm(const GemmBlock& g) {
  if (g.rows <= 0) return;
  // Blocks of at most 12 rows, as even as they can be.
  const int64_t blocks = (g.rows + kTileRows - 1) / kTileRows;
  int64_t first = 0;
  if (g.rows == 1) {
    for (; first + 128 <= g.columns; first += 128) {
      Tile<1, 8>(g, g.a, g.b + first / 16 * g.b_panel, g.c + first, 0xffff,
                 g.b + (first / 16 + 8) * g.b_panel);
    }
  }
  if (g.rows <= 5) {
    for (; first + 64 <= g.columns; first += 64) {
      RowBlocks(g, kFourPanels, blocks, 4, first, 0xffff);
    }
  }
  for (; first + 16 < g.columns; first += 32) {
    const int64_t left = g.columns - first;
    RowBlocks(g, kTwoPanels, blocks, 2, first,
              left >= 32 ? __mmask16{0xffff} : FirstOf(left - 16));
  }
  if (first < g.columns) {
    RowBlocks(g, kOnePanel, blocks, 1, first, FirstOf(g.columns - first));
  }
}

const float* RowOf(const float* base, int64_t row, const int32_t* index,
                   int64_t i) {
  return base + (index == nullptr ? i : index[i]) * row;
}

float* YRow(const RowsProduct& p, int64_t i) {
  return p.y + (p.y_index == nullptr ? i : p.y_index[i]) * p.y_row;
}

// Rows i .. i + M of y, 16 W columns from c, of the last 16 the lanes of
// `last`: nothing outside is touched.
template <int M, int W>
void RowTile(const RowsProduct& p, int64_t i, int64_t c, __mmask16 last) {
  __m512 sum[M][W];
#pragma GCC unroll 8
  for (int r = 0; r < M; ++r) {
    const float* y = YRow(p, i + r) + c;
#pragma GCC unroll 8
    for (int v = 0; v < W; ++v) {
      const __mmask16 mask = v == W - 1 ? last : __mmask16{0xffff};
      sum[r][v] = p.into == Into::kContinue
                      ? _mm512_maskz_loadu_ps(mask, y + 16 * v)
                      : _mm512_setzero_ps();
    }
  }
  const float* a = p.a + i * p.a_row;
  for (int64_t k = 0; k < p.k; ++k) {
    const float* from = RowOf(p.b, p.b_row, p.b_index, k) + c;
    __m512 b[W];
#pragma GCC unroll 8
    for (int v = 0; v < W; ++v) {
      b[v] = v == W - 1 ? _mm512_maskz_loadu_ps(last, from + 16 * v)
                        : _mm512_loadu_ps(from + 16 * v);
    }
#pragma GCC unroll 8
    for (int r = 0; r < M; ++r) {
      const __m512 factor = _mm512_set1_ps(a[r * p.a_row]);
#pragma GCC unroll 8
      for (int v = 0; v < W; ++v) {
        sum[r][v] = _mm512_fmadd_ps(factor, b[v], sum[r][v]);
      }
    }
    a += p.a_col;
  }
#pragma GCC unroll 8
  for (int r = 0; r < M; ++r) {
    float* y = YRow(p, i + r) + c;
#pragma GCC unroll 8
    for (int v = 0; v < W; ++v) {
      const __mmask16 mask = v == W - 1 ? last : __mmask16{0xffff};
      if (p.into == Into::kAdd) {
        sum[r][v] =
            _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y + 16 * v), sum[r][v]);
      }
      _mm512_mask_storeu_ps(y + 16 * v, mask, sum[r][v]);
    }
  }
}

template <int M>
void AllColumns(const RowsProduct& p, int64_t i) {
  // As many chains at once as hide the latency of an FMA.
  constexpr int kWide = M == 1 ? 8 : 4;
  int64_t c = 0;
  for (; c + 16 * kWide <= p.n; c += 16 * kWide) {
    RowTile<M, kWide>(p, i, c, 0xffff);
  }
  for (; c + 32 <= p.n; c += 32) RowTile<M, 2>(p, i, c, 0xffff);
  for (; c < p.n; c += 16) {
    RowTile<M, 1>(p, i, c, FirstOf(p.n - c < 16 ? p.n - c : 16));
  }
}

void RowsProductOf(const RowsProduct& p) {
  int64_t i = 0;
  for (; i + 6 <= p.m; i += 6) AllColumns<6>(p, i);
  for (; i + 3 <= p.m; i += 3) AllColumns<3>(p, i);
  if (i + 2 == p.m) return AllColumns<2>(p, i);
  if (i + 1 == p.m) AllColumns<1>(p, i);
}

#include "kernels/cpu/tier_body.inc"

}  // namespace

void SetAvx512Kernels(TierKernels* kernels) {
  SetRowKernels(kernels);
  kernels->gemm = Gemm;
  kernels->rows_product = RowsProductOf;
  SetAvx512Pairs(kernels);
  SetAvx512Codes(kernels);
}

}  // namespace temper
