// FP8 weights of CpuBackend, and the rotation that goes before a quantiser.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/base/log.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/rows.h"
#include "kernels/ops/shape_check.h"
#include "kernels/tensor/fp8.h"

namespace temper {
namespace {

// The rows and columns of square `index` of all squares of matrices
// [groups, out, in], those of a group together.
struct Square {
  Square(int64_t index, int64_t out, int64_t in) {
    const int64_t across = ScaleBlocks(in), down = ScaleBlocks(out);
    group = index / (across * down);
    row = index / across % down * kScaleBlock;
    row_end = std::min(out, row + kScaleBlock);
    column = index % across * kScaleBlock;
    columns = std::min(in - column, kScaleBlock);
  }
  int64_t group, row, row_end, column, columns;

  template <typename T>
  T& ScaleIn(const GroupedRows<T>& scales) const {
    return scales.row(group, row / kScaleBlock)[column / kScaleBlock];
  }
};

int64_t Squares(const Tensor& codes) {
  return codes.dim(0) * ScaleBlocks(codes.dim(1)) * ScaleBlocks(codes.dim(2));
}

// The square's scale, and its codes.
float Quantise(const TierKernels& tier, const GroupedRows<const float>& x,
               const GroupedRows<F8E4M3>& codes, const Square& s) {
  float largest = 0;
  for (int64_t i = s.row; i < s.row_end; ++i) {
    const float* from = x.row(s.group, i) + s.column;
    for (int64_t k = 0; k < s.columns; ++k) {
      largest = LargerMagnitude(largest, from[k]);
    }
  }
  float scale = 0, values[kScaleBlock];
  for (int64_t i = s.row; i < s.row_end; ++i) {
    scale =
        tier.quantise(x.row(s.group, i) + s.column, largest, values, s.columns);
    tier.store_codes(values, &codes.row(s.group, i)[s.column].bits, s.columns);
  }
  return scale;
}

const uint8_t* Bytes(const F8E4M3* codes) {
  static_assert(sizeof(F8E4M3) == 1);
  return reinterpret_cast<const uint8_t*>(codes);
}

}  // namespace

void CpuBackend::QuantiseWeight(const Tensor& x, const Tensor& codes,
                                const Tensor& scales) {
  const auto from = AsGroupedRows<const float>(x);
  const auto to = AsGroupedRows<F8E4M3>(codes);
  CheckSameShape(x, codes);
  CheckScales(codes, scales);
  const auto scale = AsGroupedRows<float>(scales);
  pool_.ParallelFor(Squares(codes), 1, [&](int, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Square s(i, codes.dim(1), codes.dim(2));
      float& made = s.ScaleIn(scale);
      made = Quantise(tier_, from, to, s);
      if (std::isnan(made)) SetFault(DeviceFault::kNumbers);
    }
  });
}

void CpuBackend::DequantiseWeight(const Tensor& codes, const Tensor& scales,
                                  const Tensor& x) {
  const auto from = AsGroupedRows<const F8E4M3>(codes);
  CheckSameShape(x, codes);
  CheckScales(codes, scales);
  const auto scale = AsGroupedRows<const float>(scales);
  const bool narrow = x.dtype() == DType::kBF16;
  const auto floats = narrow ? GroupedRows<float>() : AsGroupedRows<float>(x);
  const auto halves = narrow ? AsGroupedRows<BF16>(x) : GroupedRows<BF16>();
  pool_.ParallelFor(Squares(codes), 1, [&](int, int64_t begin, int64_t end) {
    uint16_t widened[kScaleBlock];
    for (int64_t i = begin; i < end; ++i) {
      const Square s(i, codes.dim(1), codes.dim(2));
      for (int64_t row = s.row; row < s.row_end; ++row) {
        tier_.widen_codes(Bytes(from.row(s.group, row) + s.column),
                          s.ScaleIn(scale), widened, s.columns);
        if (narrow) {
          std::memcpy(halves.row(s.group, row) + s.column, widened,
                      static_cast<size_t>(s.columns) * sizeof(BF16));
        } else {
          tier_.widen_bf16(widened, floats.row(s.group, row) + s.column,
                           s.columns);
        }
      }
    }
  });
}

