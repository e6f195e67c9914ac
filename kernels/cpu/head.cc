// Log-probabilities. Learner and sampler (kernels/cpu/sample.cc) turn the same
// logits into the same bits through Normalise.

#include <algorithm>
#include <cstdint>
#include <functional>

#include "kernels/base/log.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/key_rows.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/softmax_log.h"
#include "kernels/cpu/weight_product.h"
#include "kernels/ops/shape_check.h"

namespace temper {
namespace {

// Logits that may exist at once.
constexpr int64_t kLogitFloats = int64_t{1} << 20;
constexpr int64_t kRowsMax = 64;

// The operands of LogProb and its backward: shapes checked, values by FaultOf
// before any of them is used.
struct HeadOperands {
  template <typename Args>
  explicit HeadOperands(const Args& args)
      : x(AsRows<float>(args.x)),
        weight(static_cast<const CpuWeight&>(*args.w)) {
    CheckShapes(args, weight.spec);
    targets = AsVector<int32_t>(args.targets, x.rows);
    if (args.kept_offsets.empty()) return;
    offsets = AsVector<int32_t>(args.kept_offsets, x.rows + 1);
    if (offsets[x.rows] == 0) return;
    ids = AsVector<int32_t>(args.kept_ids, -1);
    kept_size = args.kept_ids.dim(0);
    rows = AsStrip(args.rows);
    CHECK(rows.rows == weight.spec.out && rows.columns == weight.spec.in)
        << args.rows.DebugString();
  }

  bool whole(int64_t n) const {
    return offsets == nullptr || offsets[n] == offsets[n + 1];
  }
  const int32_t* kept(int64_t n) const { return ids + offsets[n]; }
  int64_t count(int64_t n) const {
    return whole(n) ? weight.spec.out : offsets[n + 1] - offsets[n];
  }
  // Where the target stands among the row's ids.
  int64_t TargetPlace(int64_t n) const {
    if (whole(n)) return targets[n];
    return std::lower_bound(kept(n), kept(n) + count(n), targets[n]) - kept(n);
  }
  // What is wrong with the first row that something is wrong with.
  DeviceFault FaultOf() const {
    for (int64_t n = 0; n < x.rows; ++n) {
      if (targets[n] < 0 || targets[n] >= weight.spec.out) {
        return DeviceFault::kTarget;
      }
      if (whole(n)) continue;
      if (offsets[n] < 0 || offsets[n] > offsets[n + 1] ||
          offsets[n + 1] > kept_size) {
        return DeviceFault::kKeptSet;
      }
      const int32_t* const begin = kept(n);
      const int32_t* const end = begin + count(n);
      if (*begin < 0 || end[-1] >= weight.spec.out ||
          std::adjacent_find(begin, end, std::greater_equal<int32_t>()) !=
              end) {
        return DeviceFault::kKeptSet;
      }
      if (!std::binary_search(begin, end, targets[n])) {
        return DeviceFault::kTarget;
      }
    }
    return DeviceFault::kNone;
  }
  // Rows whose logits, of the whole vocabulary if need be, exist at once.
  int64_t chunk() const {
    return std::clamp<int64_t>(
        kLogitFloats / std::max<int64_t>(weight.spec.out, 1), kPairBlock,
        kRowsMax);
  }
  // Where the chunk that begins at `first` ends. A gradient takes a run of
  // whole rows in blocks of 32 from its first, so a run is cut between two
  // blocks.
  int64_t ChunkEnd(int64_t first) const {
    const int64_t end = std::min(first + chunk(), x.rows);
    if (end == x.rows || !whole(end)) return end;
    int64_t run = end;
    while (run > first && whole(run - 1)) --run;
    return run + (end - run) / kPairBlock * kPairBlock;
  }

