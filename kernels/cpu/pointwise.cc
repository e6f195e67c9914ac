// Pointwise operations of CpuBackend.

#include <algorithm>
#include <atomic>

#include "kernels/base/log.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/row_copy.h"
#include "kernels/cpu/row_walk.h"
#include "kernels/cpu/rows.h"
#include "kernels/ops/shape_check.h"

namespace temper {
namespace {

// Copies rows named by an index vector, either way. False if some row is beyond
// the table; the others are copied.
bool CopyRows(const TierKernels& tier, ThreadPool* pool, const Tensor& from,
              const Tensor& to, const Tensor& rows, bool scatter) {
  CheckCopyable(from, to);
  const RowWalk source(from, /*leading_axes=*/1);
  const RowWalk target(to, /*leading_axes=*/1);
  CHECK_EQ(source.leading_axes(), 1) << from.DebugString();
  CHECK_EQ(target.leading_axes(), 1) << to.DebugString();
  CHECK_EQ(source.row_elements(), target.row_elements())
      << from.DebugString() << " to " << to.DebugString();
  const int64_t count = (scatter ? source : target).rows();
  const int64_t limit = (scatter ? to : from).dim(0);
  const int32_t* row = AsVector<const int32_t>(rows, count);
  std::atomic<bool> all_there{true};
  pool->ParallelFor(count, RowGrain(source.row_elements()),
                    [&](int, int64_t begin, int64_t end) {
                      for (int64_t n = begin; n < end; ++n) {
                        if (row[n] < 0 || row[n] >= limit) {
                          all_there = false;
                          continue;
                        }
                        const int64_t a = scatter ? n : row[n];
                        const int64_t b = scatter ? row[n] : n;
                        CopyRow(tier, from.dtype(), source.row(a), to.dtype(),
                                target.row(b), source.row_elements());
                      }
                    });
  return all_there;
}

}  // namespace

void CpuBackend::Embed(const Tensor& table, const Tensor& ids,
                       const Tensor& x) {
  if (!CopyRows(tier_, &pool_, table, x, ids, /*scatter=*/false)) {
    SetFault(DeviceFault::kRow);
  }
}

void CpuBackend::EmbedBackward(const Tensor& ids, const Tensor& dx,
                               const Tensor& dtable) {
  const auto from = AsRows<const float>(dx);
  const auto to = AsRows<float>(dtable);
  const int32_t* id = AsVector<const int32_t>(ids, from.rows);
  CheckEmbedBackward(ids, dx, dtable);
  // Tokens ascend in every column.
  pool_.ParallelFor(from.columns, 16, [&](int, int64_t begin, int64_t end) {
    for (int64_t n = 0; n < from.rows; ++n) {
      if (id[n] < 0 || id[n] >= to.rows) {
        SetFault(DeviceFault::kRow);
        continue;
      }
      tier_.add(from.row(n) + begin, to.row(id[n]) + begin, end - begin);
    }
  });
}

void CpuBackend::Add(const Tensor& y, const Tensor& x) {
  CHECK(x.dtype() == DType::kF32 && y.dtype() == DType::kF32);
  const int axes =
      std::max(RowWalk(y).leading_axes(), RowWalk(x).leading_axes());
  const RowWalk from(y, axes), to(x, axes);
  CHECK(from.SameCut(to)) << y.DebugString() << " to " << x.DebugString();
  pool_.ParallelFor(to.rows(), RowGrain(to.row_elements()),
                    [&](int, int64_t begin, int64_t end) {
                      for (int64_t i = begin; i < end; ++i) {
                        tier_.add(from.floats(i), to.floats(i),
                                  to.row_elements());
                      }
                    });
}

void CpuBackend::Copy(const Tensor& from, const Tensor& to) {
  CheckCopyable(from, to);
  const int axes =
      std::max(RowWalk(from).leading_axes(), RowWalk(to).leading_axes());
  const RowWalk source(from, axes), target(to, axes);
  CHECK(source.SameCut(target))
      << from.DebugString() << " to " << to.DebugString();
  pool_.ParallelFor(target.rows(), RowGrain(target.row_elements()),
                    [&](int, int64_t begin, int64_t end) {
                      for (int64_t i = begin; i < end; ++i) {
                        CopyRow(tier_, from.dtype(), source.row(i), to.dtype(),
                                target.row(i), target.row_elements());
                      }
                    });
}

void CpuBackend::Scale(float factor, const Tensor& x) {
  CHECK(x.dtype() == DType::kF32) << x.DebugString();
  const RowWalk walk(x);
  pool_.ParallelFor(walk.rows(), RowGrain(walk.row_elements()),
                    [&](int, int64_t begin, int64_t end) {
                      for (int64_t i = begin; i < end; ++i) {
                        tier_.scale(factor, walk.floats(i),
                                    walk.row_elements());
                      }
                    });
}

void CpuBackend::Rope(const Tensor& x, const Tensor& position,
                      const Tensor& cos_sin, RopeStyle style,
                      RopeDirection direction) {
  const auto rows = AsGroupedRows<float>(x);
  const auto table = AsRows<const float>(cos_sin);
  const int32_t* at = AsVector<const int32_t>(position, rows.rows);
  const int64_t half = rows.columns / 2;
  CheckRope(x, position, cos_sin);
  pool_.ParallelFor(
      rows.rows, RowGrain(rows.groups * rows.columns),
      [&](int, int64_t begin, int64_t end) {
        float sin[kRopeDimsMax / 2], a[kRopeDimsMax / 2], b[kRopeDimsMax / 2];
        for (int64_t n = begin; n < end; ++n) {
          if (at[n] < 0 || at[n] >= table.rows) {
            SetFault(DeviceFault::kRow);
            continue;
          }
          const float* cos = table.row(at[n]);
          const float sign = direction == RopeDirection::kForward ? 1.f : -1.f;
          for (int64_t j = 0; j < half; ++j) sin[j] = sign * cos[half + j];
          for (int64_t group = 0; group < rows.groups; ++group) {
            float* row = rows.row(n, group);
            if (style == RopeStyle::kHalfSplit) {
              tier_.rotate(cos, sin, row, row + half, half);
              continue;
            }
            for (int64_t j = 0; j < half; ++j) {
              a[j] = row[2 * j];
              b[j] = row[2 * j + 1];
            }
            tier_.rotate(cos, sin, a, b, half);
            for (int64_t j = 0; j < half; ++j) {
              row[2 * j] = a[j];
              row[2 * j + 1] = b[j];
            }
          }
        }
      });
}

void CpuBackend::SwiGlu(const Tensor& gate, const Tensor& up, const Tensor& h) {
  const auto g = AsRows<const float>(gate);
  const auto u = AsRows<const float>(up);
  const auto out = AsRows<float>(h);
  CheckSameShape(gate, up);
  CheckSameShape(gate, h);
  pool_.ParallelFor(g.rows, RowGrain(8 * g.columns),
                    [&](int, int64_t begin, int64_t end) {
                      for (int64_t n = begin; n < end; ++n) {
                        tier_.swiglu(g.row(n), u.row(n), out.row(n), g.columns);
                      }
                    });
}

void CpuBackend::SwiGluBackward(const SwiGluBackwardArgs& args) {
  const auto g = AsRows<const float>(args.gate);
  const auto u = AsRows<const float>(args.up);
  const auto d = AsRows<const float>(args.dh);
  const auto dg = AsRows<float>(args.dgate);
  const auto du = AsRows<float>(args.dup);
  CheckShapes(args);
  pool_.ParallelFor(g.rows, RowGrain(8 * g.columns),
                    [&](int, int64_t begin, int64_t end) {
                      for (int64_t n = begin; n < end; ++n) {
                        tier_.swiglu_backward(g.row(n), u.row(n), d.row(n),
                                              dg.row(n), du.row(n), g.columns);
                      }
                    });
}

void CpuBackend::ScatterRows(const Tensor& from, const Tensor& rows,
                             const Tensor& to) {
  if (!CopyRows(tier_, &pool_, from, to, rows, /*scatter=*/true)) {
    SetFault(DeviceFault::kRow);
  }
}

void CpuBackend::GatherRows(const Tensor& from, const Tensor& rows,
                            const Tensor& to) {
  if (!CopyRows(tier_, &pool_, from, to, rows, /*scatter=*/false)) {
    SetFault(DeviceFault::kRow);
  }
}

}  // namespace temper
