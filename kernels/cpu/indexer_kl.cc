// The indexer's KL loss towards the attention that it selects for
// (DeepSeek-V3.2 paper, equations 3 and 4).

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/base/log.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/key_rows.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/softmax_log.h"
#include "kernels/ops/shape_check.h"

namespace temper {
namespace {

constexpr int64_t kBackwardFloats = int64_t{1} << 20;

// The operands of the KL loss, checked.
struct KlOperands {
  template <typename Args>
  explicit KlOperands(const Args& args)
      : q(AsGroupedRows<float>(args.q)),
        keys(AsLatentStrip(args.keys, q.columns, args.rope)),
        scale(args.scale),
        lse(AsRows<float>(args.lse)),
        index_q(AsGroupedRows<float>(args.index_q)),
        index_w(AsRows<float>(args.index_w)),
        index_keys(AsIndexStrip(args.index_keys, index_q.columns)),
        map(args.map, q.rows, keys.rows),
        selected(AsRows<int32_t>(args.selected)),
        row(RoundUp16(selected.columns)) {
    CheckShapes(args);
  }

  // Floats of KlRow's scratch.
  int64_t floats() const {
    return (3 + q.groups + index_q.groups) * row + product_floats() +
           KeysRoom(keys, row) + KeysRoom(index_keys, row);
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
  Keys index_keys;
  double lse = 0;  // of the scores
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
  float* const room = out.scratch + in.product_floats();
  const Keys keys =
      KeysOf(kernels, in.keys, out.rows, out.count, Scaled::kYes, room);
  out.index_keys = KeysOf(kernels, in.index_keys, out.rows, out.count,
                          Scaled::kYes, room + KeysRoom(in.keys, in.row));
  ProductsWithKeys(kernels, keys.strip, keys.rows, out.count,
                   {.a = in.q.row(n, 0),
                    .a_row = in.q.group_stride,
                    .m = heads,
                    .dims = in.q.columns,
                    .out = out.attention,
                    .out_row = in.row},
                   {}, out.scratch);
  ProductsWithKeys(kernels, out.index_keys.strip, out.index_keys.rows,
                   out.count,
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

// What the codes of index_q stand for, in `room`: the products of FP8 keys are
// of these and not of codes here, which gives the same sums, and their scales
// are in the gradients.
GroupedRows<float> CpuBackend::QuantisedRows(const GroupedRows<float>& q,
                                             float* room) {
  const int64_t dims = q.columns;
  const GroupedRows<float> to = {room, q.rows,          q.groups,
                                 dims, q.groups * dims, dims};
  pool_.ParallelFor(
      q.rows, RowGrain(q.groups * dims), [&](int, int64_t begin, int64_t end) {
        for (int64_t i = begin * q.groups; i < end * q.groups; ++i) {
          float* const row = to.row(i / q.groups, i % q.groups);
          const float scale =
              tier_.quantise(q.row(i / q.groups, i % q.groups), 0, row, dims);
          tier_.scale(scale, row, dims);
          if (std::isnan(scale)) SetFault(DeviceFault::kNumbers);
        }
      });
  return to;
}

void CpuBackend::IndexerKl(const IndexerKlArgs& args) {
  KlOperands in(args);
  if (in.index_keys.paged) {
    in.index_q =
        QuantisedRows(in.index_q, SharedScratch(args.index_q.elements()));
  }
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
  SumKeys(kernels, row.index_keys.strip, row.index_keys.rows, row.count,
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
  KlOperands in(args);
  const float* dout = AsVector<float>(args.dkl, in.q.rows);
  const auto dquery = AsGroupedRows<float>(args.dindex_q);
  const auto dweight = AsRows<float>(args.dindex_w);
  const auto dkey = AsRows<float>(args.dindex_keys);
  const int64_t heads = in.index_q.groups;
  const bool narrow = in.index_keys.in_pairs();
  // One query's record: the products' gradients, the args.keys' rows, their
  // count.
  const int64_t record = (heads + 1) * in.row + 16;
  const int64_t chunk = std::clamp<int64_t>(kBackwardFloats / record, 1,
                                            std::max<int64_t>(in.q.rows, 1));
  const int64_t quantised = in.index_keys.paged ? args.index_q.elements() : 0;
  float* records = SharedScratch(chunk * record + quantised);
  if (quantised > 0) {
    in.index_q = QuantisedRows(in.index_q, records + chunk * record);
  }
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
