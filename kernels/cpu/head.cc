// Log-probabilities and sampling. Learner and sampler meet here: both turn the
// same logits into the same bits through Normalise.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <functional>

#include "kernels/base/log.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/key_rows.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/softmax_log.h"

namespace temper {
namespace {

// Logits that may exist at once.
constexpr int64_t kLogitFloats = int64_t{1} << 20;
constexpr int64_t kRowsMax = 64;

struct Normalised {
  float largest = 0;
  float sum = 0;  // of exp(z - largest)
  float lse = 0;
};

// The one log-softmax. e = exp(z - largest).
Normalised Normalise(const TierKernels& kernels, const float* z, int64_t count,
                     float* e) {
  Normalised out;
  out.largest = kernels.max(z, count);
  out.sum = kernels.exp_sum(z, out.largest, e, count);
  out.lse = static_cast<float>(out.largest + SoftmaxLog(double{out.sum}));
  return out;
}

void Divide(float temperature, float* z, int64_t count) {
  if (temperature == 1) return;
  for (int64_t i = 0; i < count; ++i) z[i] /= temperature;
}

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
    if (offsets[x.rows] > 0) ids = AsVector<int32_t>(args.kept_ids, -1);
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
};

// The logits of a truncated row, 64 kept ids at once, from the packing in which
// a vocabulary row lies together: 16 of its elements in each panel. The chains
// are those of Linear: from zero, depth ascending. `transposed` holds
// kKeyBlock * kPanel floats.
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
    for (int64_t d = 0; d < in.x.columns; d += kPanel) {
      const int64_t dims = std::min(kPanel, in.x.columns - d);
      kernels.gather_transposed(in.weight.transposed(0) + d * in.weight.out,
                                kPanel, ids + first, block, dims, transposed);
      kernels.rows_product({.a = in.x.row(n) + d,
                            .b = transposed,
                            .b_row = kKeyBlock,
                            .y = z + first,
                            .m = 1,
                            .k = dims,
                            .n = block,
                            .accumulate = d > 0});
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
    alignas(64) float transposed[kKeyBlock * kPanel];
    for (int64_t i = begin; i < end; ++i) {
      float* z = logits + i * vocabulary;
      if (!in.whole(first + i)) {
        KeptLogits(kernels, in, first + i, transposed, z);
      }
      Divide(temperature, z, in.count(first + i));
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
                          .accumulate = true});
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
        for (int64_t d = 0; d < depth; d += kPanel) {
          tier_.rows_product({.a = g,
                              .b = in.weight.transposed(0) + d * vocabulary,
                              .b_row = kPanel,
                              .b_index = in.kept(n),
                              .y = dinput.row(n) + d,
                              .m = 1,
                              .k = count,
                              .n = std::min(kPanel, depth - d)});
        }
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

namespace {

bool On(float top_p) { return top_p > 0 && top_p < 1; }

// Order by logit descending, then id ascending, as one number.
uint64_t RankKey(float z, int64_t id) {
  const uint32_t bits = std::bit_cast<uint32_t>(z + 0.0f);
  const uint32_t ordered =
      bits ^ ((bits >> 31) != 0 ? 0xFFFFFFFFu : 0x80000000u);
  return uint64_t{ordered} << 32 | (0xFFFFFFFFu - static_cast<uint32_t>(id));
}

int32_t IdOf(uint64_t key) {
  return static_cast<int32_t>(0xFFFFFFFFu - static_cast<uint32_t>(key));
}

// Writes the kept ids of one row, ascending, and returns how many; 0 when
// nothing is truncated. e = exp(z - max z); `ranks` holds a key per id.
int64_t Truncate(const float* z, const float* e, double total,
                 int64_t vocabulary, const SampleOptions& options,
                 uint64_t* ranks, int32_t* kept) {
  const bool top_k = options.top_k > 0 && options.top_k < vocabulary;
  const bool top_p = On(options.top_p);
  if (!top_k && !top_p && options.min_p <= 0) return 0;
  const auto descending = std::greater<uint64_t>();
  const int64_t cap = options.kept_max;
  int64_t count = 0;
  if (top_k) {
    for (int64_t id = 0; id < vocabulary; ++id) ranks[id] = RankKey(z[id], id);
    count = options.top_k;
    std::nth_element(ranks, ranks + count - 1, ranks + vocabulary, descending);
    std::sort(ranks, ranks + count, descending);
    total = 0;
    for (int64_t i = 0; i < count; ++i) total += e[IdOf(ranks[i])];
  } else {
    // What is below min_p is never kept, and the ids that are each rarer than
    // (1 - top_p) / V cannot hold the token that crosses top_p.
    double floor = options.min_p;
    if (top_p) {
      floor = std::max(floor, 0.99 * (1.0 - options.top_p) * total /
                                  static_cast<double>(vocabulary));
    }
    for (int64_t id = 0; id < vocabulary; ++id) {
      if (e[id] >= floor) ranks[count++] = RankKey(z[id], id);
    }
    std::sort(ranks, ranks + count, descending);
  }
  const double needed = top_p ? options.top_p * total : total * 2;
  double mass = 0;
  int64_t length = 0;
  while (length < std::min(count, cap) && mass < needed) {
    const int32_t id = IdOf(ranks[length]);
    if (length > 0 && e[id] < options.min_p) break;
    mass += e[id];
    kept[length++] = id;
  }
  if (length == vocabulary) return 0;
  std::sort(kept, kept + length);
  return length;
}

// The first of e whose running sum exceeds u of the whole.
int64_t InverseCdf(const float* e, int64_t count, float u) {
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += e[i];
  const double goal = u * total;
  double running = 0;
  int64_t last = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (e[i] <= 0) continue;
    last = i;
    running += e[i];
    if (running > goal) return i;
  }
  return last;
}

}  // namespace

