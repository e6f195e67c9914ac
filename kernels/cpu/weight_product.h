// Rows times one matrix of a CpuWeight, by the product of its type. Internal to
// the CPU backend.

#ifndef KERNELS_CPU_WEIGHT_PRODUCT_H_
#define KERNELS_CPU_WEIGHT_PRODUCT_H_

#include <cstdint>

#include "kernels/base/thread_pool.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/tier.h"

namespace temper {

// y[n] = W x[n], or W^T x[n]. Of a bf16 weight x is rounded on the way, of an
// f8e4m3 one quantised, or going back rounded.
struct WeightRows {
  const float* x = nullptr;
  int64_t x_row = 0;
  int64_t rows = 0;
  float* y = nullptr;
  int64_t y_row = 0;
};

// In the calling thread. False if a block of x could not be quantised.
bool MultiplySerial(const TierKernels& tier, const CpuWeight& weight, Use use,
                    int64_t group, const WeightRows& rows);

// Of the only group, over rows or columns by the pool's threads.
bool MultiplyParallel(const TierKernels& tier, ThreadPool* pool,
                      const CpuWeight& weight, Use use, const WeightRows& rows);

}  // namespace temper

#endif  // KERNELS_CPU_WEIGHT_PRODUCT_H_
