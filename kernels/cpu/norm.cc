// Normalisations of CpuBackend. A backward first finds each row's statistics
// again, then sums dw over the rows ascending (threads split the columns),
// then overwrites dx, which may be dy.

#include "kernels/base/thread_pool.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/rows.h"
#include "kernels/ops/shape_check.h"

namespace temper {
namespace {

// body(n) of each row.
template <typename Body>
void ForEachRow(ThreadPool* pool, const Rows<const float>& x,
                const Body& body) {
  pool->ParallelFor(x.rows, RowGrain(x.columns),
                    [&](int, int64_t begin, int64_t end) {
                      for (int64_t n = begin; n < end; ++n) body(n);
                    });
}

// Of a row; an RmsNorm's mean is 0.
struct Moments {
  float mean;
  float inverse;
};

// Either backward, over the moments that `moments_of` finds of each row again
// (scratch has room for them); `row_grad` overwrites a row of dx. No bias_grad
// where there is no bias.
template <typename Args, typename MomentsOf, typename RowGrad>
void NormBackward(const Args& args, float* bias_grad, const TierKernels& tier,
                  ThreadPool* pool, float* scratch, const MomentsOf& moments_of,
                  const RowGrad& row_grad) {
  const auto from = AsRows<const float>(args.x);
  const auto grad = AsRows<const float>(args.dy);
  const auto to = AsRows<float>(args.dx);
  CheckShapes(args);
  const int64_t columns = from.columns;
  const float* weight = AsVector<const float>(args.w, columns);
  float* weight_grad = AsVector<float>(args.dw, columns);
  auto* const moments = reinterpret_cast<Moments*>(scratch);
  ForEachRow(pool, from,
             [&](int64_t n) { moments[n] = moments_of(from.row(n), columns); });
  pool->ParallelFor(columns, 16, [&](int, int64_t begin, int64_t end) {
    for (int64_t n = 0; n < from.rows; ++n) {
      tier.norm_weight_grad(from.row(n) + begin, moments[n].mean,
                            moments[n].inverse, grad.row(n) + begin,
                            weight_grad + begin, end - begin);
      if (bias_grad == nullptr) continue;
      tier.add(grad.row(n) + begin, bias_grad + begin, end - begin);
    }
  });
  ForEachRow(pool, from, [&](int64_t n) {
    row_grad(from.row(n), weight, moments[n], grad.row(n), to.row(n), columns);
  });
}

}  // namespace

void CpuBackend::RmsNorm(const Tensor& x, const Tensor& w, float eps,
                         const Tensor& y) {
  const auto from = AsRows<const float>(x);
  const auto to = AsRows<float>(y);
  CheckRmsNorm(x, w, y);
  const float* weight = AsVector<const float>(w, from.columns);
  ForEachRow(&pool_, from, [&](int64_t n) {
    const float inverse = tier_.rms_inverse(from.row(n), eps, from.columns);
    tier_.rms_norm(from.row(n), weight, inverse, to.row(n), from.columns);
  });
}

void CpuBackend::RmsNormBackward(const RmsNormBackwardArgs& args) {
  NormBackward(
      args, /*bias_grad=*/nullptr, tier_, &pool_,
      SharedScratch(2 * AsRows<const float>(args.x).rows),
      [&](const float* x, int64_t columns) {
        return Moments{0, tier_.rms_inverse(x, args.eps, columns)};
      },
      [&](const float* x, const float* w, const Moments& moments,
          const float* dy, float* dx, int64_t columns) {
        tier_.rms_norm_backward(x, w, moments.inverse, dy, dx, columns);
      });
}

void CpuBackend::LayerNorm(const LayerNormArgs& args) {
  const auto from = AsRows<const float>(args.x);
  const auto to = AsRows<float>(args.y);
  CheckShapes(args);
  const int64_t columns = from.columns;
  const float* weight = AsVector<const float>(args.w, columns);
  const float* bias = AsVector<const float>(args.b, columns);
  ForEachRow(&pool_, from, [&](int64_t n) {
    const float* row = from.row(n);
    const float mean = tier_.mean(row, columns);
    const float inverse = tier_.layer_inverse(row, mean, args.eps, columns);
    tier_.layer_norm(row, weight, bias, mean, inverse, to.row(n), columns);
  });
}

void CpuBackend::LayerNormBackward(const LayerNormBackwardArgs& args) {
  const auto from = AsRows<const float>(args.x);
  NormBackward(
      args, AsVector<float>(args.db, from.columns), tier_, &pool_,
      SharedScratch(2 * from.rows),
      [&](const float* x, int64_t columns) {
        const float mean = tier_.mean(x, columns);
        return Moments{mean, tier_.layer_inverse(x, mean, args.eps, columns)};
      },
      [&](const float* x, const float* w, const Moments& moments,
          const float* dy, float* dx, int64_t columns) {
        tier_.layer_norm_backward(x, w, moments.mean, moments.inverse, dy, dx,
                                  columns);
      });
}

}  // namespace temper
