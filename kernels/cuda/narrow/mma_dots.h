// Products of a few heads with keys of bf16 by mma.sync, from memory into
// registers: any widths and strides. A block of four warps has 16 heads, which
// is what an instruction has, and 64 keys at a time. For .cu files.

#ifndef KERNELS_CUDA_NARROW_MMA_DOTS_H_
#define KERNELS_CUDA_NARROW_MMA_DOTS_H_

#include <cstdint>

#include "kernels/cuda/device_math.h"
#include "kernels/cuda/key_tile.h"

namespace temper::cuda {

constexpr int kMmaHeads = 16;
constexpr int kMmaWarps = 4;
constexpr int kMmaThreads = kMmaWarps * kWarp;
// A warp's keys of a block.
constexpr int kMmaKeys = kKeyBlock / kMmaWarps;

__device__ inline int MmaHeadsFrom(int64_t head, int64_t all) {
  return all - head < kMmaHeads ? static_cast<int>(all - head) : kMmaHeads;
}

__device__ inline uint32_t RoundedPair(float low, float high) {
  return Bf16FromFloat(low) | uint32_t{Bf16FromFloat(high)} << 16;
}

// Two neighbours of a row, rounded; zeros beyond its end.
__device__ inline uint32_t RoundedPairAt(const float* row, int64_t k,
                                         int64_t columns) {
  return RoundedPair(k < columns ? row[k] : 0.0f,
                     k + 1 < columns ? row[k + 1] : 0.0f);
}
__device__ inline uint32_t PairAt(const uint16_t* row, int64_t k,
                                  int64_t columns) {
  const uint32_t low = k < columns ? row[k] : 0;
  const uint32_t high = k + 1 < columns ? row[k + 1] : 0;
  return low | high << 16;
}

// dots[h][j] = head h . key j over the heads' dims, of 16 heads and the 16 keys
// of this warp; zero for those beyond the counts.
__device__ inline void MmaDots(const Heads& q, int heads,
                               const Rows<const uint16_t>& keys,
                               const int32_t (&rows)[kKeyBlock], int count,
                               float (&dots)[kMmaHeads][kKeyBlock]) {
  const int of_eight = LaneOf() / 4, of_four = LaneOf() % 4;
  const int key = static_cast<int>(threadIdx.x) / kWarp * kMmaKeys;
  float sum[2][4] = {};
  for (int64_t k = 0; k < q.dims; k += 16) {
    uint32_t a[4];
    TEMPER_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int h = of_eight + i % 2 * 8;
      a[i] = h < heads ? RoundedPairAt(q.data + h * q.stride,
                                       k + of_four * 2 + i / 2 * 8, q.dims)
                       : 0;
    }
    TEMPER_UNROLL
    for (int tile = 0; tile < 2; ++tile) {
      const int j = key + tile * 8 + of_eight;
      const uint16_t* const row =
          keys.data + (j < count ? rows[j] : 0) * keys.stride;
      uint32_t b[2];
      TEMPER_UNROLL
      for (int i = 0; i < 2; ++i) {
        b[i] = j < count ? PairAt(row, k + of_four * 2 + i * 8, q.dims) : 0;
      }
      simt::MmaBf16(sum[tile], a, b);
    }
  }
  TEMPER_UNROLL
  for (int i = 0; i < 8; ++i) {
    const int j = key + i / 4 * 8 + of_four * 2 + i % 2;
    dots[of_eight + i % 4 / 2 * 8][j] = sum[i / 4][i % 4];
  }
}

// sum += a[h][j] key j over 64 places of a list, for 16 heads and the eight
// columns from `column` on; a's registers are as RoundedPlaces makes them.
__device__ inline void MmaValues(const uint32_t (&a)[kKeyBlock / 16][4],
                                 const Rows<const uint16_t>& keys,
                                 int64_t column, int64_t columns,
                                 const int32_t* rows, int count,
                                 float (&sum)[4]) {
  const int of_four = LaneOf() % 4;
  const int64_t c = column + LaneOf() / 4;
  const uint16_t* const from = keys.data + c;
  TEMPER_UNROLL
  for (int step = 0; step < kKeyBlock / 16; ++step) {
    uint32_t b[2];
    TEMPER_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int j = step * 16 + of_four * 2 + i * 8;
      const uint32_t low =
          c < columns && j < count ? from[rows[j] * keys.stride] : 0;
      const uint32_t high =
          c < columns && j + 1 < count ? from[rows[j + 1] * keys.stride] : 0;
      b[i] = low | high << 16;
    }
    simt::MmaBf16(sum, a[step], b);
  }
}

// Of 16 heads and 64 places, `heads` and `count` of them there.
__device__ inline void RoundedPlaces(const float* x, int64_t stride, int heads,
                                     int count,
                                     uint32_t (&a)[kKeyBlock / 16][4]) {
  TEMPER_UNROLL
  for (int i = 0; i < kKeyBlock / 4; ++i) {
    const int h = LaneOf() / 4 + i % 2 * 8;
    const int j = i / 4 * 16 + LaneOf() % 4 * 2 + i % 4 / 2 * 8;
    a[i / 4][i % 4] = h < heads ? RoundedPairAt(x + h * stride, j, count) : 0;
  }
}

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_NARROW_MMA_DOTS_H_
