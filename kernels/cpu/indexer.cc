// The lightning indexer: exact top-k of I[n, s] = sum_h w ReLU(q_h . k_s), and
// its KL loss towards the attention it selects for (DeepSeek-V3.2 paper,
// equations 1, 3 and 4).

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>

#include "kernels/base/log.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/float_order.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/key_rows.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/softmax_log.h"
#include "kernels/ops/shape_check.h"

namespace temper {
namespace {

// Neighbouring queries of a sequence score the same keys: a tile gathers and
// transposes them once.
constexpr int64_t kTile = 16;
constexpr int64_t kBackwardFloats = int64_t{1} << 20;

// out = the `k` positions of largest score (k < count), ascending, ties to the
// lowest. `work` holds 2 * count words.
void TopK(const float* scores, int64_t count, int64_t k, uint32_t* work,
          int32_t* out) {
  uint32_t* keys = work;
  uint32_t* order = work + count;
  for (int64_t j = 0; j < count; ++j) keys[j] = OrderedBits(scores[j]);
  std::copy(keys, keys + count, order);
  std::nth_element(order, order + k - 1, order + count,
                   std::greater<uint32_t>());
  const uint32_t threshold = order[k - 1];
  int64_t ties = k - std::count_if(order, order + k, [&](uint32_t key) {
                   return key > threshold;
                 });
  int64_t found = 0;
  for (int64_t j = 0; found < k; ++j) {
    if (keys[j] > threshold) {
      out[found++] = static_cast<int32_t>(j);
    } else if (keys[j] == threshold && ties > 0) {
      --ties;
      out[found++] = static_cast<int32_t>(j);
    }
  }
}

// One tile's scratch: offsets in floats.
struct SelectScratch {
  SelectScratch(int64_t keys_max, int64_t heads, const Strip& keys)
      : row(RoundUp16(keys_max)),
        products(kTile * row),
        with_keys(products + kTile * heads * kKeyBlock),
        rows(with_keys + ProductsScratch(keys, kTile * heads, keys.columns)),
        work(rows + kKeyBlock),
        floats(work + 2 * row) {}
  int64_t row;
  int64_t products;
  int64_t with_keys;
  int64_t rows;
  int64_t work;
  int64_t floats;
};

// I of queries [begin, end) for the keys first .. first + block of a sequence,
// from their products: a chain over the heads, ascending.
void AddHeads(const TierKernels& kernels, const Rows<float>& w,
              const KeyRows& map, int64_t begin, int64_t end, int64_t first,
              int64_t block, const SelectScratch& layout, float* scratch) {
  const int64_t heads = w.columns;
  for (int64_t n = begin; n < end; ++n) {
    const int64_t seen = std::min<int64_t>(block, map.position(n) + 1 - first);
    if (seen <= 0) continue;
    const float* product =
        scratch + layout.products + (n - begin) * heads * kKeyBlock;
    float* scores = scratch + (n - begin) * layout.row + first;
    std::fill(scores, scores + seen, 0.0f);
    for (int64_t h = 0; h < heads; ++h) {
      kernels.relu_axpy(w.row(n)[h], product + h * kKeyBlock, scores, seen);
    }
  }
}

// Scores of queries [begin, end) of one sequence, for their first `count` keys:
// scratch[i * row + s], as far as the query's own position.
void ScoreTile(const TierKernels& kernels, const GroupedRows<float>& q,
               const Rows<float>& w, const Strip& keys, const KeyRows& map,
               int64_t begin, int64_t end, int64_t count,
               const SelectScratch& layout, float* scratch) {
  const int64_t heads = q.groups;
  // Heads of dense queries are one matrix.
  const int64_t together = q.stride == heads * q.group_stride ? end - begin : 1;
  float* products = scratch + layout.products;
  int32_t* rows = reinterpret_cast<int32_t*>(scratch + layout.rows);
  for (int64_t first = 0; first < count; first += kKeyBlock) {
    const int64_t block = std::min(kKeyBlock, count - first);
    map.Range(begin, first, block, rows);
    for (int64_t n = begin; n < end; n += together) {
      ProductsWithKeys(kernels, keys, rows, block,
                       {.a = q.row(n, 0),
                        .a_row = q.group_stride,
                        .m = together * heads,
                        .dims = q.columns,
                        .out = products + (n - begin) * heads * kKeyBlock,
                        .out_row = kKeyBlock},
                       {}, scratch + layout.with_keys);
    }
    AddHeads(kernels, w, map, begin, end, first, block, layout, scratch);
  }
}

}  // namespace

void CpuBackend::IndexerSelect(const IndexerSelectArgs& args) {
  CheckShapes(args);
  const auto query = AsGroupedRows<float>(args.q);
  const auto weight = AsRows<float>(args.w);
  const Strip key = AsStrip(args.keys);
  const auto chosen = AsRows<int32_t>(args.selected);
  const bool tap = !args.scores.empty();
  const auto tapped = tap ? AsRows<float>(args.scores) : Rows<float>{};
  const KeyRows where(args.map, query.rows, key.rows);
  const int64_t top_k = chosen.columns;

  const auto select_run = [&](int thread, int64_t begin, int64_t end) {
    int64_t count = 0;  // args.keys to score
    for (int64_t n = begin; n < end; ++n) {
      const int64_t seen = where.position(n) + 1;
      if (tap || seen > top_k) count = std::max(count, seen);
    }
    const SelectScratch layout(count, query.groups, key);
    float* scratch = Scratch(thread, layout.floats);
    ScoreTile(tier_, query, weight, key, where, begin, end, count, layout,
              scratch);
    for (int64_t n = begin; n < end; ++n) {
      const int64_t seen = where.position(n) + 1;
      const float* row = scratch + (n - begin) * layout.row;
      if (tap) {
        CHECK_LE(seen, tapped.columns);
        std::copy(row, row + seen, tapped.row(n));
        std::fill(tapped.row(n) + seen, tapped.row(n) + tapped.columns,
                  -std::numeric_limits<float>::infinity());
      }
      int32_t* out = chosen.row(n);
      if (seen > top_k) {
        TopK(row, seen, top_k,
             reinterpret_cast<uint32_t*>(scratch + layout.work), out);
        continue;
      }
      for (int64_t j = 0; j < top_k; ++j) {
        out[j] = j < seen ? static_cast<int32_t>(j) : -1;
      }
    }
  };
  if (top_k == 0 && !tap) return;
  const int64_t tiles = (query.rows + kTile - 1) / kTile;
  const int64_t shares = tiles > 1 ? pool_.threads() : 1;
  pool_.ParallelFor(shares, 1, [&](int thread, int64_t from, int64_t to) {
    for (int64_t share = from; share < to; ++share) {
      for (int64_t tile = share; tile < tiles; tile += shares) {
        const int64_t stop = std::min((tile + 1) * kTile, query.rows);
        for (int64_t begin = tile * kTile; begin < stop;) {
          int64_t end = begin + 1;
          while (end < stop && where.sequence(end) == where.sequence(begin)) {
            ++end;
          }
          select_run(thread, begin, end);
          begin = end;
        }
      }
    }
  });
  if (where.bad()) SetFault(DeviceFault::kRow);
}

namespace {

// The operands of the KL loss, checked.
struct KlOperands {
  template <typename Args>
  explicit KlOperands(const Args& args)
      : q(AsGroupedRows<float>(args.q)),
        keys(AsStrip(args.keys)),
        scale(args.scale),
        lse(AsRows<float>(args.lse)),
        index_q(AsGroupedRows<float>(args.index_q)),
        index_w(AsRows<float>(args.index_w)),
        index_keys(AsStrip(args.index_keys)),
        map(args.map, q.rows, keys.rows),
        selected(AsRows<int32_t>(args.selected)),
        row(RoundUp16(selected.columns)) {
    CheckShapes(args);
  }

