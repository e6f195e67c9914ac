// The optimizer of CpuBackend.

#include <algorithm>

#include "kernels/base/log.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/row_walk.h"
#include "kernels/cpu/rows.h"

namespace temper {
namespace {

constexpr int64_t kGrainElements = 4096;

}  // namespace

void CpuBackend::SumSquares(const Tensor& x, const Tensor& out) {
  CHECK(x.dtype() == DType::kF32) << x.DebugString();
  double* total = AsVector<double>(out, 1);
  const RowWalk walk(x);
  double sum = total[0];
  for (int64_t i = 0; i < walk.rows(); ++i) {
    const float* row = walk.floats(i);
    for (int64_t j = 0; j < walk.row_elements(); ++j) {
      sum += static_cast<double>(row[j]) * static_cast<double>(row[j]);
    }
  }
  total[0] = sum;
}

void CpuBackend::AdamW(const AdamWArgs& args) {
  for (const Tensor* x : {&args.grad, &args.p, &args.m, &args.v}) {
    CHECK(x->contiguous() && x->dtype() == DType::kF32) << x->DebugString();
    CHECK_EQ(x->elements(), args.p.elements());
  }
  CHECK(args.options.bias_correction1 > 0 && args.options.bias_correction2 > 0);
  const AdamWFactors factors = {
      .beta1 = args.options.beta1,
      .one_minus_beta1 = 1 - args.options.beta1,
      .beta2 = args.options.beta2,
      .one_minus_beta2 = 1 - args.options.beta2,
      .step_size = args.options.learning_rate / args.options.bias_correction1,
      .inverse_sqrt_correction2 =
          1 / __builtin_sqrtf(args.options.bias_correction2),
      .eps = args.options.eps,
      .decay = args.options.learning_rate * args.options.weight_decay,
      .grad_scale = args.options.grad_scale,
  };
  const float* g = args.grad.as<const float>();
  float* param = args.p.as<float>();
  float* first = args.m.as<float>();
  float* second = args.v.as<float>();
  pool_.ParallelFor(
      args.p.elements(), kGrainElements, [&](int, int64_t begin, int64_t end) {
        // In pieces that stay in L1 over the three passes.
        for (int64_t i = begin; i < end; i += 1024) {
          tier_.adamw(factors, g + i, param + i, first + i, second + i,
                      std::min<int64_t>(1024, end - i));
        }
      });
}

}  // namespace temper
