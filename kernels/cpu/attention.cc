// MLA in its absorbed form: the key of a token is [latent C | rope R], its
// value the latent (DeepSeek-V3.2 paper, figure 7). Softmax in two passes over
// the scores of one query, which fit in cache.

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/base/log.h"
#include "kernels/cpu/attention_tier.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/key_rows.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/softmax_log.h"

namespace temper {
namespace {

// Floats that the probabilities kept between the backward's two phases may
// take: a chunk stays within the second level caches' reach.
constexpr int64_t kBackwardFloats = int64_t{1} << 20;

// The operands of SparseMla and its backward, checked.
struct Mla {
  Mla(const Tensor& q_in, const Tensor& keys_in, const KeyMap& map_in,
      const Tensor& selected_in, const Tensor& z_in, const Tensor& lse_in)
      : q(AsGroupedRows<float>(q_in)),
        keys(AsRows<float>(keys_in)),
        map(map_in, q.rows, keys.rows),
        selected(AsRows<int32_t>(selected_in)),
        z(AsGroupedRows<float>(z_in)),
        lse(AsRows<float>(lse_in)),
        top_k(selected.columns),
        row(RoundUp16(selected.columns)) {
    CHECK_EQ(keys.columns, q.columns);
    CHECK_EQ(selected.rows, q.rows);
    CHECK(z.rows == q.rows && z.groups == q.groups && z.columns <= q.columns)
        << z_in.DebugString() << " for q " << q_in.DebugString();
    CHECK(lse.rows == q.rows && lse.columns == q.groups)
        << lse_in.DebugString() << " for q " << q_in.DebugString();
  }

  int64_t transposed_floats() const { return kKeyBlock * q.columns; }

