// What the emulator keeps of a CUDA thread and of the block that runs. One
// block runs at a time, so there is one of each; see scheduler.h for who runs
// when.
//
// Not thread-safe: one OS thread launches, and all of a launch runs on it.

#ifndef KERNELS_CUDA_SIMT_THREAD_H_
#define KERNELS_CUDA_SIMT_THREAD_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/simt/fiber.h"
#include "kernels/cuda/simt/site.h"
#include "kernels/cuda/simt/vector_types.h"

namespace temper::simt {

inline constexpr uint32_t kWarpLanes = 32;
inline constexpr uint32_t kBlockThreadsMax = 1024;

enum class ThreadState { kReady, kWaits, kEnded };

struct Thread {
  uint32_t rank = 0;  // within the block, x fastest
  uint32_t warp = 0;
  uint32_t lane = 0;
  uint3 index = {};
  ThreadState state = ThreadState::kReady;
  Fiber* fiber = nullptr;  // null until it has begun
  // What it waits for, in words for a report, and since which line; of an
  // mbarrier how many arrivals and bytes are missing.
  const char* awaits = nullptr;
  const int64_t* missing_arrivals = nullptr;
  const int64_t* missing_bytes = nullptr;
  Site site;
};

// The launch that runs, as its threads see it.
struct Launched {
  const char* kernel = "";
  dim3 grid;
  dim3 block;
  uint3 block_index = {};
  void (*run_thread)(const void* arguments) = nullptr;
  const void* arguments = nullptr;
  size_t arguments_bytes = 0;
};

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_THREAD_H_