void CpuBackend::SetQuantisedWeight(const Tensor& codes, const Tensor& scales,
                                    Weight* weight) {
  const auto* w = static_cast<const CpuWeight*>(weight);
  const WeightSpec& spec = w->spec;
  CHECK(spec.dtype == DType::kF8E4M3)
      << "codes for a weight of " << DTypeName(spec.dtype);
  CheckWeightValues(codes, spec);
  CheckScales(codes, scales);
  const auto from = AsGroupedRows<const F8E4M3>(codes);
  const auto scale = AsGroupedRows<const float>(scales);
  for (int64_t i = 0; i < scale.rows * scale.groups; ++i) {
    std::copy_n(scale.row(i / scale.groups, i % scale.groups), scale.columns,
                w->scales_of(0) + i * scale.columns);
  }
  const auto panels_of = [](int64_t floats, int64_t columns) {
    return floats == 0 ? 0 : (columns + kPanel - 1) / kPanel;
  };
  const int64_t forward = panels_of(w->forward_floats, spec.out);
  const int64_t all = forward + panels_of(w->transposed_floats, spec.in);
  pool_.ParallelFor(
      spec.groups * all, 4, [&](int thread, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t group = i / all, panel = i % all;
          if (panel < forward) {
            const int64_t first = panel * kPanel;
            float* const to =
                const_cast<float*>(w->packed(Use::kForward, group));
            PackCodes(
                Bytes(from.row(group, first)),
                std::min(kPanel, spec.out - first), spec.in, from.group_stride,
                reinterpret_cast<uint8_t*>(to) + panel * CodePanel(spec.in));
          } else {
            PackTransposed(*w, from, group, (panel - forward) * kPanel,
                           Scratch(thread, spec.out * kPanel));
          }
        }
      });
}

void CpuBackend::PackTransposed(const CpuWeight& w,
                                const GroupedRows<const F8E4M3>& codes,
                                int64_t group, int64_t first, float* scratch) {
  const int64_t columns = std::min(kPanel, w.spec.in - first);
  auto* const narrow = reinterpret_cast<uint16_t*>(scratch);
  const float* const scales = w.scales_of(group) + first / kScaleBlock;
  for (int64_t i = 0; i < w.spec.out; ++i) {
    tier_.widen_codes(Bytes(codes.row(group, i) + first),
                      scales[i / kScaleBlock * ScaleBlocks(w.spec.in)],
                      narrow + i * kPanel, columns);
  }
  float* const to = const_cast<float*>(w.packed(Use::kTransposed, group));
  PackPairs(
      narrow, columns, w.spec.out, 1, kPanel,
      reinterpret_cast<uint32_t*>(to) + first / kPanel * PairPanel(w.spec.out));
}

void CpuBackend::Hadamard(const Tensor& x) {
  const auto rows = AsGroupedRows<float>(x);
  CheckHadamard(x);
  const int64_t n = rows.columns;
  const auto factor = static_cast<float>(1 / std::sqrt(static_cast<double>(n)));
  pool_.ParallelFor(
      rows.rows, RowGrain(8 * rows.groups * n),
      [&](int, int64_t begin, int64_t end) {
        for (int64_t i = begin * rows.groups; i < end * rows.groups; ++i) {
          float* const row = rows.row(i / rows.groups, i % rows.groups);
          for (int64_t stride = 1; stride < n; stride *= 2) {
            for (int64_t first = 0; first < n; first += 2 * stride) {
              for (int64_t j = first; j < first + stride; ++j) {
                const float a = row[j], b = row[j + stride];
                row[j] = a + b;
                row[j + stride] = a - b;
              }
            }
          }
          tier_.scale(factor, row, n);
        }
      });
}

}  // namespace temper
