// Quantising to e4m3 in the scalar tier: plain loops, and the definition. Built
// with the flags of tier_scalar.cc. kernels/tensor/fp8.h in the words of this
// tier, which shares no inline code: the same for every float.

#include <cstdint>

#include "kernels/cpu/tier.h"

namespace temper {
namespace {

constexpr int64_t kBlock = 128;

int64_t BlockDepth(int64_t depth, int64_t k) {
  return depth - k < kBlock ? depth - k : kBlock;
}

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

constexpr uint32_t kSign = 0x80000000u;
constexpr uint32_t kNaN = 0x7fc00000u;
constexpr uint32_t kNoScale = 0x7f780000u;    // 0x1.fp127
constexpr uint32_t kLeastAmax = 0x38d1b717u;  // 1e-4

// The nearest e4m3 of a magnitude of at most 448: a place of 2^-9 at least,
// whose multiples are what is left when 2^23 of them are added and taken away.
float Rounded(float magnitude) {
  const uint32_t exponent = BitsOf(magnitude) & 0x7f800000u;
  const uint32_t least = 121u << 23;  // 2^-6
  const uint32_t place = (exponent > least ? exponent : least) + (20u << 23);
  return (magnitude + FloatOf(place)) - FloatOf(place);
}

float Quantise(const float* x, float at_least, float* y, int64_t n) {
  uint32_t largest = BitsOf(at_least);
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t magnitude = BitsOf(x[i]) & ~kSign;
    if (magnitude > largest) largest = magnitude;
  }
  if (largest >= kNoScale) {
    for (int64_t i = 0; i < n; ++i) y[i] = 0;
    return FloatOf(kNaN);
  }
  if (largest < kLeastAmax) largest = kLeastAmax;
  // 448 is 1.75 * 2^8.
  const uint32_t above = (largest & 0x7fffffu) > 0x600000u ? 1 : 0;
  const uint32_t exponent = (largest >> 23) + above - 8;
  const float inverse = FloatOf((254 - exponent) << 23);
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t sign = BitsOf(x[i]) & kSign;
    const float magnitude = FloatOf(BitsOf(x[i]) & ~kSign) * inverse;
    y[i] = FloatOf(BitsOf(Rounded(magnitude)) | sign);
  }
  return FloatOf(exponent << 23);
}

void StoreCodes(const float* x, uint8_t* codes, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = BitsOf(x[i]);
    const uint32_t magnitude = bits & ~kSign;
    const uint32_t code =
        magnitude >= (121u << 23)
            ? (magnitude >> 20) - (120u << 3)
            : static_cast<uint32_t>(FloatOf(magnitude) * 512.0f);
    codes[i] = static_cast<uint8_t>(code | (bits >> 24 & 0x80u));
  }
}

float Value(uint8_t code) {
  const uint32_t magnitude = code & 0x7fu;
  float value = FloatOf((magnitude << 20) + (120u << 23));
  if (magnitude < 8) value = static_cast<float>(magnitude) * 0x1p-9f;
  if (magnitude == 0x7f) value = FloatOf(kNaN);
  return FloatOf(BitsOf(value) | (code & 0x80u) << 24);
}

void WidenCodes(const uint8_t* codes, float scale, uint16_t* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    // Of a power of two exact, and 4 bits at most: then nothing is cut off.
    y[i] = static_cast<uint16_t>(BitsOf(Value(codes[i]) * scale) >> 16);
  }
}

void PackCodes(const float* x, int64_t depth, void* packed, int64_t block_bytes,
               float* scales, int64_t scales_step) {
  auto* block = static_cast<char*>(packed);
  for (int64_t k = 0; k < depth; k += kBlock, block += block_bytes) {
    const int64_t n = BlockDepth(depth, k);
    auto* to = reinterpret_cast<float*>(block);
    scales[k / kBlock * scales_step] = Quantise(x + k, 0, to, n);
    for (int64_t i = n; i % kPairBlock != 0; ++i) to[i] = 0;
  }
}

// Where packed codes have (k, j), from the panel's first.
int64_t CodeAt(int64_t k, int64_t j) {
  return k / 4 * kCodeFour + j / 4 * 16 + k % 4 / 2 * 8 + j % 4 * 2 + k % 2;
}

void WidenFours(const uint8_t* codes, int64_t n, void* b) {
  auto* const pairs = static_cast<uint32_t*>(b);
  for (int64_t k = 0; k < 4 * n; k += 2) {
    for (int64_t j = 0; j < 16; ++j) {
      pairs[k / 2 * 16 + j] = BitsOf(Value(codes[CodeAt(k, j)])) >> 16 |
                              BitsOf(Value(codes[CodeAt(k + 1, j)]));
    }
  }
}

// Of one column: a block's sum, by the rule of pairs.
float BlockSum(const float* x, int64_t x_four, const uint8_t* codes, int64_t j,
               int64_t depth) {
  float sum = 0;
  for (int64_t k = 0; k < depth; k += kPairBlock) {
    float chain[2] = {};
    for (int64_t i = k; i < k + kPairBlock; ++i) {
      chain[i % 2] = __builtin_fmaf(x[i / 4 * x_four + i % 4],
                                    Value(codes[CodeAt(i, j)]), chain[i % 2]);
    }
    sum += chain[0] + chain[1];
  }
  return sum;
}

void CodeRowsProduct(const CodeRows& p) {
  for (int64_t i = 0; i < p.rows; ++i) {
    const float* const x_scales = p.x_scales + i * p.scales_row;
    for (int64_t j = 0; j < p.columns; ++j) {
      const uint8_t* const codes = p.codes + j / 16 * p.panel;
      float& y = p.y[i * p.y_row + j];
      float total = p.accumulate ? y : 0.0f;
      for (int64_t k = 0; k < p.depth; k += kBlock) {
        const float sum =
            BlockSum(p.x + k * p.rows + i * 4, 4 * p.rows, codes + k * 16,
                     j % 16, BlockDepth(p.depth, k));
        total = __builtin_fmaf(sum, x_scales[k / kBlock] * p.scales[k / kBlock],
                               total);
      }
      y = total;
    }
  }
}

}  // namespace

void SetScalarCodes(TierKernels* kernels) {
  kernels->quantise = Quantise;
  kernels->store_codes = StoreCodes;
  kernels->widen_codes = WidenCodes;
  kernels->pack_codes = PackCodes;
  kernels->widen_fours = WidenFours;
  kernels->code_b_bytes = sizeof(uint16_t);
  kernels->code_rows = CodeRowsProduct;
}

}  // namespace temper
