// The AVX2 tier: 16 lanes are two registers. Built with -mavx2 -mfma.

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/tier.h"

namespace temper {
namespace {

constexpr const char* kTierName = "avx2";
// Adding this rounds to an integer, left in the low bits of the mantissa.
constexpr float kRound = 12582912.0f;  // 1.5 * 2^23

struct V16 {
  __m256 low;
  __m256 high;
};

// The first n of 16 lanes: 16 ones, then zeros, read from 16 - n on.
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
          int64_t c_row) {
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
  const int64_t b_k = g.b_k, b_panel = g.b_panel;
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
    a += a_k;
    b += b_k;
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
                              float*, int64_t);

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
  tile(g, a, b, buffer, 16);
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
    tile(g, g.a, g.b + first / 16 * g.b_panel, g.c + first, g.c_row);
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
        tiles[rows - 1](g, a, panel, c, g.c_row);
      } else {
        EdgeTile(g, tiles[rows - 1], rows, width, a, panel, c);
      }
      row += rows;
    }
  }
}

#include "kernels/cpu/tier_body.inc"

}  // namespace

const TierKernels* Avx2Kernels() { return &kKernels; }

}  // namespace temper
