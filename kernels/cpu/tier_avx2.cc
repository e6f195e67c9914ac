// The AVX2 tier: 16 lanes are two registers. Built with -mavx2 -mfma.

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/tier.h"

namespace temper {
namespace {

// Adding this rounds to an integer, left in the low bits of the mantissa.
constexpr float kRound = 12582912.0f;  // 1.5 * 2^23

struct V16 {
  __m256 low;
  __m256 high;
};

// The first n of 16 lanes: ones, then zeros, read from 16 - n on.
alignas(64) constexpr int32_t kLanes[32] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                            -1, -1, -1, -1, -1, -1, -1, -1};

__m256i LaneMask(int64_t n, int64_t first) {
  return _mm256_loadu_si256(
      reinterpret_cast<const __m256i*>(kLanes + 16 - n + first));
}

V16 Load(const float* x) {
  return {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)};
}

V16 LoadPart(const float* x, int64_t n) {
  return {_mm256_maskload_ps(x, LaneMask(n, 0)),
          _mm256_maskload_ps(x + 8, LaneMask(n, 8))};
}

void Store(float* x, V16 v) {
  _mm256_storeu_ps(x, v.low);
  _mm256_storeu_ps(x + 8, v.high);
}

void StorePart(float* x, int64_t n, V16 v) {
  _mm256_maskstore_ps(x, LaneMask(n, 0), v.low);
  _mm256_maskstore_ps(x + 8, LaneMask(n, 8), v.high);
}

V16 FirstLanes(int64_t n, V16 a, V16 b) {
  return {
      _mm256_blendv_ps(b.low, a.low, _mm256_castsi256_ps(LaneMask(n, 0))),
      _mm256_blendv_ps(b.high, a.high, _mm256_castsi256_ps(LaneMask(n, 8)))};
}

V16 Splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }

V16 Add(V16 a, V16 b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}

V16 Sub(V16 a, V16 b) {
  return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}

V16 Mul(V16 a, V16 b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}

V16 Div(V16 a, V16 b) {
  return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}

V16 Fma(V16 a, V16 b, V16 c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low),
          _mm256_fmadd_ps(a.high, b.high, c.high)};
}

V16 Sqrt(V16 a) { return {_mm256_sqrt_ps(a.low), _mm256_sqrt_ps(a.high)}; }

// MAXPS is a > b ? a : b, NaN included.
V16 Max(V16 a, V16 b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}

V16 ZeroWhereLess(V16 a, V16 b, V16 x) {
  return {_mm256_andnot_ps(_mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ), x.low),
          _mm256_andnot_ps(_mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ), x.high)};
}

__m256 HalfPowerOfTwo(__m256 t) {
  // 126 less the bits of kRound.
  const __m256i bias = _mm256_set1_epi32(126 - 0x4b400000);
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_castps_si256(t), bias), 23));
}

V16 HalfPowerOfTwo(V16 t) {
  return {HalfPowerOfTwo(t.low), HalfPowerOfTwo(t.high)};
}

float ReduceAdd(V16 v) {
  const __m256 eight = _mm256_add_ps(v.low, v.high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight),
                                 _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

float ReduceMax(V16 v) {
  const __m256 eight = _mm256_max_ps(v.low, v.high);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight),
                                 _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// One tile of kRows x 16 kPanels outputs, all in registers. kDense says that
// a_k is 1. With few rows several panels keep enough FMAs in flight.
template <int kRows, int kPanels, bool kDense>
void Tile(const GemmBlock& g, const float* a, const float* b, float* c,
          int64_t c_row, const float* next) {
  // Every loop over the tile is unrolled: an index known only at run time
  // would put the chains in memory.
  __m256 chain[kRows][2 * kPanels];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < 2 * kPanels; ++j) {
      chain[i][j] = g.accumulate ? _mm256_loadu_ps(c + i * c_row + 8 * j)
                                 : _mm256_setzero_ps();
    }
  }
  const int64_t a_row = g.a_row, a_k = kDense ? 1 : g.a_k;
  const int64_t b_panel = g.b_panel;
  // Two k a turn: counting takes slots of the ports that the FMAs need.
#pragma GCC unroll 2
  for (int64_t k = g.depth; k > 0; --k) {
    __m256 row[2 * kPanels];
#pragma GCC unroll 8
    for (int j = 0; j < 2 * kPanels; ++j) {
      row[j] = _mm256_loadu_ps(b + j / 2 * b_panel + j % 2 * 8);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const __m256 value = _mm256_broadcast_ss(a + i * a_row);
#pragma GCC unroll 8
      for (int j = 0; j < 2 * kPanels; ++j) {
        chain[i][j] = _mm256_fmadd_ps(value, row[j], chain[i][j]);
      }
    }
    _mm_prefetch(next, _MM_HINT_T1);
    next += 16;
    a += a_k;
    b += 16;
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < 2 * kPanels; ++j) {
      _mm256_storeu_ps(c + i * c_row + 8 * j, chain[i][j]);
    }
  }
}

