// Log-probabilities. Learner and sampler (kernels/cpu/sample.cc) turn the same
// logits into the same bits through Normalise.

#include <algorithm>
#include <cstdint>

#include "kernels/base/log.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/softmax_log.h"

namespace temper {
namespace {

// Logits that may exist at once.
constexpr int64_t kLogitFloats = int64_t{1} << 20;
constexpr int64_t kRowsMax = 64;

// The operands of LogProb and its backward, checked.
struct HeadOperands {
  template <typename Args>
  explicit HeadOperands(const Args& args)
      : x(AsRows<float>(args.x)),
        weight(static_cast<const CpuWeight&>(*args.w)) {
    CHECK_EQ(weight.groups, 1);
    CHECK_EQ(weight.in, x.columns);
    targets = AsVector<int32_t>(args.targets, x.rows);
    if (args.kept_offsets.empty()) return;
    offsets = AsVector<int32_t>(args.kept_offsets, x.rows + 1);
    if (offsets[x.rows] == 0) return;
    ids = AsVector<int32_t>(args.kept_ids, -1);
    rows = AsRows<float>(args.rows);
    CHECK(rows.rows == weight.out && rows.columns == weight.in)
        << args.rows.DebugString();
  }

  bool whole(int64_t n) const {
    return offsets == nullptr || offsets[n] == offsets[n + 1];
  }
  const int32_t* kept(int64_t n) const { return ids + offsets[n]; }
  int64_t count(int64_t n) const {
    return whole(n) ? weight.out : offsets[n + 1] - offsets[n];
  }
  // Where the target stands among the row's ids.
  int64_t TargetPlace(int64_t n) const {
    const int32_t target = targets[n];
    CHECK(target >= 0 && target < weight.out) << "target " << target;
    if (whole(n)) return target;
    const int32_t* end = kept(n) + count(n);
    const int32_t* at = std::lower_bound(kept(n), end, target);
    CHECK(at != end && *at == target)
        << "target " << target << " is not in the kept set of row " << n;
    return at - kept(n);
  }
  // Rows whose logits, of the whole vocabulary if need be, exist at once.
  int64_t chunk() const {
    return std::clamp<int64_t>(kLogitFloats / std::max<int64_t>(weight.out, 1),
                               1, kRowsMax);
  }

