// bfloat16 <-> float, in the two ways that there are. To compute with: nearest
// even, denormals to zero in both directions (DESIGN.md section 6), as every
// unit that multiplies bf16 has it. For a file: nearest even, denormals kept,
// for a file is a record that other programs read, and a value that went
// through it unchanged has to come back unchanged.
//
// NaN stays a quiet NaN. Pure functions of bits, so the thread's float mode
// does not matter.

#ifndef KERNELS_TENSOR_BF16_H_
#define KERNELS_TENSOR_BF16_H_

#include <bit>
#include <cstdint>

#include "kernels/tensor/dtype.h"

namespace temper {

// To compute with.
constexpr float FloatFromBF16(BF16 x) {
  uint32_t bits = uint32_t{x.bits} << 16;
  if ((bits & 0x7f800000u) == 0) bits &= 0x80000000u;
  return std::bit_cast<float>(bits);
}

// As a file has it. Magnitudes that round above the largest finite become
// infinity.
constexpr BF16 FileBF16FromFloat(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return {static_cast<uint16_t>(bits >> 16 | 0x40u)};
  }
  const uint32_t half_less_one = 0x7fffu + (bits >> 16 & 1u);
  return {static_cast<uint16_t>((bits + half_less_one) >> 16)};
}

constexpr float FloatFromFileBF16(BF16 x) {
  return std::bit_cast<float>(uint32_t{x.bits} << 16);
}

// To compute with. A denormal that would round up to the least normal number
// is zero as well: the operand was flushed before it was rounded.
constexpr BF16 BF16FromFloat(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7f800000u) == 0) {
    return {static_cast<uint16_t>(bits >> 16 & 0x8000u)};
  }
  return FileBF16FromFloat(x);
}

}  // namespace temper

#endif  // KERNELS_TENSOR_BF16_H_
