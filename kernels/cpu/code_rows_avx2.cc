// What reads packed codes in the AVX2 tier: 32 of them at a time, which are
// four k's of 8 columns. Built with the flags of tier_avx2.cc.

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/tier.h"

namespace temper {
namespace {

#include "kernels/cpu/code_tables.inc"

constexpr int64_t kBlock = 128;
// How far ahead codes are asked for: what reads memory in order for the
// processor stops at the end of a page.
constexpr int64_t kAhead = 2048;

// A pair of k's of 8 columns, and the next pair: bf16, two in a dword.
struct Pairs {
  __m256i first;
  __m256i second;
};

__m256i Table(const uint8_t* bytes) {
  return _mm256_broadcastsi128_si256(
      _mm_load_si128(reinterpret_cast<const __m128i*>(bytes)));
}

[[gnu::always_inline]] inline Pairs Widened(const uint8_t* from) {
  const __m256i codes =
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  const __m256i magnitude = _mm256_and_si256(codes, _mm256_set1_epi8(0x7f));
  // Its uppermost bit, with which nothing is looked up, is that of what is not
  // small.
  const __m256i small = _mm256_add_epi8(magnitude, _mm256_set1_epi8(0x70));
  const __m256i nan = _mm256_cmpeq_epi8(magnitude, _mm256_set1_epi8(0x7f));
  const __m256i top =
      _mm256_and_si256(_mm256_srli_epi16(codes, 4), _mm256_set1_epi8(0x0f));
  const __m256i upper = _mm256_or_si256(
      _mm256_or_si256(_mm256_shuffle_epi8(Table(kUpper), top),
                      _mm256_shuffle_epi8(Table(kUpperOfSmall), small)),
      nan);
  const __m256i lower = _mm256_xor_si256(
      _mm256_and_si256(_mm256_slli_epi16(codes, 4),
                       _mm256_set1_epi8(static_cast<char>(0xf0))),
      _mm256_shuffle_epi8(Table(kLowerOfSmall), small));
  return {_mm256_unpacklo_epi8(lower, upper),
          _mm256_unpackhi_epi8(lower, upper)};
}

__m256 Even(__m256i pairs) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}

__m256 Odd(__m256i pairs) {
  return _mm256_castsi256_ps(
      _mm256_and_si256(pairs, _mm256_set1_epi32(-65536)));
}

constexpr int64_t kPairs = kPairBlock / 2;

// As floats, which FMAs take as they are: of a block of pairs 16 even k's rows
// of 16 columns, then those of the odd ones.
void WidenFours(const uint8_t* codes, int64_t n, void* b) {
  auto* out = static_cast<float*>(b);
  for (int64_t i = 0; i < n; i += 8, out += kPairBlock * 16) {
    for (int64_t four = 0; four < 8; ++four) {
      float* const even = out + four * 32;
      float* const odd = even + kPairs * 16;
#pragma GCC unroll 2
      for (int half = 0; half < 16; half += 8) {
        const Pairs wide = Widened(codes + half * 4);
        _mm256_storeu_ps(even + half, Even(wide.first));
        _mm256_storeu_ps(odd + half, Odd(wide.first));
        _mm256_storeu_ps(even + 16 + half, Even(wide.second));
        _mm256_storeu_ps(odd + 16 + half, Odd(wide.second));
      }
      codes += kCodeFour;
    }
  }
}

// Adds a block of the depth to kRows x 8 kHalves totals: its codes are never in
// memory any wider.
template <int kRows, int kHalves>
void AddBlock(const CodeRows& p, int64_t k, const uint8_t* codes,
              __m256 (*total)[2]) {
  const int64_t depth = p.depth - k < kBlock ? p.depth - k : kBlock;
  const float* x = p.x + k * p.rows;
  __m256 sum[kRows][kHalves] = {};
  for (int64_t at = 0; at < depth; at += kPairBlock) {
    __m256 even[kRows][kHalves] = {}, odd[kRows][kHalves] = {};
#pragma GCC unroll 2
    for (int64_t four = 0; four < kPairBlock; four += 4) {
      _mm_prefetch(codes + kAhead, _MM_HINT_T0);
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; ++h) {
        const Pairs pairs = Widened(codes + 32 * h);
#pragma GCC unroll 4
        for (int i = 0; i < kRows; ++i) {
          const float* const row = x + i * 4;
          even[i][h] = _mm256_fmadd_ps(_mm256_broadcast_ss(row),
                                       Even(pairs.first), even[i][h]);
          odd[i][h] = _mm256_fmadd_ps(_mm256_broadcast_ss(row + 1),
                                      Odd(pairs.first), odd[i][h]);
          even[i][h] = _mm256_fmadd_ps(_mm256_broadcast_ss(row + 2),
                                       Even(pairs.second), even[i][h]);
          odd[i][h] = _mm256_fmadd_ps(_mm256_broadcast_ss(row + 3),
                                      Odd(pairs.second), odd[i][h]);
        }
      }
      x += 4 * p.rows;
      codes += kCodeFour;
    }
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; ++h) {
        sum[i][h] =
            _mm256_add_ps(sum[i][h], _mm256_add_ps(even[i][h], odd[i][h]));
      }
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
    const __m256 scale = _mm256_set1_ps(
        p.x_scales[i * p.scales_row + k / kBlock] * p.scales[k / kBlock]);
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) {
      total[i][h] = _mm256_fmadd_ps(sum[i][h], scale, total[i][h]);
    }
  }
}

