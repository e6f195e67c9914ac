// Products of bf16 operands in the AVX2 tier: bf16 is the upper half of a
// float, so a pair gives the floats of both chains by a shift and a mask. Built
// with the flags of tier_avx2.cc.

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/tier.h"

namespace temper {
namespace {

#include "kernels/cpu/transpose_avx2.inc"

constexpr int64_t kPairs = kPairBlock / 2;

int64_t PairsIn(int64_t depth) {
  return (depth + kPairBlock - 1) / kPairBlock * kPairs;
}

// Of 8 columns: the even k's element of each pair as a float, or the odd k's.
template <bool kOdd>
__m256 Chosen(const uint32_t* pair) {
  const __m256i both =
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(pair));
  return _mm256_castsi256_ps(
      kOdd ? _mm256_and_si256(both, _mm256_set1_epi32(-65536))
           : _mm256_slli_epi32(both, 16));
}

// One of the two chains of a block, for kRows x 8 kVectors outputs in
// registers. Vector j of b is at b + j / 2 panel + j % 2 * 8. Of a short block
// only its pairs are multiplied: the padding's FMAs come to one addition of +0.
// The chain over even k comes first and is left in `even`; the one over odd k
// makes of it what the totals, which rest in L1, take.
template <int kRows, int kVectors, bool kOdd>
void Chain(const char* a, int64_t a_row, const uint32_t* b, int64_t b_panel,
           int64_t b_pair, int64_t pairs, __m256 (*even)[kVectors],
           float (*total)[8 * kVectors]) {
  __m256 sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) sum[i][j] = _mm256_setzero_ps();
  }
  a += kOdd ? sizeof(float) : 0;
#pragma GCC unroll 2
  for (int64_t p = 0; p < pairs; ++p) {
    __m256 row[kVectors];
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) {
      row[j] = Chosen<kOdd>(b + j / 2 * b_panel + j % 2 * 8);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const __m256 value =
          _mm256_broadcast_ss(reinterpret_cast<const float*>(a + i * a_row));
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) {
        sum[i][j] = _mm256_fmadd_ps(value, row[j], sum[i][j]);
      }
    }
    a += 2 * sizeof(float);
    b += b_pair;
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) {
      if (pairs < kPairs) {
        sum[i][j] = _mm256_add_ps(sum[i][j], _mm256_setzero_ps());
      }
      if (kOdd) {
        float* to = &total[i][8 * j];
        _mm256_store_ps(to,
                        _mm256_add_ps(_mm256_load_ps(to),
                                      _mm256_add_ps(even[i][j], sum[i][j])));
      } else {
        even[i][j] = sum[i][j];
      }
    }
  }
}

template <int kRows, int kVectors>
void Tile(const PairBlock& g, const char* a, const uint32_t* b,
          float (*total)[8 * kVectors]) {
  __m256 even[kRows][kVectors];
  for (int64_t k = 0; k < g.depth; k += kPairBlock) {
    const int64_t left = (g.depth - k + 1) / 2;
    const int64_t pairs = left < kPairs ? left : kPairs;
    Chain<kRows, kVectors, false>(a, g.a_row, b, g.b_panel, g.b_pair, pairs,
                                  even, total);
    Chain<kRows, kVectors, true>(a, g.a_row, b, g.b_panel, g.b_pair, pairs,
                                 even, total);
    a += kPairBlock * sizeof(float);
    b += kPairs * g.b_pair;
  }
}

// Of the first n of 8 floats or dwords: ones, then zeros.
alignas(32) constexpr int32_t kOnes[16] = {-1, -1, -1, -1, -1, -1, -1, -1};

__m256i FirstOf(int64_t n) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kOnes + 8 - n));
}

// What `into` says of `width` columns of one row.
void Finish(Into into, const float* total, int64_t width, float* c) {
  for (int64_t j = 0; j < width; j += 8) {
    const __m256i mask = FirstOf(width - j < 8 ? width - j : 8);
    __m256 sum = _mm256_load_ps(total + j);
    if (into == Into::kAdd) {
      sum = _mm256_add_ps(_mm256_maskload_ps(c + j, mask), sum);
    }
    _mm256_maskstore_ps(c + j, mask, sum);
  }
}

// `width` <= 8 kVectors columns of kRows rows.
template <int kRows, int kVectors>
void WholeTile(const PairBlock& g, int64_t row, int64_t first, int64_t width) {
  alignas(32) float total[kRows][8 * kVectors] = {};
  float* c = g.c + row * g.c_row + first;
  if (g.into == Into::kContinue) {
    for (int i = 0; i < kRows; ++i) {
      for (int64_t j = 0; j < width; ++j) total[i][j] = c[i * g.c_row + j];
    }
  }
  Tile<kRows, kVectors>(g, static_cast<const char*>(g.a) + row * g.a_row,
                        g.b + first / 16 * g.b_panel, total);
  for (int i = 0; i < kRows; ++i) {
    Finish(g.into, total[i], width, c + i * g.c_row);
  }
}