void CpuBackend::Sample(const SampleArgs& args) {
  const auto in = AsRows<float>(args.logits);
  const float* uniform = AsVector<float>(args.uniforms, in.rows);
  int32_t* id_out = AsVector<int32_t>(args.ids, in.rows);
  float* logp_out = AsVector<float>(args.logp, in.rows);
  const auto kept_out = AsRows<int32_t>(args.kept_ids);
  int32_t* count_out = AsVector<int32_t>(args.kept_counts, in.rows);
  CHECK_GT(args.options.temperature, 0);
  CHECK_GE(args.options.kept_max, 1);
  CHECK_EQ(kept_out.rows, in.rows);
  CHECK_LE(args.options.kept_max, kept_out.columns);
  CHECK_GE(in.columns, 1);
  const int64_t vocabulary = in.columns;
  const int64_t row = RoundUp16(vocabulary);
  pool_.ParallelFor(in.rows, 1, [&](int thread, int64_t begin, int64_t end) {
    float* z = Scratch(thread, 4 * row);
    float* e = z + row;
    uint64_t* ranks = reinterpret_cast<uint64_t*>(z + 2 * row);
    for (int64_t n = begin; n < end; ++n) {
      std::copy(in.row(n), in.row(n) + vocabulary, z);
      Divide(args.options.temperature, z, vocabulary);
      Normalised sum = Normalise(tier_, z, vocabulary, e);
      int32_t* kept = kept_out.row(n);
      const int64_t count =
          Truncate(z, e, sum.sum, vocabulary, args.options, ranks, kept);
      count_out[n] = static_cast<int32_t>(count);
      std::fill(kept + count, kept + kept_out.columns, -1);
      // Kept ids ascend, so none is overwritten before it is read.
      for (int64_t i = 0; i < count; ++i) z[i] = z[kept[i]];
      const int64_t choices = count == 0 ? vocabulary : count;
      if (count > 0) sum = Normalise(tier_, z, count, e);
      const int64_t place = InverseCdf(e, choices, uniform[n]);
      id_out[n] = count == 0 ? static_cast<int32_t>(place) : kept[place];
      logp_out[n] = z[place] - sum.lse;
    }
  });
}

}  // namespace temper
