// Speed of products as a fraction of the peak that independent FMAs reach on
// this machine in the same run. Not a test. One thread.

#include <time.h>

#include <algorithm>
#include <vector>

#include "benchmark/benchmark.h"
#include "kernels/base/float_mode.h"
#include "kernels/cpu/cpu_tier.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/tier.h"

namespace temper {
namespace {

// Of this thread alone: other processes on the machine do not count.
double Seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) +
         1e-9 * static_cast<double>(now.tv_nsec);
}

// The micro-kernel on one tile in L1, where nothing but FMAs can bind it.
double PeakFlops(const TierKernels& tier) {
  constexpr int64_t kDepth = 128, kCalls = 2000;
  std::vector<float> a(6 * kDepth, 1.0f), b(16 * kDepth, 1.0f), c(6 * 16);
  GemmBlock block;
  block.rows = 6;
  block.columns = 16;
  block.depth = kDepth;
  block.a = a.data();
  block.a_row = kDepth;
  block.b = b.data();
  block.b_panel = 16 * kDepth;
  block.c = c.data();
  block.c_row = 16;
  double best = 0;
  for (int round = 0; round < 20; ++round) {
    const double start = Seconds();
    for (int64_t call = 0; call < kCalls; ++call) tier.gemm(block);
    const double flops = 2.0 * 6 * 16 * kDepth * kCalls;
    best = std::max(best, flops / (Seconds() - start));
  }
  return best;
}

void Product(benchmark::State& state) {
  SetFlushDenormals();
  const int64_t rows = state.range(0), size = state.range(1);
  const TierKernels tier = KernelsOf(**ChooseCpuTier(""));
  static const double peak = PeakFlops(tier);
  std::vector<float> x(rows * size, 0.5f), y(rows * size);
  std::vector<float> w(size * size, 0.25f), packed(PackedFloats(size, size));
  PackPanels(w.data(), size, size, size, 1, packed.data());
  GemmBlock block;
  block.rows = rows;
  block.columns = block.depth = size;
  block.a = x.data();
  block.a_row = size;
  block.b = packed.data();
  block.b_panel = kPanel * size;
  block.c = y.data();
  block.c_row = size;
  const double start = Seconds();
  for (auto _ : state) {
    GemmSerial(tier, block);
    benchmark::ClobberMemory();
  }
  const double flops = 2.0 * static_cast<double>(rows * size * size) *
                       static_cast<double>(state.iterations()) /
                       (Seconds() - start);
  state.counters["gflops"] = flops / 1e9;
  state.counters["of_peak"] = flops / peak;
}
BENCHMARK(Product)->ArgsProduct({{1, 8, 32, 128, 1024}, {128, 256, 512}});

}  // namespace
}  // namespace temper

BENCHMARK_MAIN();
