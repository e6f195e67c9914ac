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

  // Where that is by tile products, the same without loading their operands
  // from L1 each time, which no product of matrices can do: on some machines
  // loads cost nothing, on others, or for minutes, most of the rate. Else 0,
  // and nothing was run.
  double RunTilesAlone();

  // Reads `bytes` (a multiple of 512, aligned to 64) once, by the tier's widest
  // registers, in one piece a thread; returns `bytes`.
  double Read(const void* data, int64_t bytes);

 private:
  // Runs so many rounds of chains and returns what becomes of them.
  using Chains = float (*)(int64_t rounds);
  using ReadLines = float (*)(const float* x, int64_t lines);

  MachinePeak(Chains chains, Chains alone, double flops_a_round, ReadLines read,
              int threads);
  double Run(Chains chains);

  const Chains chains_;
  const Chains alone_;  // nullptr where there is none
  const double flops_a_round_;
  const ReadLines read_;
  ThreadPool pool_;
};

}  // namespace temper

#endif  // KERNELS_CPU_MACHINE_PEAK_H_
