// Products of CpuBackend: weights, and their gradients.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/weight_product.h"
#include "kernels/ops/shape_check.h"
#include "kernels/tensor/fp8.h"

namespace temper {
namespace {

// Tokens of one block of a weight gradient, and the tile of dw a thread
// accumulates over them.
constexpr int64_t kTokenBlock = 256;
constexpr int64_t kOutBlock = 96;
constexpr int64_t kInBlock = 256;
constexpr int64_t kWeightGradScratch = (kInBlock + kOutBlock) * kTokenBlock;
// Rows of one piece of work of HeadLinear and GroupedLinear.
constexpr int64_t kTaskRows = 96;

const CpuWeight& AsCpuWeight(const Weight& weight) {
  return static_cast<const CpuWeight&>(weight);
}

// One product dw[out, in] += dy^T x over `tokens` rows.
struct WeightGrad {
  const float* x;
  int64_t x_stride;
  const float* dy;
  int64_t dy_stride;
  int64_t tokens;
  int64_t out;
  float* dw;
  int64_t dw_stride;
  DType operand;  // but f32 both are rounded to bf16, x after being quantised
};

// Columns [begin, end) of `tokens` rows of x from `token` on, as pairs of what
// e4m3 makes of them: a pair block of tokens at a time. `begin` is where a
// block of columns that share scales begins. False if one can have none.
bool PairQuantised(const TierKernels& tier, const WeightGrad& grad,
                   int64_t token, int64_t tokens, int64_t begin, int64_t end,
                   uint32_t* pairs, float* scratch) {
  bool all = true;
  for (int64_t first = 0; first < tokens; first += kPairBlock) {
    const int64_t some = std::min(kPairBlock, tokens - first);
    for (int64_t i = 0; i < some; ++i) {
      const float* x = grad.x + (token + first + i) * grad.x_stride;
      for (int64_t k = begin; k < end; k += kScaleBlock) {
        float* const to = scratch + i * kInBlock + k - begin;
        const int64_t columns = std::min(kScaleBlock, end - k);
        const float scale = tier.quantise(x + k, 0, to, columns);
        tier.scale(scale, to, columns);
        all = all && !std::isnan(scale);
      }
    }
    tier.pair_floats(scratch, kInBlock, some, end - begin,
                     pairs + first / 2 * kPanel, PairPanel(tokens));
  }
  return all;
}

// A block of tokens and a tile of dw's rows, as a product: a is dy, read down
// its columns.
bool AddPairs(const TierKernels& tier, const WeightGrad& grad, int64_t begin,
              int64_t end, float* scratch) {
  auto* pairs = reinterpret_cast<uint32_t*>(scratch);
  float* const quantised = scratch + PackedPairs(kInBlock, kTokenBlock);
  bool all = true;
  // A block of tokens is whole blocks of the depth, so dw's totals go on.
  static_assert(kTokenBlock % kPairBlock == 0);
  for (int64_t token = 0; token < grad.tokens; token += kTokenBlock) {
    const int64_t depth = std::min(kTokenBlock, grad.tokens - token);
    if (grad.operand == DType::kF8E4M3) {
      all = PairQuantised(tier, grad, token, depth, begin, end, pairs,
                          quantised) &&
            all;
    } else {
      tier.pair_floats(grad.x + token * grad.x_stride + begin, grad.x_stride,
                       depth, end - begin, pairs, PairPanel(depth));
    }
    PairGemmSerial(tier, {.rows = grad.out,
                          .columns = end - begin,
                          .depth = depth,
                          .a = grad.dy + token * grad.dy_stride,
                          .a_row = 1,
                          .a_k = grad.dy_stride,
                          .b = pairs,
                          .b_panel = PairPanel(depth),
                          .c = grad.dw + begin,
                          .c_row = grad.dw_stride,
                          .accumulate = true});
  }
  return all;
}

// The part of it in columns [begin, end) of dw, at most kInBlock of them.
// Tokens ascend through the blocks, so each element stays one chain. dy is
// copied into rows of kOutBlock: a power of two between its rows would map
// all of them to the same few cache sets. False as above.
bool AccumulateWeightGrad(const TierKernels& tier, const WeightGrad& grad,
                          int64_t begin, int64_t end, float* scratch) {
  if (grad.operand != DType::kF32) {
    return AddPairs(tier, grad, begin, end, scratch);
  }
  float* const packed_x = scratch;
  float* const packed_dy = scratch + kInBlock * kTokenBlock;
  for (int64_t token = 0; token < grad.tokens; token += kTokenBlock) {
    const int64_t depth = std::min(kTokenBlock, grad.tokens - token);
    PackPanels(grad.x + token * grad.x_stride + begin, end - begin, depth, 1,
               grad.x_stride, packed_x);
    for (int64_t out = 0; out < grad.out; out += kOutBlock) {
      const int64_t rows = std::min(kOutBlock, grad.out - out);
      const float* dy = grad.dy + token * grad.dy_stride + out;
      for (int64_t k = 0; k < depth; ++k) {
        std::memcpy(packed_dy + k * kOutBlock, dy + k * grad.dy_stride,
                    static_cast<size_t>(rows) * sizeof(float));
      }
      GemmBlock block;
      block.rows = rows;
      block.columns = end - begin;
      block.depth = depth;
      block.a = packed_dy;
      block.a_row = 1;
      block.a_k = kOutBlock;
      block.b = packed_x;
      block.b_panel = kPanel * depth;
      block.c = grad.dw + out * grad.dw_stride + begin;
      block.c_row = grad.dw_stride;
      block.accumulate = true;
      tier.gemm(block);
    }
  }
  return true;
}

DType Operand(DType operand) {
  CHECK(operand == DType::kF32 || operand == DType::kBF16 ||
        operand == DType::kF8E4M3)
      << "a product of " << DTypeName(operand);
  return operand;
}

// Whether groups follow one another over all rows: what is checked before the
// first row is touched need not be looked at in the loops.
bool Tile(const int32_t* offsets, int64_t groups, int64_t rows) {
  for (int64_t g = 0; g < groups; ++g) {
    if (offsets[g] > offsets[g + 1]) return false;
  }
  return offsets[0] == 0 && offsets[groups] == rows;
}

// Cuts [0, in) for the threads: whole panels, of what is quantised whole blocks
// of columns that share scales, at most kInBlock.
int64_t ColumnsPerTask(int64_t in, int threads, DType operand) {
  const int64_t unit = operand == DType::kF8E4M3 ? kScaleBlock : kPanel;
  const int64_t units = (in + unit - 1) / unit;
  const int64_t share = (units + threads - 1) / threads * unit;
  return std::max(unit, std::min(kInBlock, share));
}
static_assert(kInBlock % kScaleBlock == 0);

}  // namespace

absl::StatusOr<std::unique_ptr<Weight>> CpuBackend::NewWeight(
    const WeightSpec& spec) {
  if (spec.dtype != DType::kF32 && spec.dtype != DType::kBF16 &&
      spec.dtype != DType::kF8E4M3) {
    return absl::UnimplementedError(
        absl::StrCat("a weight of ", DTypeName(spec.dtype), " on the CPU"));
  }
  CHECK(spec.groups >= 1 && spec.out >= 1 && spec.in >= 1)
      << "[" << spec.groups << ", " << spec.out << ", " << spec.in << "]";
  auto weight = std::make_unique<CpuWeight>();
  weight->spec = spec;
  const auto packed = spec.dtype == DType::kF32 ? PackedFloats : PackedPairs;
  if (spec.packed_for != PackedFor::kTransposed) {
    weight->forward_floats = packed(spec.out, spec.in);
  }
  if (spec.packed_for != PackedFor::kForward) {
    weight->transposed_floats = packed(spec.in, spec.out);
  }
  if (spec.dtype == DType::kF8E4M3) {
    // A byte in the place of a bf16.
    weight->forward_floats /= 2;
    weight->scales = ScaleBlocks(spec.out) * ScaleBlocks(spec.in);
  }
  const int64_t floats =
      spec.groups *
      (weight->forward_floats + weight->transposed_floats + weight->scales);
  ASSIGN_OR_RETURN(weight->storage,
                   Allocate(floats * static_cast<int64_t>(sizeof(float))));
  return std::unique_ptr<Weight>(std::move(weight));
}

namespace {

// Packs one panel of one use of a matrix [out, in] of a weight.
template <typename T>
void PackPanel(const CpuWeight& w, Use use, int64_t group, int64_t panel,
               const T* matrix, int64_t row, int64_t column) {
  const bool forward = use == Use::kForward;
  const int64_t first = panel * kPanel;
  const int64_t columns =
      std::min(kPanel, (forward ? w.spec.out : w.spec.in) - first);
  const int64_t depth = forward ? w.spec.in : w.spec.out;
  const T* from = matrix + first * (forward ? row : column);
  const int64_t column_stride = forward ? row : column;
  const int64_t depth_stride = forward ? column : row;
  float* to = const_cast<float*>(w.packed(use, group));
  if (w.spec.dtype == DType::kBF16) {
    PackPairs(from, columns, depth, column_stride, depth_stride,
              reinterpret_cast<uint32_t*>(to + panel * PairPanel(depth)));
  } else if constexpr (std::is_same_v<T, float>) {
    PackPanels(from, columns, depth, column_stride, depth_stride,
               to + first * depth);
  } else {
    LOG(FATAL) << "bf16 values for a weight of floats";
  }
}

}  // namespace

void CpuBackend::SetWeight(const Tensor& values, Weight* weight) {
  const auto* w = static_cast<const CpuWeight*>(weight);
  CheckWeightValues(values, w->spec);
  if (w->spec.dtype == DType::kF8E4M3) return QuantiseInto(values, weight);
  const int64_t forward_panels =
      w->forward_floats == 0 ? 0 : (w->spec.out + kPanel - 1) / kPanel;
  const int64_t transposed_panels =
      w->transposed_floats == 0 ? 0 : (w->spec.in + kPanel - 1) / kPanel;
  const int64_t panels = forward_panels + transposed_panels;
  const auto pack = [&](auto* from, int64_t group, int64_t panel) {
    const bool forward = panel < forward_panels;
    PackPanel(*w, forward ? Use::kForward : Use::kTransposed, group,
              forward ? panel : panel - forward_panels,
              from + group * values.stride(0), values.stride(1),
              values.stride(2));
  };
  const bool narrow = values.dtype() == DType::kBF16;
  CHECK(!narrow || w->spec.dtype == DType::kBF16) << values.DebugString();
  pool_.ParallelFor(
      w->spec.groups * panels, 4, [&](int, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          if (narrow) {
            pack(reinterpret_cast<const uint16_t*>(values.as<BF16>()),
                 i / panels, i % panels);
          } else {
            pack(values.as<const float>(), i / panels, i % panels);
          }
        }
      });
}

