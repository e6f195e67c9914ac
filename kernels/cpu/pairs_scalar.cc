// Products of bf16 operands in the scalar tier: plain loops, and the
// definition. Built with the flags of tier_scalar.cc.

#include <cstdint>

#include "kernels/cpu/tier.h"

namespace temper {
namespace {

float FloatOf(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof(x));
  return x;
}

uint32_t BitsOf(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  return bits;
}

// kernels/tensor/bf16.h in the words of this tier, which shares no inline code:
// the same for all 2^32 floats.
uint16_t Rounded(float x) {
  const uint32_t bits = BitsOf(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return static_cast<uint16_t>(bits >> 16 | 0x40u);
  }
  if ((bits & 0x7f800000u) == 0) {
    return static_cast<uint16_t>(bits >> 16 & 0x8000u);
  }
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// A denormal's bits are zero to the FMAs, by the float mode.
float Widened(uint32_t bits) { return FloatOf(bits << 16); }

int64_t PairsIn(int64_t depth) {
  return (depth + kPairBlock - 1) / kPairBlock * (kPairBlock / 2);
}

// 16 columns of one row: the block's pairs in turn, all of them, for the
// padding's FMAs turn a chain of -0 to +0.
void PairRow(const float* a, const uint32_t* b, int64_t b_pair, float* total) {
  float even[16] = {}, odd[16] = {};
  for (int64_t p = 0; p < kPairBlock / 2; ++p) {
    const uint32_t* pair = b + p * b_pair;
    for (int j = 0; j < 16; ++j) {
      even[j] = __builtin_fmaf(a[2 * p], FloatOf(pair[j] << 16), even[j]);
      odd[j] =
          __builtin_fmaf(a[2 * p + 1], FloatOf(pair[j] & 0xffff0000u), odd[j]);
    }
  }
  for (int j = 0; j < 16; ++j) total[j] += even[j] + odd[j];
}

void PairProduct(const PairBlock& g) {
  const int64_t pairs = PairsIn(g.depth);
  for (int64_t i = 0; i < g.rows; ++i) {
    const auto* a = reinterpret_cast<const float*>(
        static_cast<const char*>(g.a) + i * g.a_row);
    for (int64_t first = 0; first < g.columns; first += 16) {
      const int64_t width = g.columns - first < 16 ? g.columns - first : 16;
      float* c = g.c + i * g.c_row + first;
      float total[16] = {};
      for (int64_t j = 0; j < width && g.into == Into::kContinue; ++j) {
        total[j] = c[j];
      }
      for (int64_t p = 0; p < pairs; p += kPairBlock / 2) {
        PairRow(a + 2 * p, g.b + first / 16 * g.b_panel + p * g.b_pair,
                g.b_pair, total);
      }
      for (int64_t j = 0; j < width; ++j) {
        if (g.into == Into::kScaled || g.into == Into::kAddScaled) {
          c[j] = __builtin_fmaf(total[j], g.factors[i],
                                g.into == Into::kScaled ? 0.0f : c[j]);
        } else {
          c[j] = g.into == Into::kAdd ? c[j] + total[j] : total[j];
        }
      }
    }
  }
}

// As floats, which is what its FMAs take.
void PackA(const float* a, int64_t a_row, int64_t a_k, int64_t rows,
           int64_t depth, void* packed, int64_t packed_row) {
  for (int64_t i = 0; i < rows; ++i) {
    auto* to =
        reinterpret_cast<float*>(static_cast<char*>(packed) + i * packed_row);
    for (int64_t k = 0; k < 2 * PairsIn(depth); ++k) {
      to[k] = k < depth ? Widened(Rounded(a[i * a_row + k * a_k])) : 0.0f;
    }
  }
}

template <typename At>
void Pair(int64_t depth, int64_t columns, uint32_t* out, int64_t panel, At at) {
  for (int64_t p = 0; p < PairsIn(depth); ++p) {
    for (int64_t j = 0; j < columns; ++j) {
      const uint32_t low = 2 * p < depth ? at(2 * p, j) : 0;
      const uint32_t high = 2 * p + 1 < depth ? at(2 * p + 1, j) : 0;
      out[j / 16 * panel + p * 16 + j % 16] = low | high << 16;
    }
  }
}

void PairRows(const uint16_t* x, int64_t x_row, const int32_t* index,
              int64_t depth, int64_t columns, uint32_t* out, int64_t panel) {
  Pair(depth, columns, out, panel, [=](int64_t k, int64_t j) -> uint32_t {
    return x[(index == nullptr ? k : index[k]) * x_row + j];
  });
}

void PairFloats(const float* x, int64_t x_row, int64_t depth, int64_t columns,
                uint32_t* out, int64_t panel) {
  Pair(depth, columns, out, panel, [=](int64_t k, int64_t j) -> uint32_t {
    return Rounded(x[k * x_row + j]);
  });
}

void PairKeys(const uint16_t* keys, int64_t row_stride, const int32_t* rows,
              int64_t count, int64_t dims, uint32_t* out) {
  for (int64_t j = 0; j < count; ++j) {
    const uint16_t* key = keys + rows[j] * row_stride;
    for (int64_t p = 0; p < PairsIn(dims); ++p) {
      const uint32_t low = 2 * p < dims ? key[2 * p] : 0;
      const uint32_t high = 2 * p + 1 < dims ? key[2 * p + 1] : 0;
      out[p * kKeyBlock + j] = low | high << 16;
    }
  }
}

void RoundBf16(const float* x, uint16_t* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = Rounded(x[i]);
}

void WidenBf16(const uint16_t* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = uint32_t{x[i]} << 16;
    y[i] = FloatOf((bits & 0x7f800000u) == 0 ? bits & 0x80000000u : bits);
  }
}

}  // namespace

void SetScalarPairs(TierKernels* kernels) {
  kernels->pair_product = PairProduct;
  kernels->code_product = PairProduct;
  kernels->pack_a = PackA;
  kernels->pack_a_bytes = sizeof(float);
  kernels->pair_depth = 1024;
  kernels->pair_block_rows = 96;
  kernels->code_block_rows = 96;
  kernels->pair_rows = PairRows;
  kernels->pair_floats = PairFloats;
  kernels->pair_keys = PairKeys;
  kernels->round_bf16 = RoundBf16;
  kernels->widen_bf16 = WidenBf16;
}

}  // namespace temper
