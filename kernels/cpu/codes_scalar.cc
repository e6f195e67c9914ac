// Quantising to e4m3 in the scalar tier: plain loops, and the definition. Built
// with the flags of tier_scalar.cc. kernels/tensor/fp8.h in the words of this
// tier, which shares no inline code: the same for every float.

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

void WidenCodes(const uint8_t* codes, float scale, uint16_t* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t magnitude = codes[i] & 0x7fu;
    float value = FloatOf((magnitude << 20) + (120u << 23));
    if (magnitude < 8) value = static_cast<float>(magnitude) * 0x1p-9f;
    if (magnitude == 0x7f) value = FloatOf(kNaN);
    // Of a power of two exact, and 4 bits at most: then nothing is cut off.
    const uint32_t sign = (codes[i] & 0x80u) << 24;
    const float number = FloatOf(BitsOf(value) | sign) * scale;
    y[i] = static_cast<uint16_t>(BitsOf(number) >> 16);
  }
}

}  // namespace

void SetScalarCodes(TierKernels* kernels) {
  kernels->quantise = Quantise;
  kernels->store_codes = StoreCodes;
  kernels->widen_codes = WidenCodes;
}

}  // namespace temper