void CpuBackend::QuantiseInto(const Tensor& values, Weight* weight) {
  const auto& w = AsCpuWeight(*weight);
  const WeightSpec& spec = w.spec;
  const int64_t scale_count = spec.groups * w.scales;
  float* const room = SharedScratch(scale_count + (values.elements() + 3) / 4);
  const Tensor scales(
      room, DType::kF32,
      {spec.groups, ScaleBlocks(spec.out), ScaleBlocks(spec.in)});
  const Tensor codes(room + scale_count, DType::kF8E4M3,
                     {spec.groups, spec.out, spec.in});
  QuantiseWeight(values, codes, scales);
  SetQuantisedWeight(codes, scales, weight);
}

void CpuBackend::Linear(const Tensor& x, const Weight& w, Use use,
                        const Tensor& y) {
  const auto from = AsRows<const float>(x);
  const auto to = AsRows<float>(y);
  const CpuWeight& weight = AsCpuWeight(w);
  CheckLinear(x, weight.spec, use, y);
  if (!MultiplyParallel(
          tier_, &pool_, weight, use,
          {from.data, from.stride, from.rows, to.data, to.stride})) {
    SetFault(DeviceFault::kNumbers);
  }
}

void CpuBackend::LinearWeightGrad(const WeightGradArgs& args) {
  const auto in = AsRows<const float>(args.x);
  const auto out = AsRows<const float>(args.dy);
  const auto grad = AsRows<float>(args.dw);
  CheckLinearWeightGrad(args);
  const WeightGrad product = {in.data,    in.stride,   out.data,
                              out.stride, in.rows,     out.columns,
                              grad.data,  grad.stride, Operand(args.operand)};
  const int64_t step =
      ColumnsPerTask(in.columns, pool_.threads(), args.operand);
  const int64_t tasks = (in.columns + step - 1) / step;
  pool_.ParallelFor(tasks, 1, [&](int thread, int64_t begin, int64_t end) {
    float* scratch = Scratch(thread, kWeightGradScratch);
    for (int64_t task = begin; task < end; ++task) {
      if (!AccumulateWeightGrad(tier_, product, task * step,
                                std::min(in.columns, (task + 1) * step),
                                scratch)) {
        SetFault(DeviceFault::kNumbers);
      }
    }
  });
}

