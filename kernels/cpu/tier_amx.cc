// The AMX tier: products of pairs by TDPBF16PS, all else as in its base. One
// tile product over a block of 32 is the definition to the bit: two chains from
// zero, over even and over odd k, then c += even + odd (measured on Emerald
// Rapids, 0 of 2.3 million results differ). Built with the flags of
// tier_avx512.cc, -mamx-tile and -mamx-bf16.

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/tier.h"

namespace temper {
namespace {

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

// Tiles 0 .. 3 are c, two of `first` rows and two of `second`; 4 and 5 the rows
// of a; 6 and 7 pairs of b. Fewer rows are fewer steps of the tile unit.
void Configure(int64_t first, int64_t second) {
  TileConfig config;
  const int64_t rows[8] = {first, first,  second, second,
                           first, second, kTile,  kTile};
  for (int tile = 0; tile < 8; ++tile) {
    // A tile of no rows is one that is not used, and has to say so in both.
    config.rows[tile] = static_cast<uint8_t>(rows[tile]);
    config.row_bytes[tile] = rows[tile] == 0 ? 0 : 64;
  }
  _tile_loadconfig(&config);
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
  const int64_t pair = g.b_pair * static_cast<int64_t>(sizeof(uint32_t));
  for (int64_t k = 0; k < g.depth; k += kPairBlock) {
    _tile_loadd(6, b, pair);
    _tile_loadd(4, a, g.a_row);
    _tile_dpbf16ps(0, 4, 6);
    if (kTwoRows) {
      _tile_loadd(5, a + kTile * g.a_row, g.a_row);
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

// Columns outside, so that a pair of panels stays in L1 while the rows pass; a
// thread's tiles are its own, so they are configured, and given up, here.
void PairProduct(const PairBlock& g) {
  if (g.rows <= 0 || g.columns <= 0) return;
  const int64_t whole = g.rows / (2 * kTile) * 2 * kTile;
  const auto pass = [&](int64_t begin, int64_t end) {
    for (int64_t first = 0; first < g.columns; first += 2 * kTile) {
      const int64_t width =
          g.columns - first < 2 * kTile ? g.columns - first : 2 * kTile;
      for (int64_t row = begin; row < end; row += 2 * kTile) {
        Outputs(g, row, end - row < 2 * kTile ? end - row : 2 * kTile, first,
                width);
      }
    }
  };
  if (whole > 0) {
    Configure(kTile, kTile);
    pass(0, whole);
  }
  const int64_t left = g.rows - whole;
  if (left > 0) {
    Configure(left < kTile ? left : kTile, left < kTile ? 0 : left - kTile);
    pass(whole, g.rows);
  }
  _tile_release();
}

#include "kernels/cpu/round_avx512.inc"

// As rows of bf16, zeros up to the end of the block, which a tile reads.
void PackA(const float* a, int64_t a_row, int64_t a_k, int64_t rows,
           int64_t depth, void* packed, int64_t packed_row) {
  const int64_t padded = (depth + kPairBlock - 1) / kPairBlock * kPairBlock;
  for (int64_t i = 0; i < rows; ++i) {
    auto* to = reinterpret_cast<uint16_t*>(static_cast<char*>(packed) +
                                           i * packed_row);
    for (int64_t k = 0; k < padded; k += 16) {
      const __m512i rounded = Rounded(LoadSome(a + i * a_row, a_k, k, depth));
      _mm256_storeu_si256(
          reinterpret_cast<__m256i*>(to + k),
          _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
    }
  }
}

}  // namespace

void SetAmxKernels(TierKernels* kernels) {
  kernels->pair_product = PairProduct;
  kernels->pack_a = PackA;
  kernels->pack_a_bytes = kElementBytes;
  // What passes through c costs more than what passes through L1: sums stay in
  // their tiles over all of a usual depth, and many rows share a pair of panels
  // (1024^3 on Emerald Rapids: 0.46 of the tiles' rate against 0.27 of 96 rows
  // cut at 512).
  kernels->pair_depth = 1024;
  kernels->pair_block_rows = 256;
}

}  // namespace temper