  Rows<float> x;
  const CpuWeight& weight;
  const int32_t* targets = nullptr;
  const int32_t* offsets = nullptr;
  const int32_t* ids = nullptr;
  int64_t kept_size = 0;
  Strip rows;  // of the vocabulary, row-major
};

// Scratch for the products of a truncated row.
int64_t KeptScratch(const HeadOperands& in) {
  return std::max(ProductsScratch(in.rows, 1, in.x.columns),
                  SumScratch(in.rows, 1, in.x.columns));
}

// The logits of a truncated row, from the published rows as from keys. Their
// bits are those of Linear over the whole vocabulary, since the depth alone
// decides how a product is added up.
void KeptLogits(const TierKernels& kernels, const HeadOperands& in, int64_t n,
                float* scratch, float* z) {
  const int64_t count = in.count(n);
  ProductsWithKeys(kernels, in.rows, in.kept(n), count,
                   {.a = in.x.row(n),
                    .a_row = in.x.stride,
                    .m = 1,
                    .dims = in.x.columns,
                    .out = z,
                    .out_row = count},
                   {}, scratch);
}

// Calls body(begin, end) for each run of whole rows in [first, last).
void ForEachWholeRun(const HeadOperands& in, int64_t first, int64_t last,
                     absl::FunctionRef<void(int64_t, int64_t)> body) {
  for (int64_t begin = first; begin < last;) {
    int64_t end = begin;
    while (end < last && in.whole(end)) ++end;
    if (end > begin) body(begin, end);
    begin = std::max(end, begin + 1);
  }
}

// Scratch of a thread, of at least so many floats.
using ScratchOf = absl::FunctionRef<float*(int, int64_t)>;

// logits[(n - first) * V ..] = z of rows [first, last), each as long as its
// kept set.
void ChunkLogits(const TierKernels& kernels, ThreadPool* pool,
                 const HeadOperands& in, int64_t first, int64_t last,
                 float temperature, ScratchOf scratch, float* logits) {
  const int64_t vocabulary = in.weight.spec.out;
  ForEachWholeRun(in, first, last, [&](int64_t begin, int64_t end) {
    MultiplyParallel(kernels, pool, in.weight, Use::kForward,
                     {.x = in.x.row(begin),
                      .x_row = in.x.stride,
                      .rows = end - begin,
                      .y = logits + (begin - first) * vocabulary,
                      .y_row = vocabulary});
  });
  pool->ParallelFor(
      last - first, 1, [&](int thread, int64_t begin, int64_t end) {
        float* with_rows = scratch(thread, KeptScratch(in));
        for (int64_t i = begin; i < end; ++i) {
          float* z = logits + i * vocabulary;
          if (!in.whole(first + i)) {
            KeptLogits(kernels, in, first + i, with_rows, z);
          }
          DivideByTemperature(kernels, temperature, z, in.count(first + i));
        }
      });
}

}  // namespace

void CpuBackend::LogProb(const LogProbArgs& args) {
  const HeadOperands in(args);
  if (const DeviceFault fault = in.FaultOf(); fault != DeviceFault::kNone) {
    return SetFault(fault);
  }
  float* logp_out = AsVector<float>(args.logp, in.x.rows);
  float* lse_out = AsVector<float>(args.lse, in.x.rows);
  float* entropy_out = AsVector<float>(args.entropy, in.x.rows);
  const int64_t vocabulary = in.weight.spec.out;
  const auto scratch = [this](int thread, int64_t floats) {
    return Scratch(thread, floats);
  };
  float* logits = SharedScratch(in.chunk() * vocabulary);
  for (int64_t first = 0, last = 0; first < in.x.rows; first = last) {
    last = in.ChunkEnd(first);
    ChunkLogits(tier_, &pool_, in, first, last, args.temperature, scratch,
                logits);
    pool_.ParallelFor(
        last - first, 1, [&](int thread, int64_t begin, int64_t end) {
          float* e = Scratch(thread, vocabulary);
          for (int64_t i = begin; i < end; ++i) {
            const int64_t n = first + i;
            const float* z = logits + i * vocabulary;
            const Normalised sum = Normalise(tier_, z, in.count(n), e);
            lse_out[n] = sum.lse;
            logp_out[n] = z[in.TargetPlace(n)] - sum.lse;
            entropy_out[n] = sum.lse - tier_.dot(e, z, in.count(n)) / sum.sum;
          }
        });
  }
}

namespace {

// Columns [from, to) of dw += g x over rows [first, last) in order; g lies in
// `logits`. In bf16 a run of whole rows goes in blocks of 32 from its first, a
// truncated row is a block alone, to whose kept rows it is added.
void AddWeightGradient(const TierKernels& kernels, const HeadOperands& in,
                       int64_t first, int64_t last, const float* logits,
                       int64_t from, int64_t to, const Rows<float>& dw,
                       absl::FunctionRef<float*(int64_t)> scratch) {
  const int64_t vocabulary = in.weight.spec.out;
  const bool narrow = in.weight.spec.dtype == DType::kBF16;
  for (int64_t n = first; n < last;) {
    const bool whole = in.whole(n);
    int64_t end = n + 1;
    while (whole && end < last && in.whole(end)) ++end;
    const float* g = logits + (n - first) * vocabulary;
    if (!narrow) {
      kernels.rows_product({.a = g,
                            .a_row = 1,
                            .a_col = vocabulary,
                            .b = in.x.row(n) + from,
                            .b_row = in.x.stride,
                            .y = dw.data + from,
                            .y_row = dw.stride,
                            .y_index = whole ? nullptr : in.kept(n),
                            .m = in.count(n),
                            .k = end - n,
                            .n = to - from,
                            .into = Into::kContinue});
    } else if (whole) {
      auto* pairs =
          reinterpret_cast<uint32_t*>(scratch(PackedPairs(to - from, end - n)));
      kernels.pair_floats(in.x.row(n) + from, in.x.stride, end - n, to - from,
                          pairs, PairPanel(end - n));
      PairGemmSerial(kernels, {.rows = vocabulary,
                               .columns = to - from,
                               .depth = end - n,
                               .a = g,
                               .a_row = 1,
                               .a_k = vocabulary,
                               .b = pairs,
                               .b_panel = PairPanel(end - n),
                               .c = dw.data + from,
                               .c_row = dw.stride,
                               .accumulate = true});
    } else {
      AddToKeys(kernels, {g, in.count(n), in.x.row(n), in.x.stride, 1, narrow},
                in.kept(n), in.count(n), from, to, dw,
                scratch(GradientScratch(narrow, 1, to - from)));
    }
    n = end;
  }
}

}  // namespace

void CpuBackend::LogProbBackward(const LogProbBackwardArgs& args) {
  const HeadOperands in(args);
  if (const DeviceFault fault = in.FaultOf(); fault != DeviceFault::kNone) {
    return SetFault(fault);
  }
  const float* lse_in = AsVector<float>(args.lse, in.x.rows);
  const float* dout = AsVector<float>(args.dlogp, in.x.rows);
  const auto dinput = AsRows<float>(args.dx);
  const auto dweight = AsRows<float>(args.dw);
  const int64_t vocabulary = in.weight.spec.out;
  const int64_t depth = in.x.columns;
  const auto scratch = [this](int thread, int64_t floats) {
    return Scratch(thread, floats);
  };
  float* logits = SharedScratch(in.chunk() * vocabulary);
  for (int64_t first = 0, last = 0; first < in.x.rows; first = last) {
    last = in.ChunkEnd(first);
    ChunkLogits(tier_, &pool_, in, first, last, args.temperature, scratch,
                logits);
    // z becomes dz / temperature, and a truncated row's dx is made at once.
    pool_.ParallelFor(last - first, 1,
                      [&](int thread, int64_t begin, int64_t end) {
                        for (int64_t i = begin; i < end; ++i) {
                          const int64_t n = first + i;
                          float* g = logits + i * vocabulary;
                          const int64_t count = in.count(n);
                          const float factor = dout[n] / args.temperature;
                          tier_.exp(g, lse_in[n], g, count);
                          tier_.scale(-factor, g, count);
                          g[in.TargetPlace(n)] += factor;
                          if (in.whole(n)) continue;
                          SumKeys(tier_, in.rows, in.kept(n), count,
                                  {.a = g,
                                   .a_row = count,
                                   .m = 1,
                                   .y = dinput.row(n),
                                   .y_row = depth,
                                   .columns = depth},
                                  Scratch(thread, KeptScratch(in)));
                        }
                      });
    ForEachWholeRun(in, first, last, [&](int64_t begin, int64_t end) {
      MultiplyParallel(tier_, &pool_, in.weight, Use::kTransposed,
                       {.x = logits + (begin - first) * vocabulary,
                        .x_row = vocabulary,
                        .rows = end - begin,
                        .y = dinput.row(begin),
                        .y_row = dinput.stride});
    });
    pool_.ParallelFor(depth, kPanel, [&](int thread, int64_t from, int64_t to) {
      AddWeightGradient(
          tier_, in, first, last, logits, from, to, dweight,
          [&](int64_t floats) { return Scratch(thread, floats); });
    });
  }
}

}  // namespace temper
