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

void CpuBackend::AdamW(const AdamWOptions& options, const Tensor& grad,
                       const Tensor& p, const Tensor& m, const Tensor& v) {
  for (const Tensor* x : {&grad, &p, &m, &v}) {
    CHECK(x->contiguous() && x->dtype() == DType::kF32) << x->DebugString();
    CHECK_EQ(x->elements(), p.elements());
  }
  CHECK(options.bias_correction1 > 0 && options.bias_correction2 > 0);
  const AdamWFactors factors = {
      .beta1 = options.beta1,
      .one_minus_beta1 = 1 - options.beta1,
      .beta2 = options.beta2,
      .one_minus_beta2 = 1 - options.beta2,
      .step_size = options.learning_rate / options.bias_correction1,
      .inverse_sqrt_correction2 = 1 / __builtin_sqrtf(options.bias_correction2),
      .eps = options.eps,
      .decay = options.learning_rate * options.weight_decay,
      .grad_scale = options.grad_scale,
  };
  const float* g = grad.as<const float>();
  float* param = p.as<float>();
  float* first = m.as<float>();
  float* second = v.as<float>();
  pool_.ParallelFor(
      p.elements(), kGrainElements, [&](int, int64_t begin, int64_t end) {
        // In pieces that stay in L1 over the three passes.
        for (int64_t i = begin; i < end; i += 1024) {
          tier_.adamw(factors, g + i, param + i, first + i, second + i,
                      std::min<int64_t>(1024, end - i));
        }
      });
}

}  // namespace temper
