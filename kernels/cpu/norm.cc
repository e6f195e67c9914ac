// Normalisations of CpuBackend. A backward first finds each row's statistics
// again, then sums dw over the rows ascending (threads split the columns),
// then overwrites dx, which may be dy.

#include <algorithm>

#include "kernels/base/log.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/rows.h"

namespace temper {
namespace {

constexpr int64_t kGrainElements = 8192;

int64_t RowGrain(int64_t columns) {
  return std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, columns));
}

template <typename A, typename B>
void CheckSameShape(const Rows<A>& a, const Rows<B>& b) {
  CHECK(a.rows == b.rows && a.columns == b.columns)
      << "[" << a.rows << ", " << a.columns << "] and [" << b.rows << ", "
      << b.columns << "]";
}

}  // namespace

void CpuBackend::RmsNorm(const Tensor& x, const Tensor& w, float eps,
                         const Tensor& y) {
  const auto from = AsRows<const float>(x);
  const auto to = AsRows<float>(y);
  CheckSameShape(from, to);
  const float* weight = AsVector<const float>(w, from.columns);
  pool_.ParallelFor(
      from.rows, RowGrain(from.columns), [&](int, int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
          const float inverse =
              tier_.rms_inverse(from.row(n), eps, from.columns);
          tier_.rms_norm(from.row(n), weight, inverse, to.row(n), from.columns);
        }
      });
}

void CpuBackend::RmsNormBackward(const RmsNormBackwardArgs& args) {
  const auto from = AsRows<const float>(args.x);
  const auto grad = AsRows<const float>(args.dy);
  const auto to = AsRows<float>(args.dx);
  CheckSameShape(from, grad);
  CheckSameShape(from, to);
  const int64_t columns = from.columns;
  const float* weight = AsVector<const float>(args.w, columns);
  float* weight_grad = AsVector<float>(args.dw, columns);
  float* inverse = SharedScratch(from.rows);
  pool_.ParallelFor(
      from.rows, RowGrain(columns), [&](int, int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
          inverse[n] = tier_.rms_inverse(from.row(n), args.eps, columns);
        }
      });
  pool_.ParallelFor(columns, 16, [&](int, int64_t begin, int64_t end) {
    for (int64_t n = 0; n < from.rows; ++n) {
      tier_.norm_weight_grad(from.row(n) + begin, 0, inverse[n],
                             grad.row(n) + begin, weight_grad + begin,
                             end - begin);
    }
  });
  pool_.ParallelFor(
      from.rows, RowGrain(columns), [&](int, int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
          tier_.rms_norm_backward(from.row(n), weight, inverse[n], grad.row(n),
                                  to.row(n), columns);
        }
      });
}

void CpuBackend::LayerNorm(const LayerNormArgs& args) {
  const auto from = AsRows<const float>(args.x);
  const auto to = AsRows<float>(args.y);
  CheckSameShape(from, to);
  const int64_t columns = from.columns;
  const float* weight = AsVector<const float>(args.w, columns);
  const float* bias = AsVector<const float>(args.b, columns);
  pool_.ParallelFor(from.rows, RowGrain(columns),
                    [&](int, int64_t begin, int64_t end) {
                      for (int64_t n = begin; n < end; ++n) {
                        const float* row = from.row(n);
                        const float mean = tier_.mean(row, columns);
                        const float inverse =
                            tier_.layer_inverse(row, mean, args.eps, columns);
                        tier_.layer_norm(row, weight, bias, mean, inverse,
                                         to.row(n), columns);
                      }
                    });
}

void CpuBackend::LayerNormBackward(const LayerNormBackwardArgs& args) {
  const auto from = AsRows<const float>(args.x);
  const auto grad = AsRows<const float>(args.dy);
  const auto to = AsRows<float>(args.dx);
  CheckSameShape(from, grad);
  CheckSameShape(from, to);
  const int64_t columns = from.columns;
  const float* weight = AsVector<const float>(args.w, columns);
  float* weight_grad = AsVector<float>(args.dw, columns);
  float* bias_grad = AsVector<float>(args.db, columns);
  float* mean = SharedScratch(2 * from.rows);
  float* inverse = mean + from.rows;
  pool_.ParallelFor(
      from.rows, RowGrain(columns), [&](int, int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
          mean[n] = tier_.mean(from.row(n), columns);
          inverse[n] =
              tier_.layer_inverse(from.row(n), mean[n], args.eps, columns);
        }
      });
  pool_.ParallelFor(columns, 16, [&](int, int64_t begin, int64_t end) {
    for (int64_t n = 0; n < from.rows; ++n) {
      tier_.norm_weight_grad(from.row(n) + begin, mean[n], inverse[n],
                             grad.row(n) + begin, weight_grad + begin,
                             end - begin);
      tier_.add(grad.row(n) + begin, bias_grad + begin, end - begin);
    }
  });
  pool_.ParallelFor(
      from.rows, RowGrain(columns), [&](int, int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
          tier_.layer_norm_backward(from.row(n), weight, mean[n], inverse[n],
                                    grad.row(n), to.row(n), columns);
        }
      });
}

}  // namespace temper
