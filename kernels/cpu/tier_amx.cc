// The AMX tier: products of pairs by TDPBF16PS, all else as in its base. One
// tile product over a block of 32 is the definition to the bit: two chains from
// zero, over even and over odd k, then c += even + odd (measured on Emerald
// Rapids, 0 of 2.3 million results differ). Built with the flags of
// tier_avx512_bf16.cc, -mavx512vbmi, -mamx-tile and -mamx-bf16.

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/tier.h"

namespace temper {
namespace {

#include "kernels/cpu/code_scales.inc"
#include "kernels/cpu/quantise_avx512.inc"

constexpr int64_t kTile = 16;  // rows of a tile, and columns of c's
constexpr int64_t kElementBytes = sizeof(uint16_t);

// What LDTILECFG reads (Intel's manual, volume 1, section 18.2).
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

void Configure(const int64_t (&rows)[8]) {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    // A tile of no rows is one that is not used, and has to say so in both.
    config.rows[tile] = static_cast<uint8_t>(rows[tile]);
    config.row_bytes[tile] = rows[tile] == 0 ? 0 : 64;
  }
  _tile_loadconfig(&config);
}

// Tiles 0 .. 3 are c, two of `first` rows and two of `second`; 4 and 5 the rows
// of a; 6 and 7 pairs of b. Fewer rows are fewer steps of the tile unit.
void ConfigureForPairs(int64_t first, int64_t second) {
  Configure({first, first, second, second, first, second, kTile, kTile});
}

// Tiles 0 and 1 are sums, 2 and 3 pairs of b, 4 .. 7 a block of a's rows.
void ConfigureForCodes(int64_t rows) {
  Configure({rows, rows, kTile, kTile, rows, rows, rows, rows});
}

// Where the totals of 32 x 32 outputs lie: in c itself or, where c has fewer
// columns or gets them added, in a buffer.
struct Totals {
  float* at;
  int64_t row;
};

// c's lines lie in L3 where c is large, and a store that waits for one holds up
// the tiles: they are asked for while the sums form.
template <bool kTwoRows, bool kTwoPanels>
void Fetch(const Totals& total) {
  for (int64_t i = 0; i < (kTwoRows ? 2 : 1) * kTile; ++i) {
    const float* const row = total.at + i * total.row;
    _mm_prefetch(row, _MM_HINT_T0);
    if (kTwoPanels) _mm_prefetch(row + kTile, _MM_HINT_T0);
  }
}

template <bool kTwoRows, bool kTwoPanels>
void Multiply(const PairBlock& g, const char* a, const uint32_t* b,
              const Totals& total, bool from_zero) {
  const int64_t row = total.row * static_cast<int64_t>(sizeof(float));
  float* const low = total.at;
  float* const high = total.at + kTile * total.row;
  _tile_zero(0);
  if (kTwoPanels) _tile_zero(1);
  if (kTwoRows) _tile_zero(2);
  if (kTwoRows && kTwoPanels) _tile_zero(3);
  if (!from_zero) {
    _tile_loadd(0, low, row);
    if (kTwoPanels) _tile_loadd(1, low + kTile, row);
    if (kTwoRows) _tile_loadd(2, high, row);
    if (kTwoRows && kTwoPanels) _tile_loadd(3, high + kTile, row);
  }
  Fetch<kTwoRows, kTwoPanels>(total);
  // The rows pass by while the panels stay: the hint keeps a out of b's place.
  const int64_t pair = g.b_pair * static_cast<int64_t>(sizeof(uint32_t));
  for (int64_t k = 0; k < g.depth; k += kPairBlock) {
    _tile_loadd(6, b, pair);
    _tile_stream_loadd(4, a, g.a_row);
    _tile_dpbf16ps(0, 4, 6);
    if (kTwoRows) {
      _tile_stream_loadd(5, a + kTile * g.a_row, g.a_row);
      _tile_dpbf16ps(2, 5, 6);
    }
    if (kTwoPanels) {
      _tile_loadd(7, b + g.b_panel, pair);
      _tile_dpbf16ps(1, 4, 7);
    }
    if (kTwoRows && kTwoPanels) _tile_dpbf16ps(3, 5, 7);
    a += kPairBlock * kElementBytes;
    b += kPairBlock / 2 * g.b_pair;
  }
  _tile_stored(0, low, row);
  if (kTwoPanels) _tile_stored(1, low + kTile, row);
  if (kTwoRows) _tile_stored(2, high, row);
  if (kTwoRows && kTwoPanels) _tile_stored(3, high + kTile, row);
}

using MultiplyFunction = void (*)(const PairBlock&, const char*,
                                  const uint32_t*, const Totals&, bool);
constexpr MultiplyFunction kMultiply[2][2] = {
    {Multiply<false, false>, Multiply<false, true>},
    {Multiply<true, false>, Multiply<true, true>}};

// Rows row .. row + rows, at most 32 of them, of at most 32 columns.
void Outputs(const PairBlock& g, int64_t row, int64_t rows, int64_t first,
             int64_t width) {
  const char* a = static_cast<const char*>(g.a) + row * g.a_row;
  const uint32_t* b = g.b + first / kTile * g.b_panel;
  float* c = g.c + row * g.c_row + first;
  const MultiplyFunction multiply = kMultiply[rows > kTile][width > kTile];
  if (width % kTile == 0 && g.into != Into::kAdd) {
    return multiply(g, a, b, {c, g.c_row}, g.into == Into::kStore);
  }
  alignas(64) float buffer[2 * kTile][2 * kTile];
  if (g.into == Into::kContinue) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < 2 * kTile; ++j) {
        buffer[i][j] = j < width ? c[i * g.c_row + j] : 0.0f;
      }
    }
  }
  multiply(g, a, b, {buffer[0], 2 * kTile}, g.into != Into::kContinue);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < width; ++j) {
      float& to = c[i * g.c_row + j];
      to = g.into == Into::kAdd ? to + buffer[i][j] : buffer[i][j];
    }
  }
}