  Rows<float> x;
  const CpuWeight& weight;
  const int32_t* targets = nullptr;
  const int32_t* offsets = nullptr;
  const int32_t* ids = nullptr;
  Rows<float> rows;  // of the vocabulary, row-major
};

// The logits of a truncated row, 64 kept ids at once, from the published rows.
// Their bits are those of Linear over the whole vocabulary: each is a chain
// from zero, depth ascending, and resting in z between pieces of the depth
// changes nothing. `transposed` holds kKeyBlock * kKeyBlock floats.
void KeptLogits(const TierKernels& kernels, const HeadOperands& in, int64_t n,
                float* transposed, float* z) {
  const int32_t* ids = in.kept(n);
  const int64_t count = in.count(n);
  for (int64_t i = 0; i < count; ++i) {
    CHECK(ids[i] >= 0 && ids[i] < in.weight.out) << "kept id " << ids[i];
    CHECK(i == 0 || ids[i] > ids[i - 1])
        << "kept ids of row " << n << " do not ascend";
  }
  for (int64_t first = 0; first < count; first += kKeyBlock) {
    const int64_t block = std::min(kKeyBlock, count - first);
    for (int64_t d = 0; d < in.x.columns; d += kKeyBlock) {
      const int64_t dims = std::min(kKeyBlock, in.x.columns - d);
      kernels.gather_transposed(in.rows.data + d, in.rows.stride, ids + first,
                                block, dims, transposed);
      kernels.rows_product({.a = in.x.row(n) + d,
                            .b = transposed,
                            .b_row = kKeyBlock,
                            .y = z + first,
                            .m = 1,
                            .k = dims,
                            .n = block,
                            .into = d == 0 ? Into::kStore : Into::kContinue});
    }
  }
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

// logits[(n - first) * V ..] = z of rows [first, last), each as long as its
// kept set.
void ChunkLogits(const TierKernels& kernels, ThreadPool* pool,
                 const HeadOperands& in, int64_t first, int64_t last,
                 float temperature, float* logits) {
  const int64_t vocabulary = in.weight.out;
  ForEachWholeRun(in, first, last, [&](int64_t begin, int64_t end) {
    GemmParallel(kernels, pool,
                 {.rows = end - begin,
                  .columns = vocabulary,
                  .depth = in.x.columns,
                  .a = in.x.row(begin),
                  .a_row = in.x.stride,
                  .b = in.weight.forward(0),
                  .b_panel = kPanel * in.x.columns,
                  .b_k = kPanel,
                  .c = logits + (begin - first) * vocabulary,
                  .c_row = vocabulary});
  });
  pool->ParallelFor(last - first, 1, [&](int, int64_t begin, int64_t end) {
    alignas(64) float transposed[kKeyBlock * kKeyBlock];
    for (int64_t i = begin; i < end; ++i) {
      float* z = logits + i * vocabulary;
      if (!in.whole(first + i)) {
        KeptLogits(kernels, in, first + i, transposed, z);
      }
      DivideByTemperature(kernels, temperature, z, in.count(first + i));
    }
  });
}

}  // namespace

void CpuBackend::LogProb(const LogProbArgs& args) {
  const HeadOperands in(args);
  CHECK_GT(args.temperature, 0);
  float* logp_out = AsVector<float>(args.logp, in.x.rows);
  float* lse_out = AsVector<float>(args.lse, in.x.rows);
  float* entropy_out = AsVector<float>(args.entropy, in.x.rows);
  const int64_t vocabulary = in.weight.out;
  const int64_t chunk = in.chunk();
  float* logits = SharedScratch(chunk * vocabulary);
  for (int64_t first = 0; first < in.x.rows; first += chunk) {
    const int64_t last = std::min(first + chunk, in.x.rows);
    ChunkLogits(tier_, &pool_, in, first, last, args.temperature, logits);
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
// `logits`.
void AddWeightGradient(const TierKernels& kernels, const HeadOperands& in,
                       int64_t first, int64_t last, const float* logits,
                       int64_t from, int64_t to, const Rows<float>& dw) {
  const int64_t vocabulary = in.weight.out;
  for (int64_t n = first; n < last;) {
    const bool whole = in.whole(n);
    int64_t end = n + 1;
    while (whole && end < last && in.whole(end)) ++end;
    kernels.rows_product({.a = logits + (n - first) * vocabulary,
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
    n = end;
  }
}

}  // namespace

void CpuBackend::LogProbBackward(const LogProbBackwardArgs& args) {
  const HeadOperands in(args);
  CHECK_GT(args.temperature, 0);
  const float* lse_in = AsVector<float>(args.lse, in.x.rows);
  const float* dout = AsVector<float>(args.dlogp, in.x.rows);
  const auto dinput = AsRows<float>(args.dx);
  const auto dweight = AsRows<float>(args.dw);
  const int64_t vocabulary = in.weight.out;
  const int64_t depth = in.x.columns;
  CHECK(dinput.rows == in.x.rows && dinput.columns == depth)
      << args.dx.DebugString();
  CHECK(dweight.rows == vocabulary && dweight.columns == depth)
      << args.dw.DebugString();
  const int64_t chunk = in.chunk();
  float* logits = SharedScratch(chunk * vocabulary);
  for (int64_t first = 0; first < in.x.rows; first += chunk) {
    const int64_t last = std::min(first + chunk, in.x.rows);
    ChunkLogits(tier_, &pool_, in, first, last, args.temperature, logits);
    // z becomes dz / temperature, and a truncated row's dx is made at once.
    pool_.ParallelFor(last - first, 1, [&](int, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t n = first + i;
        float* g = logits + i * vocabulary;
        const int64_t count = in.count(n);
        const float factor = dout[n] / args.temperature;
        tier_.exp(g, lse_in[n], g, count);
        tier_.scale(-factor, g, count);
        g[in.TargetPlace(n)] += factor;
        if (in.whole(n)) continue;
        tier_.rows_product({.a = g,
                            .b = in.rows.data,
                            .b_row = in.rows.stride,
                            .b_index = in.kept(n),
                            .y = dinput.row(n),
                            .m = 1,
                            .k = count,
                            .n = depth});
      }
    });
    ForEachWholeRun(in, first, last, [&](int64_t begin, int64_t end) {
      GemmParallel(tier_, &pool_,
                   {.rows = end - begin,
                    .columns = depth,
                    .depth = vocabulary,
                    .a = logits + (begin - first) * vocabulary,
                    .a_row = vocabulary,
                    .b = in.weight.transposed(0),
                    .b_panel = kPanel * vocabulary,
                    .b_k = kPanel,
                    .c = dinput.row(begin),
                    .c_row = dinput.stride});
    });
    pool_.ParallelFor(depth, 8, [&](int, int64_t from, int64_t to) {
      AddWeightGradient(tier_, in, first, last, logits, from, to, dweight);
    });
  }
}

}  // namespace temper