// Of one or two rows more columns at once, so that enough chains are in flight.
template <int kRows, int kVectors>
int64_t WideTiles(const PairBlock& g) {
  int64_t first = 0;
  for (; first + 8 * kVectors <= g.columns; first += 8 * kVectors) {
    WholeTile<kRows, kVectors>(g, 0, first, 8 * kVectors);
  }
  return first;
}

using TileFunction = void (*)(const PairBlock&, int64_t, int64_t, int64_t);
constexpr int64_t kTileRows = 6;
constexpr TileFunction kTiles[] = {WholeTile<1, 2>, WholeTile<2, 2>,
                                   WholeTile<3, 2>, WholeTile<4, 2>,
                                   WholeTile<5, 2>, WholeTile<6, 2>};

void PairProduct(const PairBlock& g) {
  if (g.rows <= 0) return;
  int64_t first = 0;
  if (g.rows == 1) first = WideTiles<1, 8>(g);
  if (g.rows == 2) first = WideTiles<2, 4>(g);
  // Blocks of at most 6 rows, as even as they can be.
  const int64_t blocks = (g.rows + kTileRows - 1) / kTileRows;
  for (; first < g.columns; first += 16) {
    const int64_t width = g.columns - first < 16 ? g.columns - first : 16;
    int64_t row = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t rows =
          (g.rows - row + blocks - block - 1) / (blocks - block);
      kTiles[rows - 1](g, row, first, width);
      row += rows;
    }
  }
}

// Rounded to bf16, left in the upper halves: floats that bf16 can hold.
__m256i Rounded(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i upper = _mm256_set1_epi32(-65536);
  const __m256i odd =
      _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i nearest =
      _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i tiny =
      _mm256_cmpeq_epi32(_mm256_and_si256(bits, _mm256_set1_epi32(0x7f800000)),
                         _mm256_setzero_si256());
  const __m256i sign = _mm256_and_si256(bits, _mm256_set1_epi32(INT32_MIN));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  __m256i out = _mm256_blendv_epi8(nearest, sign, tiny);
  out = _mm256_blendv_epi8(out, quiet, nan);
  return _mm256_and_si256(out, upper);
}

__m256 LoadFirst(const float* x, int64_t n) {
  return n >= 8 ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, FirstOf(n));
}

void PackA(const float* a, int64_t a_row, int64_t a_k, int64_t rows,
           int64_t depth, void* packed, int64_t packed_row) {
  const int64_t padded = 2 * PairsIn(depth);
  if (a_k != 1) {  // along its rows, which are dense as a rule
    const auto take = [&](int64_t i, int64_t k, const float* from) {
      const __m256i value = Rounded(_mm256_broadcast_ss(from));
      auto* to = static_cast<char*>(packed) + i * packed_row;
      _mm_store_ss(reinterpret_cast<float*>(to) + k,
                   _mm256_castps256_ps128(_mm256_castsi256_ps(value)));
    };
    const float zero = 0;
    for (int64_t k = 0; k < padded; ++k) {
      for (int64_t i = 0; i < rows; ++i) {
        take(i, k, k < depth ? a + i * a_row + k * a_k : &zero);
      }
    }
    return;
  }
  for (int64_t i = 0; i < rows; ++i) {
    auto* to =
        reinterpret_cast<float*>(static_cast<char*>(packed) + i * packed_row);
    for (int64_t k = 0; k < padded; k += 8) {
      const int64_t left = depth - k;
      const __m256i value = left <= 0
                                ? _mm256_setzero_si256()
                                : Rounded(LoadFirst(a + i * a_row + k, left));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + k), value);
    }
  }
}

// Stores the first n of 8 pairs of columns j, j + 1, .., j a multiple of 8.
void StorePairs(uint32_t* out, int64_t panel, int64_t p, int64_t j, int64_t n,
                __m256i pairs) {
  auto* to = reinterpret_cast<int*>(out + j / 16 * panel + p * 16 + j % 16);
  if (n >= 8) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), pairs);
  } else {
    _mm256_maskstore_epi32(to, FirstOf(n), pairs);
  }
}

void PairFloats(const float* x, int64_t x_row, int64_t depth, int64_t columns,
                uint32_t* out, int64_t panel) {
  for (int64_t p = 0; p < PairsIn(depth); ++p) {
    const float* row = x + 2 * p * x_row;
    for (int64_t j = 0; j < columns; j += 8) {
      const int64_t n = columns - j;
      __m256i pairs = _mm256_setzero_si256();
      if (2 * p < depth) {
        pairs = _mm256_srli_epi32(Rounded(LoadFirst(row + j, n)), 16);
      }
      if (2 * p + 1 < depth) {
        pairs = _mm256_or_si256(pairs, Rounded(LoadFirst(row + x_row + j, n)));
      }
      StorePairs(out, panel, p, j, n, pairs);
    }
  }
}