constexpr int64_t kTileFloats = kTile * kTile;

// Two tiles of sums of a block of codes, which wait to be scaled: while the
// next two form, vectors have nothing else to do.
struct Waiting {
  const float* sums = nullptr;
  float* totals = nullptr;
  const float* factors = nullptr;
  int64_t rows = 0;
};

// Rows [begin, begin + kRows) of one of them.
template <bool kAdd, int kRows>
[[gnu::always_inline]] inline void Scale(const float* sums, float* totals,
                                         const float* factors, int tile,
                                         int64_t begin) {
#pragma GCC unroll 4
  for (int64_t i = begin; i < begin + kRows; ++i) {
    float* const total = totals + i * kTotalsRow + tile * kTile;
    const __m512 addend = kAdd ? _mm512_loadu_ps(total) : _mm512_setzero_ps();
    const __m512 sum = _mm512_load_ps(sums + tile * kTileFloats + i * kTile);
    _mm512_storeu_ps(total,
                     _mm512_fmadd_ps(sum, _mm512_set1_ps(factors[i]), addend));
  }
}

template <bool kAdd>
void ScaleAll(const Waiting& w) {
  for (int64_t i = 0; i < w.rows; ++i) {
    Scale<kAdd, 1>(w.sums, w.totals, w.factors, 0, i);
    Scale<kAdd, 1>(w.sums, w.totals, w.factors, 1, i);
  }
}