using TileFunction = void (*)(const GemmBlock&, const float*, const float*,
                              float*, int64_t, const float*);

constexpr TileFunction kDenseTiles[] = {Tile<1, 1, true>, Tile<2, 1, true>,
                                        Tile<3, 1, true>, Tile<4, 1, true>,
                                        Tile<5, 1, true>, Tile<6, 1, true>};
constexpr TileFunction kStridedTiles[] = {Tile<1, 1, false>, Tile<2, 1, false>,
                                          Tile<3, 1, false>, Tile<4, 1, false>,
                                          Tile<5, 1, false>, Tile<6, 1, false>};

// A tile whose last panel has fewer than 16 columns, through a buffer.
void EdgeTile(const GemmBlock& g, TileFunction tile, int64_t rows,
              int64_t width, const float* a, const float* b, float* c) {
  float buffer[6 * 16];
  if (g.accumulate) {
    for (int64_t i = 0; i < rows; ++i) {
      Store(buffer + 16 * i, LoadPart(c + i * g.c_row, width));
    }
  }
  tile(g, a, b, buffer, 16, b);
  for (int64_t i = 0; i < rows; ++i) {
    StorePart(c + i * g.c_row, width, Load(buffer + 16 * i));
  }
}

// Rows 1 to 3 over several whole panels at a time; returns columns done.
int64_t WideTiles(const GemmBlock& g) {
  const bool dense = g.a_k == 1;
  int64_t panels = 2;
  TileFunction tile = nullptr;
  if (g.rows == 1) {
    panels = 4;
    tile = dense ? Tile<1, 4, true> : Tile<1, 4, false>;
  } else if (g.rows == 2) {
    tile = dense ? Tile<2, 2, true> : Tile<2, 2, false>;
  } else {
    tile = dense ? Tile<3, 2, true> : Tile<3, 2, false>;
  }
  int64_t first = 0;
  for (; first + 16 * panels <= g.columns; first += 16 * panels) {
    const float* panel = g.b + first / 16 * g.b_panel;
    tile(g, g.a, panel, g.c + first, g.c_row, panel + panels * g.b_panel);
  }
  return first;
}

void Gemm(const GemmBlock& g) {
  if (g.rows <= 0) return;
  const TileFunction* tiles = g.a_k == 1 ? kDenseTiles : kStridedTiles;
  // Blocks of at most 6 rows, as even as they can be.
  const int64_t blocks = (g.rows + 5) / 6;
  for (int64_t first = g.rows <= 3 ? WideTiles(g) : 0; first < g.columns;
       first += 16) {
    const int64_t width = g.columns - first < 16 ? g.columns - first : 16;
    const float* panel = g.b + first / 16 * g.b_panel;
    int64_t row = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t rows =
          (g.rows - row + blocks - block - 1) / (blocks - block);
      const float* a = g.a + row * g.a_row;
      float* c = g.c + row * g.c_row + first;
      if (width == 16) {
        tiles[rows - 1](g, a, panel, c, g.c_row,
                        block == 0 ? panel + g.b_panel : panel);
      } else {
        EdgeTile(g, tiles[rows - 1], rows, width, a, panel, c);
      }
      row += rows;
    }
  }
}

// The first `count` lanes, none below 0 and all from 8 on.
__m256i ColumnMask(int64_t count) {
  return LaneMask(count < 0 ? 0 : count > 8 ? 8 : count, 0);
}

const float* RowOf(const float* base, int64_t row, const int32_t* index,
                   int64_t i) {
  return base + (index == nullptr ? i : index[i]) * row;
}

float* YRow(const RowsProduct& p, int64_t i) {
  return p.y + (p.y_index == nullptr ? i : p.y_index[i]) * p.y_row;
}

