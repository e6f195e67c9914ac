// What this machine's cores do at most: the yardstick that measured rates are
// held against (`temper bench`). Nothing is computed with it.
//
// Not thread-safe; the calling thread, which is one of those that run, must
// have the float mode of kernels/base/float_mode.h (CHECKed by the pool).

#ifndef KERNELS_CPU_MACHINE_PEAK_H_
#define KERNELS_CPU_MACHINE_PEAK_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/base/thread_pool.h"
#include "kernels/tensor/dtype.h"

namespace temper {

class MachinePeak {
 public:
  // `tier` as ChooseCpuTier takes it (kernels/cpu/cpu_tier.h), whose errors it
  // has; `operand`, of the products that are measured, f32, bf16 or f8e4m3;
  // `threads` >= 1 counts the caller.
  static absl::StatusOr<std::unique_ptr<MachinePeak>> Create(
      const std::string& tier, DType operand, int threads);

  // Runs what the tier multiplies such operands by (FMAs in its registers,
  // VDPBF16PS, tile products), independent of one another, on every thread for
  // a good part of a millisecond; how many FLOP that was.
  double RunFmas();

  // Reads `bytes` (a multiple of 64, aligned to it) once, in one piece a
  // thread; returns `bytes`.
  double Read(const void* data, int64_t bytes);

 private:
  // Runs so many rounds of chains and returns what becomes of them.
  using Chains = float (*)(int64_t rounds);

  MachinePeak(Chains chains, double flops_a_round, int threads);

  const Chains chains_;
  const double flops_a_round_;
  ThreadPool pool_;
};

}  // namespace temper

#endif  // KERNELS_CPU_MACHINE_PEAK_H_
