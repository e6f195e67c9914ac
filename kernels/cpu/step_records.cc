// What a step leaves behind beside its numbers: keys in their slots, how far
// two choices agree, whether the numbers still mean something.

#include <atomic>
#include <cmath>
#include <cstring>

#include "kernels/base/log.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/row_copy.h"
#include "kernels/cpu/row_walk.h"
#include "kernels/cpu/rows.h"
#include "kernels/ops/shape_check.h"

namespace temper {
namespace {

constexpr int64_t kGrainRows = 16;

// Rows of `from` to rows slot[n] of `to`; false if some slot has none.
bool WriteRows(const TierKernels& tier, ThreadPool* pool, const Tensor& from,
               const Tensor& slot, const Tensor& to) {
  const auto source = AsRows<const float>(from);
  CheckCopyable(from, to);
  const RowWalk target(to, /*leading_axes=*/1);
  const int32_t* const row = AsVector<const int32_t>(slot, source.rows);
  std::atomic<bool> all_there{true};
  pool->ParallelFor(source.rows, kGrainRows,
                    [&](int, int64_t begin, int64_t end) {
                      for (int64_t n = begin; n < end; ++n) {
                        if (row[n] < 0) continue;
                        if (row[n] >= target.rows()) {
                          all_there = false;
                          continue;
                        }
                        CopyRow(tier, from.dtype(), source.row(n), to.dtype(),
                                target.row(row[n]), source.columns);
                      }
                    });
  return all_there;
}

}  // namespace

void CpuBackend::WriteKeys(const WriteKeysArgs& args) {
  CheckShapes(args);
  const bool latent =
      WriteRows(tier_, &pool_, args.latent, args.slot, args.latent_strip);
  const bool index =
      WriteRows(tier_, &pool_, args.index_keys, args.slot, args.index_strip);
  if (!latent || !index) SetFault(DeviceFault::kRow);
}

void CpuBackend::CountEqualRows(const Tensor& a, const Tensor& b,
                                const Tensor& count) {
  const auto one = AsRows<const int32_t>(a);
  const auto other = AsRows<const int32_t>(b);
  CheckSameShape(a, b);
  int64_t* const total = AsVector<int64_t>(count, 1);
  const size_t bytes = static_cast<size_t>(one.columns) * sizeof(int32_t);
  // A few integers a row: less than handing them to another thread costs.
  for (int64_t n = 0; n < one.rows; ++n) {
    *total += std::memcmp(one.row(n), other.row(n), bytes) == 0;
  }
}

void CpuBackend::CheckNumbers(const Tensor& x, double limit) {
  double squares = 0;
  SumSquares({&x, 1}, Tensor(&squares, DType::kF64, {1}));
  const double size = std::sqrt(squares / static_cast<double>(x.elements()));
  // Written so that a NaN is a fault.
  if (!(size <= limit)) SetFault(DeviceFault::kNumbers);
}

}  // namespace temper
