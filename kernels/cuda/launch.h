// What every launch of a kernel goes through: its queue, and how many blocks of
// how many threads. Plain data; nothing of Abseil.

#ifndef KERNELS_CUDA_LAUNCH_H_
#define KERNELS_CUDA_LAUNCH_H_

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

struct CUstream_st;  // of the CUDA runtime

namespace temper::cuda {

using Stream = CUstream_st*;

// Multiprocessors of an H100 or H200: fewer blocks leave some of them idle.
inline constexpr int64_t kMultiprocessors = 132;

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// For work of `items`, each a thread's: the largest block up to `most` threads
// of which every multiprocessor gets one, or one warp.
constexpr unsigned ThreadsFor(int64_t items, unsigned most = 256) {
  unsigned threads = most;
  while (threads > 32 && CeilDiv(items, threads) < kMultiprocessors) {
    threads /= 2;
  }
  return threads;
}

// Of a grid along x.
inline constexpr int64_t kBlocksMax = 0x7FFFFFFF;

// At least one: an empty grid is no launch. Ends the process if there are more
// than a grid has.
constexpr unsigned BlocksFor(int64_t items, unsigned threads) {
  const int64_t blocks = std::max<int64_t>(1, CeilDiv(items, threads));
  if (blocks > kBlocksMax) {
    std::fputs("a launch of more blocks than a grid has\n", stderr);
    std::abort();
  }
  return static_cast<unsigned>(blocks);
}

}  // namespace temper::cuda

// A kernel of a thread, or of a warp, for each of `items`; none of none. For
// .cu files: TEMPER_LAUNCH is kernels/cuda/simt/device.h's.
#define TEMPER_LAUNCH_THREADS(kernel, items, stream, ...)                     \
  do {                                                                        \
    const int64_t launch_items = (items);                                     \
    if (launch_items == 0) break;                                             \
    const unsigned launch_threads = ::temper::cuda::ThreadsFor(launch_items); \
    TEMPER_LAUNCH(kernel,                                                     \
                  ::temper::cuda::BlocksFor(launch_items, launch_threads),    \
                  launch_threads, 0, stream, __VA_ARGS__);                    \
  } while (false)
#define TEMPER_LAUNCH_WARPS(kernel, items, stream, ...) \
  TEMPER_LAUNCH_THREADS(kernel, (items)*32, stream, __VA_ARGS__)

#endif  // KERNELS_CUDA_LAUNCH_H_
