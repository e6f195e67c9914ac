// The lightning indexer: exact top-k of I[n, s] = sum_h w ReLU(q_h . k_s), and
// its KL loss towards the attention it selects for (DeepSeek-V3.2 paper,
// equations 1, 3 and 4).

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

#include "kernels/base/log.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/key_rows.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/softmax_log.h"
#include "kernels/ops/shape_check.h"

namespace temper {
namespace {

// Neighbouring queries of a sequence score the same keys, and those of
// sequences that begin alike many of them: a tile gathers and transposes them
// once.
constexpr int64_t kTile = 16;
constexpr int64_t kBackwardFloats = int64_t{1} << 20;

// A number that k of the n keys are at least, and *ties false; or, where keys
// tie at the k-th largest, that key, and *ties true. By its bits, the highest
// first: of keys that differ half of the bits mostly tell.
uint32_t KthLargest(const TierKernels& kernels, const uint32_t* keys, int64_t n,
                    int64_t k, bool* ties) {
  uint32_t threshold = 0;
  for (uint32_t bit = 0x80000000u; bit != 0; bit >>= 1) {
    const int64_t count = kernels.count_at_least(keys, n, threshold | bit);
    if (count >= k) threshold |= bit;
    if (count == k) {
      *ties = false;
      return threshold;
    }
  }
  *ties = true;
  return threshold;
}

// out = the `k` positions of largest score (k < count), ascending, ties to the
// lowest. `keys` has room for `count`, rounded up to whole blocks.
void TopK(const TierKernels& kernels, const float* scores, int64_t count,
          int64_t k, uint32_t* keys, int32_t* out) {
  kernels.order(scores, keys, count);
  const int64_t whole = (count + kKeyBlock - 1) / kKeyBlock * kKeyBlock;
  bool ties = false;
  const uint32_t threshold = KthLargest(kernels, keys, whole, k, &ties);
  int64_t found = 0;
  if (!ties) {
    for (int64_t j = 0; found < k; ++j) {
      out[found] = static_cast<int32_t>(j);
      found += keys[j] >= threshold ? 1 : 0;
    }
    return;
  }
  const int64_t above =
      threshold == ~0u ? 0 : kernels.count_at_least(keys, whole, threshold + 1);
  int64_t equal = k - above;
  for (int64_t j = 0; found < k; ++j) {
    if (keys[j] > threshold) {
      out[found++] = static_cast<int32_t>(j);
    } else if (keys[j] == threshold && equal > 0) {
      --equal;
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
        floats(work + row + kKeyBlock) {}
  int64_t row;
  int64_t products;
  int64_t with_keys;
  int64_t rows;
  int64_t work;
  int64_t floats;
};

// I of queries [begin, end) for their keys from `first` on, of one block, from
// the products: a chain over the heads, ascending.
void AddHeads(const TierKernels& kernels, const Rows<float>& w,
              const KeyRows& map, int64_t begin, int64_t end, int64_t first,
              const std::array<int64_t, kTile>& scored,
              const SelectScratch& layout, float* scratch) {
  const int64_t heads = w.columns;
  for (int64_t n = begin; n < end; ++n) {
    const int64_t keys =
        std::min<int64_t>(scored[n - begin], map.position(n) + 1);
    const int64_t seen = std::min(kKeyBlock, keys - first);
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

// How many keys queries [begin, end) have scored, each by its sequence's
// furthest query among them that needs scores: `needed` says how many.
template <typename Needed>
std::array<int64_t, kTile> KeysScored(const KeyRows& map, int64_t begin,
                                      int64_t end, const Needed& needed) {
  std::array<int64_t, kTile> keys = {};
  for (int64_t n = begin; n < end;) {
    int64_t stop = n, count = 0;
    for (; stop < end && map.sequence(stop) == map.sequence(n); ++stop) {
      count = std::max(count, needed(stop));
    }
    for (; n < stop; ++n) keys[n - begin] = count;
  }
  return keys;
}

// Scores of queries [begin, end), for their first `keys` keys: scratch[i * row
// + s], as far as the query's own position. Neighbours whose keys of a block
// are the same rows share its product, whatever their sequences.
void ScoreTile(const TierKernels& kernels, const GroupedRows<float>& q,
               const Rows<float>& w, const Strip& keys, const KeyRows& map,
               int64_t begin, int64_t end,
               const std::array<int64_t, kTile>& scored,
               const SelectScratch& layout, float* scratch) {
  const int64_t heads = q.groups;
  // Heads of dense queries are one matrix.
  const bool dense = q.stride == heads * q.group_stride;
  float* products = scratch + layout.products;
  int32_t* rows = reinterpret_cast<int32_t*>(scratch + layout.rows);
  const int64_t count = *std::max_element(scored.begin(), scored.end());
  for (int64_t first = 0; first < count; first += kKeyBlock) {
    const auto block_of = [&](int64_t n) {
      return std::min(kKeyBlock, scored[n - begin] - first);
    };
    for (int64_t n = begin; n < end;) {
      const int64_t block = block_of(n);
      int64_t stop = n + 1;
      if (block <= 0) {
        n = stop;
        continue;
      }
      while (dense && stop < end && block_of(stop) == block &&
             map.SameRange(n, stop, first, block)) {
        ++stop;
      }
      map.Range(n, first, block, rows);
      ProductsWithKeys(kernels, keys, rows, block,
                       {.a = q.row(n, 0),
                        .a_row = q.group_stride,
                        .m = (stop - n) * heads,
                        .dims = q.columns,
                        .out = products + (n - begin) * heads * kKeyBlock,
                        .out_row = kKeyBlock},
                       {}, scratch + layout.with_keys);
      n = stop;
    }
    AddHeads(kernels, w, map, begin, end, first, scored, layout, scratch);
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

  const auto select_tile = [&](int thread, int64_t begin, int64_t end) {
    const std::array<int64_t, kTile> scored =
        KeysScored(where, begin, end, [&](int64_t n) -> int64_t {
          const int64_t seen = where.position(n) + 1;
          return tap || seen > top_k ? seen : 0;
        });
    const SelectScratch layout(*std::max_element(scored.begin(), scored.end()),
                               query.groups, key);
    float* scratch = Scratch(thread, layout.floats);
    ScoreTile(tier_, query, weight, key, where, begin, end, scored, layout,
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
        TopK(tier_, row, seen, top_k,
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
        select_tile(thread, tile * kTile,
                    std::min((tile + 1) * kTile, query.rows));
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
