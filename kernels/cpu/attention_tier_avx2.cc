// Eight lanes to a register. Built with -mavx2 -mfma; includes nothing but
// intrinsics, so that the linker can never hand an AVX2 copy of a shared
// inline function to code that must run anywhere.

#include <immintrin.h>

#include "kernels/cpu/attention_tier.h"

namespace temper {
namespace {

alignas(32) constexpr int32_t kMaskTable[16] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                                0,  0,  0,  0,  0,  0,  0,  0};

// The first `count` lanes, none below 0 and all from 8 on.
__m256i FirstLanes(int64_t count) {
  const int64_t on = count < 0 ? 0 : count > 8 ? 8 : count;
  return _mm256_loadu_si256(
      reinterpret_cast<const __m256i*>(kMaskTable + 8 - on));
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
void Tile(const RowsProduct& p, int64_t i, int64_t c) {
  __m256 sum[M][W];
#pragma GCC unroll 8
  for (int r = 0; r < M; ++r) {
    const float* y = YRow(p, i + r) + c;
#pragma GCC unroll 8
    for (int v = 0; v < W; ++v) {
      sum[r][v] =
          p.accumulate ? _mm256_loadu_ps(y + 8 * v) : _mm256_setzero_ps();
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
    for (int v = 0; v < W; ++v) _mm256_storeu_ps(y + 8 * v, sum[r][v]);
  }
}

// The same for the `mask`ed lanes of 8 columns.
template <int M>
void Tile8(const RowsProduct& p, int64_t i, int64_t c, __m256i mask) {
  __m256 sum[M];
#pragma GCC unroll 4
  for (int r = 0; r < M; ++r) {
    sum[r] = p.accumulate ? _mm256_maskload_ps(YRow(p, i + r) + c, mask)
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
    _mm256_maskstore_ps(YRow(p, i + r) + c, mask, sum[r]);
  }
}

template <int M>
void RowTile(const RowsProduct& p, int64_t i) {
  // As many chains at once as hide the latency of an FMA.
  constexpr int kWide = M == 1 ? 8 : M == 2 ? 4 : 2;
  int64_t c = 0;
  for (; c + 8 * kWide <= p.n; c += 8 * kWide) Tile<M, kWide>(p, i, c);
  for (; c + 16 <= p.n; c += 16) Tile<M, 2>(p, i, c);
  for (; c < p.n; c += 8) Tile8<M>(p, i, c, FirstLanes(p.n - c));
}

void RowsProductAvx2(const RowsProduct& p) {
  int64_t i = 0;
  for (; i + 4 <= p.m; i += 4) RowTile<4>(p, i);
  switch (p.m - i) {
    case 3:
      return RowTile<3>(p, i);
    case 2:
      return RowTile<2>(p, i);
    case 1:
      return RowTile<1>(p, i);
  }
}

void Transpose8x8(const float* const* from, float* out) {
  __m256 r[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(from[i]);
  __m256 t[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xEE);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(out + i * kKeyBlock,
                     _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_storeu_ps(out + (i + 4) * kKeyBlock,
                     _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}

void GatherTransposedAvx2(const float* keys, int64_t row_stride,
                          const int32_t* rows, int64_t count, int64_t dims,
                          float* out) {
  int64_t j = 0;
  for (; j + 8 <= count; j += 8) {
    const float* from[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) from[i] = keys + rows[j + i] * row_stride;
    int64_t d = 0;
    for (; d + 8 <= dims; d += 8) {
      Transpose8x8(from, out + d * kKeyBlock + j);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) from[i] += 8;
    }
    for (; d < dims; ++d) {
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) out[d * kKeyBlock + j + i] = *from[i]++;
    }
  }
  for (; j < count; ++j) {
    const float* key = keys + rows[j] * row_stride;
    for (int64_t d = 0; d < dims; ++d) out[d * kKeyBlock + j] = key[d];
  }
}

constexpr AttentionTier kTier = {RowsProductAvx2, GatherTransposedAvx2};

}  // namespace

const AttentionTier& Avx2AttentionTier() { return kTier; }

}  // namespace temper