// The sums of 16 rows, in tiles 4 to 7, and two panels, while what waits is
// scaled. A panel's two tiles take turns, so that one is read as the other is
// multiplied.
template <bool kAdd>
void MultiplyPanels(const uint32_t* b, int64_t b_panel, const Waiting& waiting,
                    float* sums) {
  const float* const from = waiting.sums;
  float* const totals = waiting.totals;
  const float* const factors = waiting.factors;
  const uint32_t* const b1 = b + b_panel;
  _tile_zero(0);
  _tile_zero(1);
  _tile_loadd(2, b, 64);
  _tile_dpbf16ps(0, 4, 2);
  Scale<kAdd, 4>(from, totals, factors, 0, 0);
  _tile_loadd(3, b1, 64);
  _tile_dpbf16ps(1, 4, 3);
  Scale<kAdd, 4>(from, totals, factors, 0, 4);
  _tile_loadd(2, b + kTileFloats, 64);
  _tile_dpbf16ps(0, 5, 2);
  Scale<kAdd, 4>(from, totals, factors, 0, 8);
  _tile_loadd(3, b1 + kTileFloats, 64);
  _tile_dpbf16ps(1, 5, 3);
  Scale<kAdd, 4>(from, totals, factors, 0, 12);
  _tile_loadd(2, b + 2 * kTileFloats, 64);
  _tile_dpbf16ps(0, 6, 2);
  Scale<kAdd, 4>(from, totals, factors, 1, 0);
  _tile_loadd(3, b1 + 2 * kTileFloats, 64);
  _tile_dpbf16ps(1, 6, 3);
  Scale<kAdd, 4>(from, totals, factors, 1, 4);
  _tile_loadd(2, b + 3 * kTileFloats, 64);
  _tile_dpbf16ps(0, 7, 2);
  Scale<kAdd, 4>(from, totals, factors, 1, 8);
  _tile_stored(0, sums, 64);
  _tile_loadd(3, b1 + 3 * kTileFloats, 64);
  _tile_dpbf16ps(1, 7, 3);
  Scale<kAdd, 4>(from, totals, factors, 1, 12);
  _tile_stored(1, sums + kTileFloats, 64);
}

// The same of fewer rows or a shorter depth, nothing the while.
void MultiplySome(const uint32_t* b, int64_t b_panel, int64_t depth,
                  float* sums) {
  for (int panel = 0; panel < 2; ++panel, b += b_panel, sums += kTileFloats) {
    _tile_zero(0);
    _tile_loadd(2, b, 64);
    _tile_dpbf16ps(0, 4, 2);
    if (depth > kPairBlock) {
      _tile_loadd(2, b + kTileFloats, 64);
      _tile_dpbf16ps(0, 5, 2);
    }
    if (depth > 2 * kPairBlock) {
      _tile_loadd(2, b + 2 * kTileFloats, 64);
      _tile_dpbf16ps(0, 6, 2);
    }
    if (depth > 3 * kPairBlock) {
      _tile_loadd(2, b + 3 * kTileFloats, 64);
      _tile_dpbf16ps(0, 7, 2);
    }
    _tile_stored(0, sums, 64);
  }
}

// All of a block of codes for at most 16 rows.
void LoadRows(const char* a, int64_t a_row, int64_t depth) {
  constexpr int64_t kBytes = kPairBlock * kElementBytes;
  _tile_loadd(4, a, a_row);
  if (depth > kPairBlock) _tile_loadd(5, a + kBytes, a_row);
  if (depth > 2 * kPairBlock) _tile_loadd(6, a + 2 * kBytes, a_row);
  if (depth > 3 * kPairBlock) _tile_loadd(7, a + 3 * kBytes, a_row);
}

// Rows inside, which pass by panels that stay in L1; of each 16 all of the
// depth is in tiles while they do.
template <bool kAdd>
void ScaledRows(const PairBlock& g, int64_t begin, int64_t end) {
  constexpr int64_t kStrip = 4 * kTile;
  alignas(64) float sums[2][2 * kTileFloats];
  Waiting waiting;
  int turn = 0;
  for (int64_t strip = 0; strip < g.columns; strip += kStrip) {
    const int64_t left = g.columns - strip;
    const int64_t last = strip + (left < kStrip ? left : kStrip);
    for (int64_t row = begin; row < end; row += kTile) {
      const int64_t rows = end - row < kTile ? end - row : kTile;
      LoadRows(static_cast<const char*>(g.a) + row * g.a_row, g.a_row, g.depth);
      for (int64_t first = strip; first < last; first += 2 * kTile) {
        const uint32_t* const b = g.b + first / kTile * g.b_panel;
        if (waiting.rows == kTile && g.depth > 3 * kPairBlock) {
          MultiplyPanels<kAdd>(b, g.b_panel, waiting, sums[turn]);
        } else {
          ScaleAll<kAdd>(waiting);
          MultiplySome(b, g.b_panel, g.depth, sums[turn]);
        }
        waiting = {sums[turn], g.c + row * kTotalsRow + first, g.factors + row,
                   rows};
        turn = 1 - turn;
      }
    }
  }
  ScaleAll<kAdd>(waiting);
}