// 8 bf16 as dwords; what is beyond the first n is not read.
__m256i LoadNarrow(const uint16_t* x, int64_t n) {
  if (n >= 8) {
    return _mm256_cvtepu16_epi32(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
  }
  alignas(16) uint16_t part[8] = {};
  for (int64_t i = 0; i < n; ++i) part[i] = x[i];
  return _mm256_cvtepu16_epi32(
      _mm_load_si128(reinterpret_cast<const __m128i*>(part)));
}

void PairRows(const uint16_t* x, int64_t x_row, const int32_t* index,
              int64_t depth, int64_t columns, uint32_t* out, int64_t panel) {
  const auto row = [=](int64_t k) {
    return x + (index == nullptr ? k : index[k]) * x_row;
  };
  for (int64_t p = 0; p < PairsIn(depth); ++p) {
    const uint16_t* low = 2 * p < depth ? row(2 * p) : nullptr;
    const uint16_t* high = 2 * p + 1 < depth ? row(2 * p + 1) : nullptr;
    for (int64_t j = 0; j < columns; j += 8) {
      const int64_t n = columns - j;
      __m256i pairs = _mm256_setzero_si256();
      if (low != nullptr) pairs = LoadNarrow(low + j, n);
      if (high != nullptr) {
        pairs = _mm256_or_si256(pairs,
                                _mm256_slli_epi32(LoadNarrow(high + j, n), 16));
      }
      StorePairs(out, panel, p, j, n, pairs);
    }
  }
}

// Pairs of a key are dwords that lie together, so that this is the transposing
// of floats; the last pair of an odd key and the padding are put in by hand.
void PairKeys(const uint16_t* keys, int64_t row_stride, const int32_t* rows,
              int64_t count, int64_t dims, uint32_t* out) {
  const int64_t whole = dims / 2;
  int64_t j = 0;
  for (; j + 8 <= count; j += 8) {
    const float* from[8];
    for (int i = 0; i < 8; ++i) {
      from[i] = reinterpret_cast<const float*>(keys + rows[j + i] * row_stride);
    }
    TransposeEight(from, whole, reinterpret_cast<float*>(out + j));
  }
  for (; j < count; ++j) {
    const uint16_t* key = keys + rows[j] * row_stride;
    for (int64_t p = 0; p < whole; ++p) {
      out[p * kKeyBlock + j] = key[2 * p] | uint32_t{key[2 * p + 1]} << 16;
    }
  }
  for (int64_t p = whole; p < PairsIn(dims); ++p) {
    for (j = 0; j < count; ++j) {
      out[p * kKeyBlock + j] =
          2 * p < dims ? keys[rows[j] * row_stride + 2 * p] : 0;
    }
  }
}

void RoundBf16(const float* x, uint16_t* y, int64_t n) {
  for (int64_t i = 0; i < n; i += 8) {
    const __m256i dwords =
        _mm256_srli_epi32(Rounded(LoadFirst(x + i, n - i)), 16);
    const __m128i narrow = _mm_packus_epi32(
        _mm256_castsi256_si128(dwords), _mm256_extracti128_si256(dwords, 1));
    if (n - i >= 8) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(y + i), narrow);
      continue;
    }
    alignas(16) uint16_t part[8];
    _mm_store_si128(reinterpret_cast<__m128i*>(part), narrow);
    for (int64_t j = 0; i + j < n; ++j) y[i + j] = part[j];
  }
}

void WidenBf16(const uint16_t* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; i += 8) {
    // A denormal becomes the zero that it stands for: its sign alone. (A
    // product with 1 would do, but compilers take it away.)
    const __m256i bits = _mm256_slli_epi32(LoadNarrow(x + i, n - i), 16);
    const __m256i tiny = _mm256_cmpeq_epi32(
        _mm256_and_si256(bits, _mm256_set1_epi32(0x7f800000)),
        _mm256_setzero_si256());
    const __m256 wide = _mm256_castsi256_ps(_mm256_andnot_si256(
        _mm256_and_si256(tiny, _mm256_set1_epi32(INT32_MAX)), bits));
    if (n - i >= 8) {
      _mm256_storeu_ps(y + i, wide);
    } else {
      _mm256_maskstore_ps(y + i, FirstOf(n - i), wide);
    }
  }
}

}  // namespace

void SetAvx2Pairs(TierKernels* kernels) {
  kernels->pair_product = PairProduct;
  kernels->pack_a = PackA;
  kernels->pack_a_bytes = sizeof(float);
  kernels->pair_rows = PairRows;
  kernels->pair_floats = PairFloats;
  kernels->pair_keys = PairKeys;
  kernels->round_bf16 = RoundBf16;
  kernels->widen_bf16 = WidenBf16;
}

}  // namespace temper