// 16 columns of rows from `row` on, from column j.
template <int kRows>
void Panel(const CodeRows& whole, int64_t row, int64_t j) {
  CodeRows p = whole;
  p.x += row * 4;
  p.x_scales += row * p.scales_row;
  float* const y = p.y + row * p.y_row + j;
  const int64_t width = p.columns - j < 16 ? p.columns - j : 16;
  const size_t bytes = static_cast<size_t>(width) * sizeof(float);
  const uint8_t* const codes = p.codes + j / 16 * p.panel;
  __m256 total[kRows][2] = {};
  alignas(32) float part[16] = {};
  for (int i = 0; p.accumulate && i < kRows; ++i) {
    __builtin_memcpy(part, y + i * p.y_row, bytes);
    total[i][0] = _mm256_load_ps(part);
    total[i][1] = _mm256_load_ps(part + 8);
  }
  for (int64_t k = 0; k < p.depth; k += kBlock) {
    // Of more rows than one the chains of a half are enough in flight.
    if (kRows == 1) {
      AddBlock<kRows, 2>(p, k, codes + k * 16, total);
      continue;
    }
    for (int h = 0; h < 2; ++h) {
      __m256 half[kRows][2];
      for (int i = 0; i < kRows; ++i) half[i][0] = total[i][h];
      AddBlock<kRows, 1>(p, k, codes + k * 16 + 32 * h, half);
      for (int i = 0; i < kRows; ++i) total[i][h] = half[i][0];
    }
  }
  for (int i = 0; i < kRows; ++i) {
    _mm256_store_ps(part, total[i][0]);
    _mm256_store_ps(part + 8, total[i][1]);
    __builtin_memcpy(y + i * p.y_row, part, bytes);
  }
}

using PanelFunction = void (*)(const CodeRows&, int64_t, int64_t);
constexpr int64_t kPanelRows = 4;
constexpr PanelFunction kPanels[kPanelRows] = {Panel<1>, Panel<2>, Panel<3>,
                                               Panel<4>};

// A panel is read again, from L1, by rows that do not fit the registers.
void CodeRowsProduct(const CodeRows& p) {
  for (int64_t j = 0; j < p.columns; j += 16) {
    const int64_t half = p.rows > kPanelRows ? p.rows / 2 : 0;
    if (half > 0) kPanels[half - 1](p, 0, j);
    kPanels[p.rows - half - 1](p, half, j);
  }
}

// One of the two chains of a block of pairs, of kRows x 16 outputs; a is at its
// first element, b at its first row. The even k's is left in `even`; the odd
// ones' makes of it what the totals, which rest in L1, take.
template <int kRows, bool kOdd>
void Chain(const float* a, int64_t a_row, const float* b, __m256 (*even)[2],
           __m256 (*total)[2]) {
  __m256 sum[kRows][2];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) sum[i][0] = sum[i][1] = _mm256_setzero_ps();
#pragma GCC unroll 4
  for (int64_t p = 0; p < kPairs; ++p) {
    const __m256 low = _mm256_loadu_ps(b), high = _mm256_loadu_ps(b + 8);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const __m256 value = _mm256_broadcast_ss(a + i * a_row);
      sum[i][0] = _mm256_fmadd_ps(value, low, sum[i][0]);
      sum[i][1] = _mm256_fmadd_ps(value, high, sum[i][1]);
    }
    a += 2;
    b += 16;
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      if (kOdd) {
        total[i][j] =
            _mm256_add_ps(total[i][j], _mm256_add_ps(even[i][j], sum[i][j]));
      } else {
        even[i][j] = sum[i][j];
      }
    }
  }
}

// kRows x 16 outputs of a block of codes. Sums rest in L1 while the next chain
// has the registers.
template <int kRows>
void Tile(const PairBlock& g, int64_t row, int64_t first) {
  const int64_t a_row = g.a_row / static_cast<int64_t>(sizeof(float));
  const float* a = static_cast<const float*>(g.a) + row * a_row;
  const auto* b = reinterpret_cast<const float*>(g.b + first / 16 * g.b_panel);
  __m256 total[kRows][2] = {};
  for (int64_t k = 0; k < g.depth; k += kPairBlock) {
    __m256 even[kRows][2];
    Chain<kRows, false>(a, a_row, b, even, total);
    Chain<kRows, true>(a + 1, a_row, b + kPairs * 16, even, total);
    a += kPairBlock;
    b += kPairBlock * 16;
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
    float* const c = g.c + (row + i) * kTotalsRow + first;
    const __m256 factor = _mm256_broadcast_ss(g.factors + row + i);
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      const __m256 addend = g.into == Into::kScaled
                                ? _mm256_setzero_ps()
                                : _mm256_loadu_ps(c + 8 * j);
      _mm256_storeu_ps(c + 8 * j, _mm256_fmadd_ps(total[i][j], factor, addend));
    }
  }
}

using TileFunction = void (*)(const PairBlock&, int64_t, int64_t);
constexpr int64_t kTileRows = 6;
constexpr TileFunction kTiles[] = {Tile<1>, Tile<2>, Tile<3>,
                                   Tile<4>, Tile<5>, Tile<6>};

void CodeProduct(const PairBlock& g) {
  // Blocks of at most 6 rows, as even as they can be.
  const int64_t blocks = (g.rows + kTileRows - 1) / kTileRows;
  for (int64_t first = 0; first < g.columns; first += 16) {
    int64_t row = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t rows =
          (g.rows - row + blocks - block - 1) / (blocks - block);
      kTiles[rows - 1](g, row, first);
      row += rows;
    }
  }
}

}  // namespace

void SetAvx2CodeRows(TierKernels* kernels) {
  kernels->widen_fours = WidenFours;
  kernels->code_product = CodeProduct;
  kernels->code_b_bytes = sizeof(float);
  kernels->code_rows = CodeRowsProduct;
}

}  // namespace temper