// Columns outside, so that a pair of panels stays in L1 while the rows pass.
void OutputRows(const PairBlock& g, int64_t begin, int64_t end) {
  for (int64_t first = 0; first < g.columns; first += 2 * kTile) {
    const int64_t width =
        g.columns - first < 2 * kTile ? g.columns - first : 2 * kTile;
    for (int64_t row = begin; row < end; row += 2 * kTile) {
      Outputs(g, row, end - row < 2 * kTile ? end - row : 2 * kTile, first,
              width);
    }
  }
}

// A thread's tiles are its own, so they are configured, and given up, here.
void PairProduct(const PairBlock& g) {
  if (g.rows <= 0 || g.columns <= 0) return;
  const int64_t whole = g.rows / (2 * kTile) * 2 * kTile;
  if (whole > 0) {
    ConfigureForPairs(kTile, kTile);
    OutputRows(g, 0, whole);
  }
  const int64_t left = g.rows - whole;
  if (left > 0) {
    ConfigureForPairs(left < kTile ? left : kTile,
                      left < kTile ? 0 : left - kTile);
    OutputRows(g, whole, g.rows);
  }
  _tile_release();
}

void CodeProduct(const PairBlock& g) {
  const auto pass =
      g.into == Into::kAddScaled ? ScaledRows<true> : ScaledRows<false>;
  const int64_t whole = g.rows / kTile * kTile;
  if (whole > 0) {
    ConfigureForCodes(kTile);
    pass(g, 0, whole);
  }
  if (whole < g.rows) {
    ConfigureForCodes(g.rows - whole);
    pass(g, whole, g.rows);
  }
  _tile_release();
}

