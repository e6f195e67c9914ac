// e4m3 <-> float, and the scales of its blocks (DESIGN.md section 6.6). Of the
// two kinds of e4m3 this is "fn", as everybody has it: no infinity, NaN is 0x7f
// and 0xff, the largest number 448, the least 2^-9. To e4m3: nearest even, what
// is beyond 448 becomes 448, denormals and the sign of zero are kept. Every
// code is exact in float and in bf16.
//
// A scale is a power of two, so that multiplying and dividing by it is exact.
//
// Pure functions of bits: the thread's float mode does not matter.

#ifndef KERNELS_TENSOR_FP8_H_
#define KERNELS_TENSOR_FP8_H_

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>

#include "kernels/tensor/dtype.h"

namespace temper {

// Elements along a row that share a scale; of a weight, rows that do, too.
inline constexpr int64_t kScaleBlock = 128;

constexpr int64_t ScaleBlocks(int64_t elements) {
  return (elements + kScaleBlock - 1) / kScaleBlock;
}

constexpr float FloatFromE4M3(F8E4M3 x) {
  const uint32_t exponent = x.bits >> 3 & 15u, fraction = x.bits & 7u;
  uint32_t bits = 0;
  if (exponent == 0) {
    bits = std::bit_cast<uint32_t>(static_cast<float>(fraction) * 0x1p-9f);
  } else if ((x.bits & 0x7fu) == 0x7fu) {
    bits = 0x7fc00000u;
  } else {
    bits = (exponent + 120u) << 23 | fraction << 20;
  }
  return std::bit_cast<float>(bits | (x.bits & 0x80u) << 24);
}

constexpr F8E4M3 E4M3FromFloat(float x) {
  constexpr uint32_t kLargest = std::bit_cast<uint32_t>(448.0f);
  constexpr uint32_t kLeastNormal = std::bit_cast<uint32_t>(0x1p-6f);
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t sign = bits >> 24 & 0x80u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t code = 0;
  if (magnitude > 0x7f800000u) {
    code = 0x7f;
  } else if (magnitude >= kLargest) {
    code = 0x7e;
  } else if (magnitude >= kLeastNormal) {
    const uint32_t half_less_one = 0x7ffffu + (magnitude >> 20 & 1u);
    code = ((magnitude + half_less_one) >> 20) - (120u << 3);
  } else if (magnitude >= std::bit_cast<uint32_t>(0x1p-10f)) {
    // In units of 2^-9: 24 bits, of which the last `shift` are rounded away.
    const uint32_t whole = (magnitude & 0x7fffffu) | 0x800000u;
    const uint32_t shift = 141u - (magnitude >> 23);
    const uint32_t half_less_one =
        (1u << (shift - 1)) - 1 + (whole >> shift & 1u);
    code = (whole + half_less_one) >> shift;
  }
  return {static_cast<uint8_t>(sign | code)};
}

// The larger of `largest`, which has no sign, and |x|; a NaN is larger than any
// number, so that none is lost.
constexpr float LargerMagnitude(float largest, float x) {
  return std::bit_cast<float>(
      std::max(std::bit_cast<uint32_t>(largest),
               std::bit_cast<uint32_t>(x) & 0x7fffffffu));
}

// From here on a magnitude could round to what float does not hold.
inline constexpr float kQuantisedMax = 0x1.fp127f;

// Of a block whose largest magnitude is given: 2^ceil(log2(max(it, 1e-4) /
// 448)), from 2^-22 to 2^120. NaN unless it is below kQuantisedMax: the codes
// of such a block are 0, and whoever quantises it says so
// (kernels/ops/device_fault.h, kNumbers).
constexpr float BlockScale(float largest) {
  if (!(largest < kQuantisedMax)) {
    return std::numeric_limits<float>::quiet_NaN();
  }
  const uint32_t bits = std::max(std::bit_cast<uint32_t>(largest),
                                 std::bit_cast<uint32_t>(1e-4f));
  // 448 is 1.75 * 2^8.
  const uint32_t above = (bits & 0x7fffffu) > 0x600000u ? 1 : 0;
  return std::bit_cast<float>(((bits >> 23) + above - 8) << 23);
}

}  // namespace temper

#endif  // KERNELS_TENSOR_FP8_H_