  // Floats of KlRow's scratch.
  int64_t floats() const {
    return (3 + q.groups + index_q.groups) * row + product_floats();
  }
  int64_t product_floats() const {
    const int64_t heads = index_q.groups, dims = index_q.columns;
    return std::max({ProductsScratch(keys, q.groups, q.columns),
                     ProductsScratch(index_keys, heads, dims),
                     SumScratch(index_keys, heads, dims)});
  }

  GroupedRows<float> q;
  Strip keys;
  float scale;
  Rows<float> lse;
  GroupedRows<float> index_q;
  Rows<float> index_w;
  Strip index_keys;
  KeyRows map;
  Rows<int32_t> selected;
  int64_t row;
};

// What both directions need of one query, in its scratch.
struct KlRow {
  int64_t count = 0;
  float* target;     // [row] p
  float* score;      // [row] I
  int32_t* rows;     // [row] of the keys
  float* attention;  // [H, row]
  float* products;   // [Hi, row] q_h . k_s before the ReLU
  float* scratch;    // of the products with keys
  double lse = 0;    // of the scores
};

KlRow ComputeKlRow(const TierKernels& kernels, const KlOperands& in, int64_t n,
                   float* scratch) {
  const int64_t heads = in.q.groups;
  const int64_t index_heads = in.index_q.groups;
  KlRow out;
  out.target = scratch;
  out.score = scratch + in.row;
  out.rows = reinterpret_cast<int32_t*>(scratch + 2 * in.row);
  out.attention = scratch + 3 * in.row;
  out.products = out.attention + heads * in.row;
  out.scratch = out.products + index_heads * in.row;
  out.count =
      in.map.Selected(n, in.selected.row(n), in.selected.columns, out.rows);
  ProductsWithKeys(kernels, in.keys, out.rows, out.count,
                   {.a = in.q.row(n, 0),
                    .a_row = in.q.group_stride,
                    .m = heads,
                    .dims = in.q.columns,
                    .out = out.attention,
                    .out_row = in.row},
                   {}, out.scratch);
  ProductsWithKeys(kernels, in.index_keys, out.rows, out.count,
                   {.a = in.index_q.row(n, 0),
                    .a_row = in.index_q.group_stride,
                    .m = index_heads,
                    .dims = in.index_q.columns,
                    .out = out.products,
                    .out_row = in.row},
                   {}, out.scratch);
  std::fill(out.target, out.target + out.count, 0.0f);
  for (int64_t h = 0; h < heads; ++h) {
    float* p = out.attention + h * in.row;
    kernels.scale(in.scale, p, out.count);
    kernels.exp(p, in.lse.row(n)[h], p, out.count);
    kernels.add(p, out.target, out.count);
  }
  kernels.scale(1.0f / static_cast<float>(heads), out.target, out.count);
  std::fill(out.score, out.score + out.count, 0.0f);
  for (int64_t h = 0; h < index_heads; ++h) {
    kernels.relu_axpy(in.index_w.row(n)[h], out.products + h * in.row,
                      out.score, out.count);
  }
  if (out.count == 0) return out;
  const float largest = kernels.max(out.score, out.count);
  // The attention is no longer needed: its first row takes the exponentials.
  out.lse = largest + SoftmaxLog(double{kernels.exp_sum(
                          out.score, largest, out.attention, out.count)});
  return out;
}

}  // namespace

void CpuBackend::IndexerKl(const IndexerKlArgs& args) {
  const KlOperands in(args);
  float* out = AsVector<float>(args.kl, in.q.rows);
  ForEachQuery(&pool_, in.q.rows, [&](int thread, int64_t n) {
    const KlRow row = ComputeKlRow(tier_, in, n, Scratch(thread, in.floats()));
    double sum = 0;
    for (int64_t j = 0; j < row.count; ++j) {
      const double p = row.target[j];
      if (p > 0) sum += p * (SoftmaxLog(p) - (row.score[j] - row.lse));
    }
    out[n] = static_cast<float>(sum);
  });
  if (in.map.bad()) SetFault(DeviceFault::kRow);
}

namespace {

// dI = dkl (softmax(I) - p), then back through the weights and the ReLU, whose
// gradient at 0 is taken as 0. Leaves the products' gradients in
// dproduct [Hi, row].
void KlQueryGradient(const TierKernels& kernels, const KlOperands& in,
                     int64_t n, float dkl, const KlRow& row, float* dproduct,
                     const GroupedRows<float>& dquery,
                     const Rows<float>& dweight) {
  const int64_t heads = in.index_q.groups;
  float* dscore = row.score;
  kernels.exp(row.score, static_cast<float>(row.lse), dscore, row.count);
  for (int64_t j = 0; j < row.count; ++j) {
    dscore[j] = (dscore[j] - row.target[j]) * dkl;
  }
  for (int64_t h = 0; h < heads; ++h) {
    float* product = row.products + h * in.row;
    float* dh = dproduct + h * in.row;
    const float w = in.index_w.row(n)[h];
    for (int64_t j = 0; j < row.count; ++j) {
      dh[j] = product[j] > 0 ? dscore[j] * w : 0.0f;
      product[j] = product[j] > 0 ? product[j] : 0.0f;
    }
    dweight.row(n)[h] = kernels.dot(dscore, product, row.count);
  }
  SumKeys(kernels, in.index_keys, row.rows, row.count,
          {.a = dproduct,
           .a_row = in.row,
           .m = heads,
           .y = dquery.row(n, 0),
           .y_row = dquery.group_stride,
           .columns = dquery.columns},
          row.scratch);
}

}  // namespace

// In two phases, as SparseMlaBackward.
void CpuBackend::IndexerKlBackward(const IndexerKlBackwardArgs& args) {
  const KlOperands in(args);
  const float* dout = AsVector<float>(args.dkl, in.q.rows);
  const auto dquery = AsGroupedRows<float>(args.dindex_q);
  const auto dweight = AsRows<float>(args.dindex_w);
  const auto dkey = AsRows<float>(args.dindex_keys);
  const int64_t heads = in.index_q.groups;
  const bool narrow = in.index_keys.narrow != nullptr;
  // One query's record: the products' gradients, the args.keys' rows, their
  // count.
  const int64_t record = (heads + 1) * in.row + 16;
  const int64_t chunk = std::clamp<int64_t>(kBackwardFloats / record, 1,
                                            std::max<int64_t>(in.q.rows, 1));
  float* records = SharedScratch(chunk * record);
  const auto rows_of = [&](float* at) {
    return reinterpret_cast<int32_t*>(at + heads * in.row);
  };

  for (int64_t first = 0; first < in.q.rows; first += chunk) {
    const int64_t queries = std::min(chunk, in.q.rows - first);
    ForEachQuery(&pool_, queries, [&](int thread, int64_t i) {
      const int64_t n = first + i;
      const KlRow row =
          ComputeKlRow(tier_, in, n, Scratch(thread, in.floats()));
      float* dproduct = records + i * record;
      std::copy(row.rows, row.rows + row.count, rows_of(dproduct));
      rows_of(dproduct)[in.row] = static_cast<int32_t>(row.count);
      KlQueryGradient(tier_, in, n, dout[n], row, dproduct, dquery, dweight);
    });
    pool_.ParallelFor(
        dkey.columns, kPanel, [&](int thread, int64_t begin, int64_t end) {
          float* scratch =
              Scratch(thread, GradientScratch(narrow, heads, end - begin));
          for (int64_t i = 0; i < queries; ++i) {
            float* dproduct = records + i * record;
            const int32_t* rows = rows_of(dproduct);
            AddToKeys(tier_,
                      {dproduct, in.row, in.index_q.row(first + i, 0),
                       in.index_q.group_stride, heads, narrow},
                      rows, rows[in.row], begin, end, dkey, scratch);
          }
        });
  }
  if (in.map.bad()) SetFault(DeviceFault::kRow);
}

}  // namespace temper
