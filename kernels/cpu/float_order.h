// Floats as unsigned numbers of the same order, by which a selection is exact
// and total. Internal to the CPU backend. A pure function.

#ifndef KERNELS_CPU_FLOAT_ORDER_H_
#define KERNELS_CPU_FLOAT_ORDER_H_

#include <bit>
#include <cstdint>

namespace temper {

// -0 becomes +0. Any NaN is 0, below -infinity: devices give what arithmetic
// makes a NaN unlike signs and payloads.
inline uint32_t OrderedBits(float x) {
  if (x != x) return 0;
  const uint32_t bits = std::bit_cast<uint32_t>(x + 0.0f);
  return bits ^ ((bits >> 31) != 0 ? 0xFFFFFFFFu : 0x80000000u);
}

}  // namespace temper

#endif  // KERNELS_CPU_FLOAT_ORDER_H_