void CpuBackend::HeadLinear(const Tensor& x, const Weight& w, Use use,
                            const Tensor& y) {
  const auto from = AsGroupedRows<const float>(x);
  const auto to = AsGroupedRows<float>(y);
  const CpuWeight& weight = AsCpuWeight(w);
  CheckHeadLinear(x, weight.spec, use, y);
  const int64_t blocks = (from.rows + kTaskRows - 1) / kTaskRows;
  const int64_t grain =
      PieceGrain(std::min(kTaskRows, from.rows) * from.columns * to.columns);
  // Head by head, so that a thread's panels stay in its cache.
  pool_.ParallelFor(
      weight.spec.groups * blocks, grain, [&](int, int64_t begin, int64_t end) {
        for (int64_t task = begin; task < end; ++task) {
          const int64_t group = task / blocks;
          const int64_t row = task % blocks * kTaskRows;
          const int64_t rows = std::min(kTaskRows, from.rows - row);
          if (!MultiplySerial(tier_, weight, use, group,
                              {from.row(row, group), from.stride, rows,
                               to.row(row, group), to.stride})) {
            SetFault(DeviceFault::kNumbers);
          }
        }
      });
}

void CpuBackend::HeadLinearWeightGrad(const WeightGradArgs& args) {
  const auto in = AsGroupedRows<const float>(args.x);
  const auto out = AsGroupedRows<const float>(args.dy);
  const auto grad = AsGroupedRows<float>(args.dw);  // rows are heads
  CheckHeadLinearWeightGrad(args);
  const int64_t step = ColumnsPerTask(in.columns, 1, args.operand);
  const int64_t cuts = (in.columns + step - 1) / step;
  pool_.ParallelFor(
      in.groups * cuts, 1, [&](int thread, int64_t begin, int64_t end) {
        float* scratch = Scratch(thread, kWeightGradScratch);
        for (int64_t task = begin; task < end; ++task) {
          const int64_t group = task / cuts;
          const int64_t first = task % cuts * step;
          const bool all = AccumulateWeightGrad(
              tier_,
              {in.row(0, group), in.stride, out.row(0, group), out.stride,
               in.rows, out.columns, grad.row(group, 0), grad.group_stride,
               Operand(args.operand)},
              first, std::min(in.columns, first + step), scratch);
          if (!all) SetFault(DeviceFault::kNumbers);
        }
      });
}

