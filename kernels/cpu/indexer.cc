// The lightning indexer: exact top-k of I[n, s] = sum_h w ReLU(q_h . k_s)
// (DeepSeek-V3.2 paper, equation 1).

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/base/log.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/key_rows.h"
#include "kernels/cpu/rows.h"
#include "kernels/ops/shape_check.h"

namespace temper {
namespace {

// Neighbouring queries of a sequence score the same keys, and those of
// sequences that begin alike many of them: a tile gathers and transposes them
// once.
constexpr int64_t kTile = 16;

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
        queries(work + row + kKeyBlock),
        weights(queries + (keys.paged ? kTile * heads * keys.columns : 0)),
        room(weights + (keys.paged ? kTile * heads : 0)),
        floats(room + KeysRoom(keys, kKeyBlock)) {}
  int64_t row;
  int64_t products;
  int64_t with_keys;
  int64_t rows;
  int64_t work;
  int64_t queries;  // of a tile, quantised
  int64_t weights;
  int64_t room;  // of widened keys
  int64_t floats;
};

// Neighbouring queries [begin, begin + q.rows), those of a tile, and how many
// keys each has scored.
struct QueryTile {
  GroupedRows<float> q;
  Rows<float> w;
  int64_t begin;
  std::array<int64_t, kTile> scored;
};

// I of a query for its keys from `first` on, whose rows of the strip are
// `rows`, from its products with them: a chain over the heads, ascending.
void AddHeads(const TierKernels& kernels, const QueryTile& tile, int64_t i,
              int64_t seen, const Strip& keys, const int32_t* rows,
              const float* product, float* scores) {
  std::fill(scores, scores + seen, 0.0f);
  for (int64_t h = 0; h < tile.w.columns; ++h) {
    kernels.relu_axpy(tile.w.row(i)[h], product + h * kKeyBlock, scores, seen);
  }
  if (!keys.paged) return;
  for (int64_t j = 0; j < seen; ++j) scores[j] *= IndexScale(keys, rows[j]);
}

// The codes of q as numbers, their scales folded into w. False if a query can
// have none.
bool QuantiseQueries(const TierKernels& kernels, const SelectScratch& layout,
                     float* scratch, QueryTile* tile) {
  const int64_t heads = tile->q.groups, dims = tile->q.columns;
  const GroupedRows<float> q = {
      scratch + layout.queries, tile->q.rows, heads, dims, heads * dims, dims};
  const Rows<float> w = {scratch + layout.weights, tile->w.rows, heads, heads};
  bool all = true;
  for (int64_t i = 0; i < q.rows; ++i) {
    for (int64_t h = 0; h < heads; ++h) {
      const float scale =
          kernels.quantise(tile->q.row(i, h), 0, q.row(i, h), dims);
      w.row(i)[h] = tile->w.row(i)[h] * scale;
      all = all && !std::isnan(scale);
    }
  }
  tile->q = q;
  tile->w = w;
  return all;
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

// Scores of a tile's queries, for as many keys as each has scored: scratch[i *
// row + s], as far as the query's own position. Neighbours whose keys of a
// block are the same rows share its product, whatever their sequences.
void ScoreTile(const TierKernels& kernels, const QueryTile& tile,
               const Strip& keys, const KeyRows& map,
               const SelectScratch& layout, float* scratch) {
  const GroupedRows<float>& q = tile.q;
  const auto& scored = tile.scored;
  const int64_t heads = q.groups;
  // Heads of dense queries are one matrix.
  const bool dense = q.stride == heads * q.group_stride;
  float* products = scratch + layout.products;
  int32_t* rows = reinterpret_cast<int32_t*>(scratch + layout.rows);
  const int64_t count = *std::max_element(scored.begin(), scored.end());
  for (int64_t first = 0; first < count; first += kKeyBlock) {
    const auto block_of = [&](int64_t i) {
      return std::min(kKeyBlock, scored[i] - first);
    };
    for (int64_t i = 0; i < q.rows;) {
      const int64_t block = block_of(i);
      int64_t stop = i + 1;
      if (block <= 0) {
        i = stop;
        continue;
      }
      while (dense && stop < q.rows && block_of(stop) == block &&
             map.SameRange(tile.begin + i, tile.begin + stop, first, block)) {
        ++stop;
      }
      map.Range(tile.begin + i, first, block, rows);
      const Keys with = KeysOf(kernels, keys, rows, block, Scaled::kNo,
                               scratch + layout.room);
      ProductsWithKeys(kernels, with.strip, with.rows, block,
                       {.a = q.row(i, 0),
                        .a_row = q.group_stride,
                        .m = (stop - i) * heads,
                        .dims = q.columns,
                        .out = products,
                        .out_row = kKeyBlock},
                       {}, scratch + layout.with_keys);
      for (int64_t j = i; j < stop; ++j) {
        const int64_t seen =
            std::min<int64_t>(block, map.position(tile.begin + j) + 1 - first);
        if (seen <= 0) continue;
        AddHeads(kernels, tile, j, seen, keys, rows,
                 products + (j - i) * heads * kKeyBlock,
                 scratch + j * layout.row + first);
      }
      i = stop;
    }
  }
}

}  // namespace

void CpuBackend::IndexerSelect(const IndexerSelectArgs& args) {
  CheckShapes(args);
  const auto query = AsGroupedRows<float>(args.q);
  const auto weight = AsRows<float>(args.w);
  const Strip key = AsIndexStrip(args.keys, query.columns);
  const auto chosen = AsRows<int32_t>(args.selected);
  const bool tap = !args.scores.empty();
  const auto tapped = tap ? AsRows<float>(args.scores) : Rows<float>{};
  const KeyRows where(args.map, query.rows, key.rows);
  const int64_t top_k = chosen.columns;

  const auto select_tile = [&](int thread, int64_t begin, int64_t end) {
    QueryTile queries = {
        .q = query,
        .w = weight,
        .begin = begin,
        .scored = KeysScored(where, begin, end, [&](int64_t n) -> int64_t {
          const int64_t seen = where.position(n) + 1;
          return tap || seen > top_k ? seen : 0;
        })};
    queries.q.data = query.row(begin, 0);
    queries.w.data = weight.row(begin);
    queries.q.rows = queries.w.rows = end - begin;
    const SelectScratch layout(
        *std::max_element(queries.scored.begin(), queries.scored.end()),
        query.groups, key);
    float* scratch = Scratch(thread, layout.floats);
    if (key.paged && !QuantiseQueries(tier_, layout, scratch, &queries)) {
      SetFault(DeviceFault::kNumbers);
    }
    ScoreTile(tier_, queries, key, where, layout, scratch);
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

}  // namespace temper
