// The values of fp32 by which tiers and devices could differ, and operands
// laced with them. Functions without state.

#ifndef KERNELS_OPS_TESTING_EDGE_VALUES_H_
#define KERNELS_OPS_TESTING_EDGE_VALUES_H_

#include <cmath>
#include <cstdint>
#include <iterator>

#include "kernels/tensor/bf16.h"

namespace temper {

// Zeros of both signs, denormals, and what makes denormals of products.
inline constexpr float kTinyEdges[] = {
    0.0f, -0.0f, 0x1p-140f, -0x1p-149f, 0x1p-126f, 0x1p-70f, -0x1p-66f};
// Infinities, and what makes them of products.
inline constexpr float kHugeEdges[] = {0x1p70f, -1e30f, HUGE_VALF, -HUGE_VALF};

enum class Edges : uint8_t { kTiny, kHuge };  // which has tiny ones too

inline const char* NameOf(Edges edges) {
  return edges == Edges::kTiny ? "tiny" : "huge";
}

// The value at a place of a matrix, or, half of the time, an edge in its stead.
// A matrix that comes twice, as f32 and as bf16, is laced alike. Infinities are
// kept to odd rows and columns, so that sums of the others, along either, are
// still numbers.
inline float Laced(float value, Edges edges, int64_t row, int64_t column) {
  const uint64_t key = uint64_t{BF16FromFloat(value).bits} << 40 ^
                       static_cast<uint64_t>(row) << 20 ^
                       static_cast<uint64_t>(column);
  uint64_t draw = key * 0x9E3779B97F4A7C15u;
  draw = (draw ^ draw >> 32) * 0x9E3779B97F4A7C15u >> 40;
  if (draw % 2 == 0) return value;
  const uint64_t which = draw / 2;
  return edges == Edges::kHuge && row % 2 == 1 && column % 2 == 1
             ? kHugeEdges[which % std::size(kHugeEdges)]
             : kTinyEdges[which % std::size(kTinyEdges)];
}

}  // namespace temper

#endif  // KERNELS_OPS_TESTING_EDGE_VALUES_H_
