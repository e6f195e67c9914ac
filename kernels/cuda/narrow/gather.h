// Scattered rows, brought into lines of shared memory as pipeline.h has
// operands: pieces of 64 columns, in which a line is 128 bytes, swizzled. What
// a row lacks of the pieces' columns is zeros. For .cu files.

#ifndef KERNELS_CUDA_NARROW_GATHER_H_
#define KERNELS_CUDA_NARROW_GATHER_H_

#include <cstdint>

#include "kernels/cuda/device_math.h"
#include "kernels/cuda/narrow/pipeline.h"
#include "kernels/ops/rows.h"

namespace temper::cuda {

constexpr int kCopyBytes = 16;
constexpr int kCopyElements = kCopyBytes / 2;

template <int kPieces, int kLines>
struct Lines {
  static constexpr int kCopies = kPieces * kLineBytes / kCopyBytes;  // of one

  unsigned char piece[kPieces][kLines * kLineBytes];

  // The 16 bytes of a line at its columns 8 * copy and up.
  __device__ inline unsigned char* At(int line, int copy) {
    return piece[copy / 8] + line * kLineBytes +
           (copy % 8 ^ line % 8) * kCopyBytes;
  }
};

// line[i] = row rows[i], or zeros from `count` on: has begun, by cp.async, when
// `threads` threads have called it. Rows begin 16 bytes aligned.
template <int kPieces, int kLines>
__device__ inline void CopyRows(const Rows<const uint16_t>& from,
                                const int32_t (&rows)[kLines], int count,
                                int thread, int threads,
                                Lines<kPieces, kLines>* to) {
  constexpr int kCopies = Lines<kPieces, kLines>::kCopies;
  const int64_t bytes = from.columns * 2;
  for (int i = thread; i < kLines * kCopies; i += threads) {
    const int line = i / kCopies, copy = i % kCopies;
    const int64_t left = line < count ? bytes - copy * kCopyBytes : 0;
    const uint16_t* const row = from.data + rows[line] * from.stride;
    // What is not read needs an address all the same.
    simt::CopyAsyncPadded<kCopyBytes>(
        to->At(line, copy), left > 0 ? row + copy * kCopyElements : from.data,
        static_cast<uint32_t>(left <= 0           ? 0
                              : left < kCopyBytes ? left
                                                  : kCopyBytes));
  }
}

// line[i] = head HeadOf(i) of a query, rounded, or zeros from `heads` on; is
// there, for wgmma too, after the threads' next barrier.
template <int kPieces, int kLines, typename HeadOf>
__device__ inline void RoundHeads(const float* q, int64_t stride, int heads,
                                  int64_t columns, int thread, int threads,
                                  const HeadOf& head_of,
                                  Lines<kPieces, kLines>* to) {
  constexpr int kCopies = Lines<kPieces, kLines>::kCopies;
  for (int i = thread; i < kLines * kCopies; i += threads) {
    const int line = i / kCopies, copy = i % kCopies;
    const int head = head_of(line);
    const float* const from = q + head * stride;
    uint32_t words[4];
    TEMPER_UNROLL
    for (int j = 0; j < 4; ++j) {
      const int64_t k = copy * kCopyElements + j * 2;
      const float low = head < heads && k < columns ? from[k] : 0.0f;
      const float high = head < heads && k + 1 < columns ? from[k + 1] : 0.0f;
      words[j] = Bf16FromFloat(low) | uint32_t{Bf16FromFloat(high)} << 16;
    }
    *reinterpret_cast<uint4*>(to->At(line, copy)) =
        make_uint4(words[0], words[1], words[2], words[3]);
  }
  simt::FenceProxyAsync();
}

// Whether CopyRows can.
inline bool BeginAligned(const Rows<const uint16_t>& rows) {
  return reinterpret_cast<uintptr_t>(rows.data) % kCopyBytes == 0 &&
         rows.stride % kCopyElements == 0;
}

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_NARROW_GATHER_H_
