// What a test tells the emulator and learns from it. Kernels are launched by
// TEMPER_LAUNCH of device.h, whose emulated form runs them at once: when it
// returns, the grid has run.
//
// A kernel that is wrong ends the process, after one line on stderr that begins
// with "simt: " and the failure's name, or the launch, if a FailureCatcher
// lives. The names stand with what fails by them: here "deadlock" and
// "starvation"; the rest in access.h, shadow.h, barrier.h, warp.h, mbarrier.h,
// tensor_copy.h and wgmma.h.
//
// Not thread-safe: everything here and every launch is one OS thread's at a
// time, and a launch runs its blocks one after another on it. So a block that
// waits for another block starves, and says so.

#ifndef KERNELS_CUDA_SIMT_EMULATOR_H_
#define KERNELS_CUDA_SIMT_EMULATOR_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace temper::simt {

// The orders in which blocks and threads run are drawn from `seed`, 0 until
// then. Seeds 0 to 3 differ in kind: ascending, descending, one warp as far as
// it comes, any thread at any time; so do 4 to 7, and so on.
void SetSchedule(uint64_t seed);
// What a test that shall find a missing barrier runs: each kind, some twice.
inline constexpr uint64_t kSchedules = 8;

// The device's global memory: kernels may touch what lies in an allocation, and
// nothing else of the host's. Filled with ones, which are NaN. Aligned as
// cudaMalloc does, by 256. CHECKs that `memory` is one of them.
void* AllocateGlobal(size_t bytes);
void FreeGlobal(void* memory);

// What was launched has run. Here it has when the launch returns; where tests
// are linked with a GPU (on_gpu.cc) it is waited for.
void FinishLaunches();

// While one lives, a launch that fails ends, and its failure is kept here.
class FailureCatcher {
 public:
  FailureCatcher();
  ~FailureCatcher();
  FailureCatcher(const FailureCatcher&) = delete;
  FailureCatcher& operator=(const FailureCatcher&) = delete;

  // The first failure since the catcher was made, without "simt: "; empty if
  // there was none.
  const std::string& message() const { return message_; }

 private:
  friend class Failures;
  std::string message_;
};

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_EMULATOR_H_