void CpuBackend::GroupedLinear(const GroupedLinearArgs& args) {
  const auto from = AsRows<const float>(args.x);
  const auto to = AsRows<float>(args.y);
  const CpuWeight& weight = AsCpuWeight(*args.w);
  const int32_t* offset =
      AsVector<const int32_t>(args.offsets, weight.spec.groups + 1);
  CheckGroupedLinear(args, weight.spec);
  if (!Tile(offset, weight.spec.groups, from.rows)) {
    return SetFault(DeviceFault::kOffsets);
  }
  // Threads take equal ranges of rows, cut again where an expert ends.
  const int64_t grain = PieceGrain(from.columns * to.columns);
  pool_.ParallelFor(from.rows, grain, [&](int, int64_t begin, int64_t end) {
    int64_t group =
        std::upper_bound(offset, offset + weight.spec.groups + 1, begin) -
        offset - 1;
    for (int64_t row = begin; row < end; ++group) {
      const int64_t last = std::min<int64_t>(end, offset[group + 1]);
      if (!MultiplySerial(tier_, weight, args.use, group,
                          {from.row(row), from.stride, last - row, to.row(row),
                           to.stride})) {
        SetFault(DeviceFault::kNumbers);
      }
      row = last;
    }
  });
}

void CpuBackend::GroupedLinearWeightGrad(
    const GroupedLinearWeightGradArgs& args) {
  const auto in = AsRows<const float>(args.x);
  const auto out = AsRows<const float>(args.dy);
  const auto grad = AsGroupedRows<float>(args.dw);  // rows are experts
  const int32_t* offset = AsVector<const int32_t>(args.offsets, grad.rows + 1);
  CheckShapes(args);
  if (!Tile(offset, grad.rows, in.rows)) {
    return SetFault(DeviceFault::kOffsets);
  }
  // Column cuts first, so that each thread meets every expert and an uneven
  // load among experts is shared.
  const int64_t step =
      ColumnsPerTask(in.columns, pool_.threads(), args.operand);
  const int64_t cuts = (in.columns + step - 1) / step;
  pool_.ParallelFor(
      cuts * grad.rows, 1, [&](int thread, int64_t begin, int64_t end) {
        float* scratch = Scratch(thread, kWeightGradScratch);
        for (int64_t task = begin; task < end; ++task) {
          const int64_t expert = task % grad.rows;
          const int64_t first = task / grad.rows * step;
          const int64_t row = offset[expert];
          const bool all = AccumulateWeightGrad(
              tier_,
              {in.row(row), in.stride, out.row(row), out.stride,
               offset[expert + 1] - row, out.columns, grad.row(expert, 0),
               grad.group_stride, Operand(args.operand)},
              first, std::min(in.columns, first + step), scratch);
          if (!all) SetFault(DeviceFault::kNumbers);
        }
      });
}

}  // namespace temper