// Of 32 elements of a row from k on, zeros from `depth` on. VCVTNE2PS2BF16
// rounds as kernels/tensor/bf16.h does.
__m512i RoundRow(const float* row, int64_t k, int64_t depth) {
  const int64_t left = depth - k;
  const auto some = [](int64_t count) {
    return static_cast<__mmask16>(count >= 16  ? 0xffff
                                  : count <= 0 ? 0
                                               : (1 << count) - 1);
  };
  const __m512 low = _mm512_maskz_loadu_ps(some(left), row + k);
  const __m512 high = _mm512_maskz_loadu_ps(some(left - 16), row + k + 16);
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

// Dword i of row j to dword j of row i.
void Transpose(__m512i (&x)[16]) {
  __m512i y[16];
  for (int i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    for (int j = 0; j < 2; ++j) {
      x[i + 2 * j] = _mm512_unpacklo_epi64(y[i + j], y[i + j + 2]);
      x[i + 2 * j + 1] = _mm512_unpackhi_epi64(y[i + j], y[i + j + 2]);
    }
  }
  // Lanes of four dwords, now whole columns of four rows.
  for (int i = 0; i < 16; i += 8) {
    for (int j = 0; j < 4; ++j) {
      y[i + j] = _mm512_shuffle_i32x4(x[i + j], x[i + j + 4], 0x88);
      y[i + j + 4] = _mm512_shuffle_i32x4(x[i + j], x[i + j + 4], 0xdd);
    }
  }
  for (int j = 0; j < 8; ++j) {
    x[j] = _mm512_shuffle_i32x4(y[j], y[j + 8], 0x88);
    x[j + 8] = _mm512_shuffle_i32x4(y[j], y[j + 8], 0xdd);
  }
}

// The pair of `rows` <= 16 elements of columns k and k + 1, whose rows are
// neighbours, zeros from `depth` on: a dword a row.
__m512i RoundColumns(const float* a, int64_t a_k, __mmask16 rows, int64_t k,
                     int64_t depth) {
  const auto column = [&](int64_t at) {
    const __mmask16 there = at < depth ? rows : static_cast<__mmask16>(0);
    const __m512 x = _mm512_maskz_loadu_ps(there, a + at * a_k);
    return _mm512_cvtepu16_epi32(
        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
  };
  return _mm512_or_si512(column(k), _mm512_slli_epi32(column(k + 1), 16));
}

// Of a whose columns are contiguous, as those of a transposed matrix are.
void PackColumns(const float* a, int64_t a_k, int64_t rows, int64_t depth,
                 char* packed, int64_t packed_row) {
  for (int64_t row = 0; row < rows; row += kTile) {
    const int64_t count = rows - row < kTile ? rows - row : kTile;
    const auto there = static_cast<__mmask16>((1 << count) - 1);
    for (int64_t k = 0; k < depth; k += kPairBlock) {
      __m512i pairs[16];
      for (int p = 0; p < 16; ++p) {
        pairs[p] = RoundColumns(a + row, a_k, there, k + 2 * p, depth);
      }
      Transpose(pairs);
      char* to = packed + row * packed_row + k * kElementBytes;
      for (int64_t i = 0; i < count; ++i) {
        _mm512_storeu_si512(to + i * packed_row, pairs[i]);
      }
    }
  }
}

// As rows of bf16, zeros up to the end of the block, which a tile reads.
void PackA(const float* a, int64_t a_row, int64_t a_k, int64_t rows,
           int64_t depth, void* packed, int64_t packed_row) {
  char* to = static_cast<char*>(packed);
  if (a_k == 1) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t k = 0; k < depth; k += kPairBlock) {
        _mm512_storeu_si512(to + i * packed_row + k * kElementBytes,
                            RoundRow(a + i * a_row, k, depth));
      }
    }
  } else if (a_row == 1) {
    PackColumns(a, a_k, rows, depth, to, packed_row);
  } else {
    float row[kPairBlock];
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t k = 0; k < depth; k += kPairBlock) {
        for (int64_t j = 0; j < kPairBlock; ++j) {
          row[j] = k + j < depth ? a[i * a_row + (k + j) * a_k] : 0.0f;
        }
        _mm512_storeu_si512(to + i * packed_row + k * kElementBytes,
                            RoundRow(row, 0, kPairBlock));
      }
    }
  }
}

void PackCodes(const float* x, int64_t depth, void* packed, int64_t block_bytes,
               float* scales, int64_t scales_step) {
  QuantiseRow(x, depth, scales, scales_step,
              [=](int64_t block, int64_t i, __m512 low, __m512 high) {
                _mm512_storeu_si512(
                    static_cast<char*>(packed) + block * block_bytes +
                        i * kElementBytes,
                    reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
              });
}

}  // namespace

void SetAmxKernels(TierKernels* kernels) {
  kernels->pair_product = PairProduct;
  kernels->code_product = CodeProduct;
  kernels->pack_a = PackA;
  kernels->pack_a_bytes = kElementBytes;
  // What passes through c costs more than what passes through L1: sums stay in
  // their tiles over all of a usual depth, and many rows share a pair of panels
  // (1024^3 on Emerald Rapids: 0.46 of the tiles' rate against 0.27 of 96 rows
  // cut at 512).
  kernels->pair_depth = 1024;
  kernels->pair_block_rows = 256;
  kernels->pack_codes = PackCodes;
  SetAmxCodeRows(kernels);
  // Weights are widened once for so many rows.
  kernels->code_block_rows = 512;
}

}  // namespace temper