  GroupedRows<float> q;
  Rows<float> keys;
  KeyRows map;
  Rows<int32_t> selected;
  GroupedRows<float> z;
  Rows<float> lse;
  int64_t top_k;
  int64_t row;  // floats between heads' scores in scratch
};

}  // namespace

void CpuBackend::SparseMla(const Tensor& q, const Tensor& keys,
                           const KeyMap& map, const Tensor& selected,
                           float scale, const Tensor& z, const Tensor& lse) {
  const Mla mla(q, keys, map, selected, z, lse);
  const AttentionTier& tier = AttentionTierOf(tier_);
  const int64_t heads = mla.q.groups;
  ForEachQuery(&pool_, mla.q.rows, [&](int thread, int64_t n) {
    float* scores =
        Scratch(thread, heads * mla.row + mla.row + mla.transposed_floats());
    int32_t* rows = reinterpret_cast<int32_t*>(scores + heads * mla.row);
    float* transposed = scores + heads * mla.row + mla.row;
    const int64_t count =
        mla.map.Selected(n, mla.selected.row(n), mla.top_k, rows);
    ProductsWithKeys(tier, mla.keys, rows, count,
                     {.a = mla.q.row(n, 0),
                      .a_row = mla.q.group_stride,
                      .m = heads,
                      .dims = mla.q.columns,
                      .out = scores,
                      .out_row = mla.row},
                     {}, transposed);
    for (int64_t h = 0; h < heads; ++h) {
      float* s = scores + h * mla.row;
      tier_.scale(scale, s, count);
      const float largest = tier_.max(s, count);
      const float sum = tier_.exp_sum(s, largest, s, count);
      mla.lse.row(n)[h] =
          count == 0 ? -std::numeric_limits<float>::infinity()
                     : static_cast<float>(largest + SoftmaxLog(double{sum}));
      tier_.scale(count == 0 ? 0.0f : 1.0f / sum, s, count);
    }
    tier.rows_product({.a = scores,
                       .a_row = mla.row,
                       .b = mla.keys.data,
                       .b_row = mla.keys.stride,
                       .b_index = rows,
                       .y = mla.z.row(n, 0),
                       .y_row = mla.z.group_stride,
                       .m = heads,
                       .k = count,
                       .n = mla.z.columns});
  });
}

// Per query: P = exp(S - lse), dS = scale P (dP - z . dz) with dP = dz . k.
// Queries are independent in the first phase; in the second each thread owns
// columns of dkeys and walks the queries in order, so nothing is atomic.
void CpuBackend::SparseMlaBackward(const Tensor& q, const Tensor& keys,
                                   const KeyMap& map, const Tensor& selected,
                                   float scale, const Tensor& z,
                                   const Tensor& lse, const Tensor& dz,
                                   const Tensor& dq, const Tensor& dkeys) {
  const Mla mla(q, keys, map, selected, z, lse);
  const AttentionTier& tier = AttentionTierOf(tier_);
  const GroupedRows<float> dout = AsGroupedRows<float>(dz);
  const GroupedRows<float> dquery = AsGroupedRows<float>(dq);
  const Rows<float> dkey = AsRows<float>(dkeys);
  CHECK(dout.rows == mla.z.rows && dout.groups == mla.z.groups &&
        dout.columns == mla.z.columns)
      << dz.DebugString();
  CHECK(dquery.rows == mla.q.rows && dquery.groups == mla.q.groups &&
        dquery.columns == mla.q.columns)
      << dq.DebugString();
  CHECK(dkey.rows == mla.keys.rows && dkey.columns == mla.keys.columns)
      << dkeys.DebugString();
  const int64_t heads = mla.q.groups;
  const int64_t latent = mla.z.columns;
  // One query's record: P, dS, the rows of its keys, their count.
  const int64_t record = 2 * heads * mla.row + mla.row + 16;
  const int64_t chunk = std::clamp<int64_t>(kBackwardFloats / record, 1,
                                            std::max<int64_t>(mla.q.rows, 1));
  float* records = SharedScratch(chunk * record);
  const auto rows_of = [&](float* at) {
    return reinterpret_cast<int32_t*>(at + 2 * heads * mla.row);
  };

  for (int64_t first = 0; first < mla.q.rows; first += chunk) {
    const int64_t queries = std::min(chunk, mla.q.rows - first);
    ForEachQuery(&pool_, queries, [&](int thread, int64_t i) {
      const int64_t n = first + i;
      float* p = records + i * record;
      float* ds = p + heads * mla.row;
      int32_t* rows = rows_of(p);
      const int64_t count =
          mla.map.Selected(n, mla.selected.row(n), mla.top_k, rows);
      rows[mla.row] = static_cast<int32_t>(count);
      ProductsWithKeys(tier, mla.keys, rows, count,
                       {.a = mla.q.row(n, 0),
                        .a_row = mla.q.group_stride,
                        .m = heads,
                        .dims = mla.q.columns,
                        .out = p,
                        .out_row = mla.row},
                       {.a = dout.row(n, 0),
                        .a_row = dout.group_stride,
                        .m = heads,
                        .dims = latent,
                        .out = ds,
                        .out_row = mla.row},
                       Scratch(thread, mla.transposed_floats()));
      for (int64_t h = 0; h < heads; ++h) {
        float* ph = p + h * mla.row;
        float* dsh = ds + h * mla.row;
        tier_.scale(scale, ph, count);
        tier_.exp(ph, mla.lse.row(n)[h], ph, count);
        const float delta = tier_.dot(mla.z.row(n, h), dout.row(n, h), latent);
        for (int64_t j = 0; j < count; ++j) {
          dsh[j] = ph[j] * (dsh[j] - delta) * scale;
        }
      }
      tier.rows_product({.a = ds,
                         .a_row = mla.row,
                         .b = mla.keys.data,
                         .b_row = mla.keys.stride,
                         .b_index = rows,
                         .y = dquery.row(n, 0),
                         .y_row = dquery.group_stride,
                         .m = heads,
                         .k = count,
                         .n = mla.q.columns});
    });
    pool_.ParallelFor(dkey.columns, 8, [&](int, int64_t begin, int64_t end) {
      for (int64_t i = 0; i < queries; ++i) {
        float* p = records + i * record;
        const int32_t* rows = rows_of(p);
        RowsProduct product = {.a = p + heads * mla.row,
                               .a_row = 1,
                               .a_col = mla.row,
                               .b = mla.q.row(first + i, 0) + begin,
                               .b_row = mla.q.group_stride,
                               .y = dkey.data + begin,
                               .y_row = dkey.stride,
                               .y_index = rows,
                               .m = rows[mla.row],
                               .k = heads,
                               .n = end - begin,
                               .accumulate = true};
        tier.rows_product(product);
        if (begin >= latent) continue;
        product.a = p;
        product.b = dout.row(first + i, 0) + begin;
        product.b_row = dout.group_stride;
        product.n = std::min(end, latent) - begin;
        tier.rows_product(product);
      }
    });
  }
}

}  // namespace temper