// Rows i .. i + M of y, 8 W columns from c.
template <int M, int W>
void RowTile(const RowsProduct& p, int64_t i, int64_t c) {
  __m256 sum[M][W];
#pragma GCC unroll 8
  for (int r = 0; r < M; ++r) {
    const float* y = YRow(p, i + r) + c;
#pragma GCC unroll 8
    for (int v = 0; v < W; ++v) {
      sum[r][v] = p.into == Into::kContinue ? _mm256_loadu_ps(y + 8 * v)
                                            : _mm256_setzero_ps();
    }
  }
  const float* a = p.a + i * p.a_row;
  for (int64_t k = 0; k < p.k; ++k) {
    const float* from = RowOf(p.b, p.b_row, p.b_index, k) + c;
    __m256 b[W];
#pragma GCC unroll 8
    for (int v = 0; v < W; ++v) b[v] = _mm256_loadu_ps(from + 8 * v);
#pragma GCC unroll 8
    for (int r = 0; r < M; ++r) {
      const __m256 factor = _mm256_broadcast_ss(a + r * p.a_row);
#pragma GCC unroll 8
      for (int v = 0; v < W; ++v) {
        sum[r][v] = _mm256_fmadd_ps(factor, b[v], sum[r][v]);
      }
    }
    a += p.a_col;
  }
#pragma GCC unroll 8
  for (int r = 0; r < M; ++r) {
    float* y = YRow(p, i + r) + c;
#pragma GCC unroll 8
    for (int v = 0; v < W; ++v) {
      float* to = y + 8 * v;
      _mm256_storeu_ps(to, p.into == Into::kAdd
                               ? _mm256_add_ps(_mm256_loadu_ps(to), sum[r][v])
                               : sum[r][v]);
    }
  }
}

// The same for the `mask`ed lanes of 8 columns.
template <int M>
void RowTile8(const RowsProduct& p, int64_t i, int64_t c, __m256i mask) {
  __m256 sum[M];
#pragma GCC unroll 4
  for (int r = 0; r < M; ++r) {
    sum[r] = p.into == Into::kContinue
                 ? _mm256_maskload_ps(YRow(p, i + r) + c, mask)
                 : _mm256_setzero_ps();
  }
  const float* a = p.a + i * p.a_row;
  for (int64_t k = 0; k < p.k; ++k) {
    const float* b = RowOf(p.b, p.b_row, p.b_index, k) + c;
    const __m256 b0 = _mm256_maskload_ps(b, mask);
#pragma GCC unroll 4
    for (int r = 0; r < M; ++r) {
      const __m256 factor = _mm256_broadcast_ss(a + r * p.a_row);
      sum[r] = _mm256_fmadd_ps(factor, b0, sum[r]);
    }
    a += p.a_col;
  }
#pragma GCC unroll 4
  for (int r = 0; r < M; ++r) {
    float* to = YRow(p, i + r) + c;
    if (p.into == Into::kAdd) {
      sum[r] = _mm256_add_ps(_mm256_maskload_ps(to, mask), sum[r]);
    }
    _mm256_maskstore_ps(to, mask, sum[r]);
  }
}

template <int M>
void AllColumns(const RowsProduct& p, int64_t i) {
  // As many chains at once as hide the latency of an FMA.
  constexpr int kWide = M == 1 ? 8 : M == 2 ? 4 : 2;
  int64_t c = 0;
  for (; c + 8 * kWide <= p.n; c += 8 * kWide) RowTile<M, kWide>(p, i, c);
  for (; c + 16 <= p.n; c += 16) RowTile<M, 2>(p, i, c);
  for (; c < p.n; c += 8) RowTile8<M>(p, i, c, ColumnMask(p.n - c));
}

void RowsProductOf(const RowsProduct& p) {
  int64_t i = 0;
  for (; i + 4 <= p.m; i += 4) AllColumns<4>(p, i);
  switch (p.m - i) {
    case 3:
      return AllColumns<3>(p, i);
    case 2:
      return AllColumns<2>(p, i);
    case 1:
      return AllColumns<1>(p, i);
  }
}

#include "kernels/cpu/transpose_avx2.inc"

void GatherTransposed(const float* keys, int64_t row_stride,
                      const int32_t* rows, int64_t count, int64_t dims,
                      float* out) {
  int64_t j = 0;
  for (; j + 8 <= count; j += 8) {
    const float* from[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) from[i] = keys + rows[j + i] * row_stride;
    TransposeEight(from, dims, out + j);
  }
  for (; j < count; ++j) {
    const float* key = keys + rows[j] * row_stride;
    for (int64_t d = 0; d < dims; ++d) out[d * kKeyBlock + j] = key[d];
  }
}

#include "kernels/cpu/tier_body.inc"

}  // namespace

void SetAvx2Kernels(TierKernels* kernels) {
  SetRowKernels(kernels);
  kernels->gemm = Gemm;
  kernels->rows_product = RowsProductOf;
  kernels->gather_transposed = GatherTransposed;
  SetAvx2Pairs(kernels);
  SetAvx2Codes(kernels);
}

}  // namespace temper
